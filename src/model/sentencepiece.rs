//! `spiece.model`: the vocabulary and normaliser of a T5 checkpoint, parsed with checks.
//!
//! The file is a protobuf (`ModelProto` of sentencepiece 0.2.1 `sentencepiece_model.proto`); only the fields that an encoder needs are
//! declared here. It encodes nothing: `pipeline::tokenizer` does.
//! Invariants of a [`SentencePieceModel`]: it is a Unigram model; pieces are unique, not empty and at most
//! [`SentencePieceModel::MAX_PIECE_BYTES`] long, their scores finite; there is one unknown piece and a control piece `</s>`; the
//! character map cannot lead outside itself.

use std::collections::HashSet;

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use thiserror::Error;

use super::charsmap::{Charsmap, CharsmapError};

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Stands for text.
    Normal,
    /// Stands for text that no piece covers.
    Unknown,
    /// `</s>`, `<pad>`: marks that text cannot spell.
    Control,
    /// Sentinels such as `<extra_id_0>`.
    UserDefined,
    /// Never used by the encoder.
    Unused,
    /// One byte of a byte fallback.
    Byte,
}

/// One entry of the vocabulary; its id is its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The text, with `▁` for a space.
    pub text: String,
    /// Logarithm of its probability.
    pub score: f32,
    /// What it is for.
    pub kind: PieceKind,
}

/// A checked Unigram vocabulary with its normaliser.
#[derive(Debug, Clone, PartialEq)]
pub struct SentencePieceModel {
    pieces: Vec<Piece>,
    eos_id: usize,
    unk_id: usize,
    charsmap: Option<Charsmap>,
}

/// Why a `spiece.model` cannot be used.
#[derive(Debug, Error)]
pub enum SentencePieceError {
    /// Far more bytes than any vocabulary has.
    #[error("spiece.model has {got} bytes and the limit is {limit}: it is not a T5 vocabulary")]
    TooLarge {
        /// Bytes found.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The text that stands for a large file in a checkout without Git LFS.
    #[error(
        "spiece.model is a Git LFS pointer and not the file itself: run `git lfs pull`, or download the file"
    )]
    LfsPointer,
    /// Bytes that are not this protobuf.
    #[error("spiece.model is not a sentencepiece model: download it again")]
    NotSentencePiece(#[source] prost::DecodeError),
    /// A protobuf without a vocabulary.
    #[error("spiece.model has no pieces: download it again")]
    NoPieces,
    /// Far more pieces than any vocabulary has.
    #[error("spiece.model has more than {limit} pieces: it is not a T5 vocabulary")]
    TooManyPieces {
        /// Pieces allowed.
        limit: usize,
    },
    /// BPE, word or character models.
    #[error(
        "spiece.model is of sentencepiece type {got} and T5 reads type 1 (unigram): take the tokenizer of the checkpoint itself"
    )]
    NotUnigram {
        /// `TrainerSpec.ModelType` found.
        got: i32,
    },
    /// A setting that T5's own vocabularies never have.
    #[error(
        "spiece.model has {setting} and T5 has not: take the tokenizer of the checkpoint itself"
    )]
    UnsupportedSetting {
        /// The protobuf field with its value.
        setting: &'static str,
    },
    /// A piece that no encoder can use.
    #[error("spiece.model piece {id} {problem}: the file is damaged, download it again")]
    BadPiece {
        /// Its id.
        id: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No mark for the end of a text.
    #[error("spiece.model has no control piece </s>: take the tokenizer of the checkpoint itself")]
    NoEndOfText,
    /// No piece for unknown text, or several.
    #[error("spiece.model has {got} unknown pieces and must have one (<unk>)")]
    UnknownPieces {
        /// How many were found.
        got: usize,
    },
    /// The normaliser's map is damaged.
    #[error("spiece.model has a damaged character map: download it again")]
    Charsmap(#[from] CharsmapError),
}

impl SentencePieceModel {
    /// Eighty times the size of T5's own file.
    pub const MAX_BYTES: usize = 64 << 20;
    /// Thirty times as many as T5 has.
    pub const MAX_PIECES: usize = 1 << 20;
    /// Sentencepiece's trainer makes pieces of at most 16 characters by default.
    pub const MAX_PIECE_BYTES: usize = 256;

    /// Parses and checks the bytes of a `spiece.model`.
    ///
    /// # Errors
    /// When the bytes are not a sentencepiece Unigram model of T5's making, or are damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, SentencePieceError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(SentencePieceError::TooLarge {
                got: bytes.len(),
                limit: Self::MAX_BYTES,
            });
        }
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(SentencePieceError::LfsPointer);
        }
        check_piece_count(bytes)?;
        let proto = proto::Model::decode(bytes).map_err(SentencePieceError::NotSentencePiece)?;
        check_settings(&proto)?;
        let pieces = check_pieces(proto.pieces)?;

        let eos_id = pieces
            .iter()
            .position(|piece| piece.kind == PieceKind::Control && piece.text == "</s>")
            .ok_or(SentencePieceError::NoEndOfText)?;
        let mut unknown = (0..pieces.len()).filter(|&id| pieces[id].kind == PieceKind::Unknown);
        let (Some(unk_id), None) = (unknown.next(), unknown.next()) else {
            let got = pieces
                .iter()
                .filter(|piece| piece.kind == PieceKind::Unknown)
                .count();
            return Err(SentencePieceError::UnknownPieces { got });
        };
        let charsmap = proto
            .normalizer_spec
            .and_then(|spec| spec.precompiled_charsmap)
            .filter(|map| !map.is_empty())
            .map(|map| Charsmap::parse(&map))
            .transpose()?;
        Ok(Self {
            pieces,
            eos_id,
            unk_id,
            charsmap,
        })
    }

    /// The vocabulary in the order of ids.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Id of `</s>`.
    pub fn eos_id(&self) -> usize {
        self.eos_id
    }

    /// Id of the unknown piece.
    pub fn unk_id(&self) -> usize {
        self.unk_id
    }

    /// The normaliser's character map; none leaves text as it is.
    pub fn charsmap(&self) -> Option<&Charsmap> {
        self.charsmap.as_ref()
    }
}

/// Two bytes of file can make forty of memory, so pieces are counted before they are read.
fn check_piece_count(bytes: &[u8]) -> Result<(), SentencePieceError> {
    let mut rest = bytes;
    let mut pieces = 0;
    while !rest.is_empty() {
        let (tag, wire_type) =
            decode_key(&mut rest).map_err(SentencePieceError::NotSentencePiece)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())
            .map_err(SentencePieceError::NotSentencePiece)?;
        pieces += usize::from(tag == proto::PIECES_TAG);
        if pieces > SentencePieceModel::MAX_PIECES {
            return Err(SentencePieceError::TooManyPieces {
                limit: SentencePieceModel::MAX_PIECES,
            });
        }
    }
    if pieces == 0 {
        return Err(SentencePieceError::NoPieces);
    }
    Ok(())
}

/// What transformers' T5Tokenizer takes for granted and a file could contradict.
fn check_settings(proto: &proto::Model) -> Result<(), SentencePieceError> {
    let refuse = |setting| Err(SentencePieceError::UnsupportedSetting { setting });
    if let Some(trainer) = &proto.trainer_spec {
        if let Some(got) = trainer.model_type.filter(|&kind| kind != proto::UNIGRAM) {
            return Err(SentencePieceError::NotUnigram { got });
        }
        if trainer.byte_fallback == Some(true) {
            return refuse("byte_fallback = true");
        }
    }
    if let Some(normalizer) = &proto.normalizer_spec {
        if normalizer.add_dummy_prefix == Some(false) {
            return refuse("add_dummy_prefix = false");
        }
        if normalizer.remove_extra_whitespaces == Some(false) {
            return refuse("remove_extra_whitespaces = false");
        }
        if normalizer.escape_whitespaces == Some(false) {
            return refuse("escape_whitespaces = false");
        }
    }
    Ok(())
}

fn check_pieces(pieces: Vec<proto::Piece>) -> Result<Vec<Piece>, SentencePieceError> {
    let mut seen = HashSet::with_capacity(pieces.len());
    for (id, piece) in pieces.iter().enumerate() {
        let text = piece.text.as_deref().unwrap_or_default();
        let problem = if text.is_empty() {
            "is empty"
        } else if text.len() > SentencePieceModel::MAX_PIECE_BYTES {
            "is longer than 256 bytes"
        } else if !piece.score.unwrap_or_default().is_finite() {
            "has a score that is not a number"
        } else if kind(piece.kind).is_none() {
            "is of an unknown type"
        } else if !seen.insert(text) {
            "is there twice"
        } else {
            continue;
        };
        return Err(SentencePieceError::BadPiece { id, problem });
    }
    Ok(pieces
        .into_iter()
        .map(|piece| Piece {
            text: piece.text.unwrap_or_default(),
            score: piece.score.unwrap_or_default(),
            kind: kind(piece.kind).unwrap_or(PieceKind::Unused),
        })
        .collect())
}

fn kind(number: Option<i32>) -> Option<PieceKind> {
    match number.unwrap_or(1) {
        1 => Some(PieceKind::Normal),
        2 => Some(PieceKind::Unknown),
        3 => Some(PieceKind::Control),
        4 => Some(PieceKind::UserDefined),
        5 => Some(PieceKind::Unused),
        6 => Some(PieceKind::Byte),
        _ => None,
    }
}

/// The fields of `sentencepiece_model.proto` that matter here, with its tags; the others are skipped.
mod proto {
    /// `ModelProto.pieces`.
    pub(super) const PIECES_TAG: u32 = 1;
    /// `TrainerSpec.ModelType.UNIGRAM`, also its default.
    pub(super) const UNIGRAM: i32 = 1;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Model {
        #[prost(message, repeated, tag = "1")]
        pub pieces: Vec<Piece>,
        #[prost(message, optional, tag = "2")]
        pub trainer_spec: Option<TrainerSpec>,
        #[prost(message, optional, tag = "3")]
        pub normalizer_spec: Option<NormalizerSpec>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Piece {
        #[prost(string, optional, tag = "1")]
        pub text: Option<String>,
        #[prost(float, optional, tag = "2")]
        pub score: Option<f32>,
        #[prost(int32, optional, tag = "3")]
        pub kind: Option<i32>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct TrainerSpec {
        #[prost(int32, optional, tag = "3")]
        pub model_type: Option<i32>,
        #[prost(bool, optional, tag = "35")]
        pub byte_fallback: Option<bool>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct NormalizerSpec {
        #[prost(bytes = "vec", optional, tag = "2")]
        pub precompiled_charsmap: Option<Vec<u8>>,
        #[prost(bool, optional, tag = "3")]
        pub add_dummy_prefix: Option<bool>,
        #[prost(bool, optional, tag = "4")]
        pub remove_extra_whitespaces: Option<bool>,
        #[prost(bool, optional, tag = "5")]
        pub escape_whitespaces: Option<bool>,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SKETCHBOOK: &[u8] = include_bytes!("../../models/sketchbook/tokenizer/spiece.model");

    fn piece(text: &str, score: f32, kind: i32) -> proto::Piece {
        proto::Piece {
            text: Some(text.to_owned()),
            score: Some(score),
            kind: Some(kind),
        }
    }

    fn small() -> proto::Model {
        proto::Model {
            pieces: vec![
                piece("<pad>", 0.0, 3),
                piece("</s>", 0.0, 3),
                piece("<unk>", 0.0, 2),
                piece("▁a", -1.5, 1),
            ],
            trainer_spec: None,
            normalizer_spec: None,
        }
    }

    fn refusal(proto: &proto::Model) -> String {
        SentencePieceModel::parse(&proto.encode_to_vec())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_sketchbook_vocabulary_is_read() {
        let model = SentencePieceModel::parse(SKETCHBOOK).unwrap();
        assert_eq!(model.pieces()[model.eos_id()].text, "</s>");
        assert_eq!(model.pieces()[model.unk_id()].text, "<unk>");
        assert!(model.charsmap().is_some());
        assert!(model.pieces().len() > 100);
    }

    #[test]
    fn a_piece_without_end_of_text_or_unknown_is_refused() {
        let mut proto = small();
        proto.pieces[1].kind = Some(1);
        assert!(refusal(&proto).contains("</s>"));
        let mut proto = small();
        proto.pieces[2].kind = Some(1);
        assert!(refusal(&proto).contains("0 unknown pieces"));
        proto.pieces[0].kind = Some(2);
        proto.pieces[2].kind = Some(2);
        assert!(refusal(&proto).contains("2 unknown pieces"));
    }

    #[test]
    fn damaged_pieces_are_refused_by_their_id() {
        for (bad, words) in [
            (piece("", 0.0, 1), "piece 3 is empty"),
            (piece("▁a", f32::NAN, 1), "piece 3 has a score"),
            (piece("▁a", f32::INFINITY, 1), "piece 3 has a score"),
            (piece("<pad>", 0.0, 1), "piece 3 is there twice"),
            (piece("▁a", 0.0, 9), "piece 3 is of an unknown type"),
            (piece(&"a".repeat(257), 0.0, 1), "piece 3 is longer"),
        ] {
            let mut proto = small();
            proto.pieces[3] = bad;
            assert!(refusal(&proto).contains(words), "{}", refusal(&proto));
        }
    }

    #[test]
    fn other_kinds_of_models_are_refused() {
        let mut proto = small();
        proto.trainer_spec = Some(proto::TrainerSpec {
            model_type: Some(2),
            byte_fallback: None,
        });
        assert!(refusal(&proto).contains("type 2"));
        let mut proto = small();
        proto.normalizer_spec = Some(proto::NormalizerSpec {
            precompiled_charsmap: Some(vec![9; 9]),
            ..Default::default()
        });
        assert!(refusal(&proto).contains("character map"));
        assert!(refusal(&proto::Model::default()).contains("no pieces"));
    }

    #[test]
    fn files_that_are_something_else_are_refused() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        assert!(matches!(
            SentencePieceModel::parse(pointer),
            Err(SentencePieceError::LfsPointer)
        ));
        assert!(matches!(
            SentencePieceModel::parse(b"<!doctype html>"),
            Err(SentencePieceError::NotSentencePiece(_))
        ));
        assert!(matches!(
            SentencePieceModel::parse(&vec![0; SentencePieceModel::MAX_BYTES + 1]),
            Err(SentencePieceError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_flood_of_empty_pieces_is_refused_before_it_takes_memory() {
        let flood = [0x0A, 0x00].repeat(SentencePieceModel::MAX_PIECES + 1);
        assert!(matches!(
            SentencePieceModel::parse(&flood),
            Err(SentencePieceError::TooManyPieces { .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = SentencePieceModel::parse(&bytes);
        }

        #[test]
        fn a_damaged_vocabulary_never_panics(at in 0..SKETCHBOOK.len(), byte in any::<u8>()) {
            let mut bytes = SKETCHBOOK.to_vec();
            bytes[at] = byte;
            let _ = SentencePieceModel::parse(&bytes);
        }

        #[test]
        fn what_was_written_is_read(texts in prop::collection::hash_set("[a-zé▁]{1,8}", 0..20), score in -20.0f32..0.0) {
            let mut proto = small();
            proto.pieces.pop();
            proto.pieces.extend(texts.iter().map(|text| piece(text, score, 1)));
            let model = SentencePieceModel::parse(&proto.encode_to_vec()).unwrap();
            prop_assert_eq!((model.eos_id(), model.unk_id()), (1, 2));
            let read: Vec<&str> = model.pieces()[3..].iter().map(|piece| piece.text.as_str()).collect();
            let written: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(read, written);
            prop_assert!(model.pieces()[3..].iter().all(|piece| piece.score.to_bits() == score.to_bits()));
        }
    }
}
