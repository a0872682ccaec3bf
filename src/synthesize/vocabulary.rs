//! `spiece.model` at the size of T5's: sketchbook's pieces, and behind them pieces that no text contains.

use prost::Message;

use super::SynthesizeError;
use crate::model::{ModelDirectory, SentencePieceModel, embedded_file};

/// Rows of the text encoder's table that no piece stands for: the sentinels, and what makes the number a multiple of 128.
pub(super) const NO_PIECES: usize = 128;
/// `<extra_id_0>`, …, with ids that go down to the last piece's.
pub(super) const SENTINELS: usize = 100;
/// A character for private use: nobody's prompt has it.
const UNSPOKEN: char = '\u{e000}';

/// `ModelProto` of sentencepiece 0.2.1, as far as pieces are added to it.
#[derive(Clone, PartialEq, Message)]
struct MorePieces {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
}

/// `ModelProto.SentencePiece`; its type is left at NORMAL.
#[derive(Clone, PartialEq, Message)]
struct PieceProto {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
}

/// The file for a text encoder with a table of `vocab_size` rows. Ids are T5's: padding 0, `</s>` 1, unknown 2.
pub(super) fn spiece_model(vocab_size: usize) -> Result<Vec<u8>, SynthesizeError> {
    let mut bytes = embedded_file(ModelDirectory::SENTENCEPIECE)
        .ok_or(SynthesizeError::NoVocabulary)?
        .to_vec();
    let model = SentencePieceModel::parse(&bytes).expect("the embedded vocabulary is whole");
    let there = model.pieces().len();
    let wanted = vocab_size
        .checked_sub(NO_PIECES)
        .filter(|&wanted| wanted >= there)
        .ok_or(SynthesizeError::VocabularyTooSmall {
            got: vocab_size,
            least: there + NO_PIECES,
        })?;
    // Text that no piece covers costs more than the least likely piece: which one that is stays as it was.
    let scores = model.pieces().iter().map(|piece| piece.score);
    let least = scores.fold(0.0, f32::min);
    let pieces = (there..wanted)
        .map(|id| PieceProto {
            text: Some(format!("{UNSPOKEN}{id}")),
            score: Some(least),
        })
        .collect();
    // A repeated field of a protobuf may come in several parts, one after the other.
    bytes.extend(MorePieces { pieces }.encode_to_vec());
    Ok(bytes)
}

#[cfg(feature = "embedded-model")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_has_t5s_size_and_ids_and_sketchbooks_pieces() {
        let bytes = spiece_model(32_128).unwrap();
        let model = SentencePieceModel::parse(&bytes).unwrap();
        assert_eq!(model.pieces().len(), 32_000);
        assert_eq!(model.pieces()[0].text, "<pad>");
        assert_eq!((model.eos_id(), model.unk_id()), (1, 2));
        let embedded = embedded_file(ModelDirectory::SENTENCEPIECE).unwrap();
        let sketchbook = SentencePieceModel::parse(embedded).unwrap();
        let there = sketchbook.pieces().len();
        assert_eq!(model.pieces()[..there], *sketchbook.pieces());
        assert_eq!(model.charsmap(), sketchbook.charsmap());
    }

    #[test]
    fn a_table_without_room_for_the_pieces_is_refused() {
        let error = spiece_model(200).unwrap_err();
        assert!(error.to_string().contains("200"), "{error}");
    }
}
