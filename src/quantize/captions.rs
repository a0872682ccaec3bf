//! Captions to calibrate with, from a file in any of its forms (`captions/forms.rs`), or those that come along.

mod forms;

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::domain::{InvalidRequest, Prompt};
use crate::files;
use crate::model::{EMBEDDED_NAME, hex};

/// Longest file taken: all of Conceptual Captions has 400 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Captions for whatever model has none of its own.
const BUILT_IN: &str = include_str!("captions.txt");
/// Sketchbook's own, by its training's `unseen.py`: of its world, and none of those that it is judged by.
const SKETCHBOOK: &str = include_str!("../../models/sketchbook/calibration.txt");

/// What to draw, and what to keep away from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The prompt.
    pub prompt: Prompt,
    /// The negative prompt, where the file has one.
    pub negative_prompt: Option<Prompt>,
}

/// Why a file of captions cannot be used.
#[derive(Debug, Error)]
pub enum CaptionsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no text.
    #[error("{path} is no text file of captions ({detail}): give one caption a line, JSON lines, or CSV with a column 'caption'", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There is no caption in it.
    #[error("{path} has no caption: give one a line, JSON lines, or CSV with a column 'caption'", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is not in the form of those before it.
    #[error("{path}, line {line}: {detail}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// A caption that no prompt may be.
    #[error("{path}, line {line}: {source}: shorten the caption, or take it out", path = path.display())]
    Caption {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Why.
        source: InvalidRequest,
    },
    /// Fewer captions than pictures.
    #[error("{path} has {found} captions and --samples asks for {wanted}: give more, or ask for --samples {found}", path = path.display())]
    TooFew {
        /// The file.
        path: PathBuf,
        /// How many it has.
        found: usize,
        /// How many are asked for.
        wanted: usize,
    },
}

/// The first `count` captions of a file.
///
/// # Errors
/// When it has fewer, or a line up to there makes no sense.
pub fn read_captions(path: &Path, count: usize) -> Result<Vec<Caption>, CaptionsError> {
    let read = |source| CaptionsError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = match files::read(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(CaptionsError::NotText {
                path: path.to_owned(),
                detail: format!("longer than {} GiB", MAX_BYTES >> 30),
            });
        }
        Err(error) => return Err(read(error)),
    };
    parse_captions(&bytes, path, count)
}

/// The first `count` captions among the `bytes` of the file `path`, whose ending is looked at where its content leaves doubts.
///
/// # Errors
/// When there are fewer, or a line up to there makes no sense.
pub fn parse_captions(
    bytes: &[u8],
    path: &Path,
    count: usize,
) -> Result<Vec<Caption>, CaptionsError> {
    let text = text_of(bytes).map_err(|detail| CaptionsError::NotText {
        path: path.to_owned(),
        detail,
    })?;
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let captions = forms::parse(text, &ending, count).map_err(|fault| fault.in_file(path))?;
    if captions.is_empty() {
        return Err(CaptionsError::Empty {
            path: path.to_owned(),
        });
    }
    if captions.len() < count {
        return Err(CaptionsError::TooFew {
            path: path.to_owned(),
            found: captions.len(),
            wanted: count,
        });
    }
    Ok(captions)
}

/// Bytes as text, without the mark that some programs put in front of it; or why they are none.
fn text_of(bytes: &[u8]) -> Result<&str, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16, not UTF-8: save it as UTF-8".to_owned());
    }
    let line_at = |at: usize| bytes[..at].split(|&byte| byte == b'\n').count();
    let text = str::from_utf8(bytes)
        .map_err(|error| format!("line {} is not UTF-8", line_at(error.valid_up_to())))?;
    let strange = |letter: char| letter < ' ' && !['\t', '\n', '\r', '\x0c'].contains(&letter);
    if let Some((at, letter)) = text.char_indices().find(|&(_, letter)| strange(letter)) {
        return Err(format!(
            "line {} has the control character U+{:04X}",
            line_at(at),
            u32::from(letter)
        ));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The first `count` of the captions that come along for a model that was made from `source`, as its manifest has it; they begin
/// again where more are asked for than there are.
pub fn built_in_captions(source: &str, count: usize) -> Vec<Caption> {
    let list = if source.starts_with(EMBEDDED_NAME) {
        SKETCHBOOK
    } else {
        BUILT_IN
    };
    let captions: Vec<Caption> = list
        .lines()
        .filter_map(|line| {
            Some(Caption {
                prompt: Prompt::new(line).ok()?,
                negative_prompt: None,
            })
        })
        .collect();
    captions.into_iter().cycle().take(count).collect()
}

/// One digest for captions in their order.
pub fn captions_digest(captions: &[Caption]) -> String {
    let mut digest = Sha256::new();
    for caption in captions {
        let negative = caption.negative_prompt.as_ref().map_or("", Prompt::as_str);
        for text in [caption.prompt.as_str(), negative] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use std::fs;

    use super::*;
    use proptest::prelude::*;

    fn refusal(bytes: &[u8], count: usize) -> String {
        parse_captions(bytes, Path::new("captions"), count)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn files_without_captions_are_refused_with_what_would_do() {
        for (bytes, part) in [
            (b"".as_slice(), "has no caption"),
            (b"\xef\xbb\xbf\n \n", "has no caption"),
            (b"\xff\xd8\xff\xe0", "line 1 is not UTF-8"),
            (b"a fox\nW\xf6lfe", "line 2 is not UTF-8"),
            (b"\xff\xfea\0 \0f\0", "save it as UTF-8"),
            (b"a fox\0", "line 1 has the control character U+0000"),
            (
                b"a fox\na\x1b[31m",
                "line 2 has the control character U+001B",
            ),
            (b"a fox\na dog", "ask for --samples 2"),
        ] {
            let refusal = refusal(bytes, 3);
            assert!(refusal.contains(part), "{refusal}");
        }
        let long = "x".repeat(1_000_000);
        let refusal = refusal(long.as_bytes(), 1);
        assert!(
            refusal.contains("line 1") && refusal.contains("shorten"),
            "{refusal}"
        );
    }

    #[test]
    fn a_file_is_read_from_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.txt");
        let refusal = read_captions(&path, 1).unwrap_err();
        assert!(matches!(refusal, CaptionsError::Read { .. }));
        fs::write(&path, "a fox\na dog\n").unwrap();
        let captions = read_captions(&path, 1).unwrap();
        assert_eq!(captions.len(), 1);
        assert_eq!(captions[0].prompt.as_str(), "a fox");
    }

    #[test]
    fn built_in_captions_go_round() {
        let captions = built_in_captions("PixArt-XL-2-1024-MS", 500);
        let lines = BUILT_IN.lines().count();
        assert_eq!(captions.len(), 500);
        assert_ne!(captions[lines - 1], captions[0]);
        assert_eq!(captions[lines], captions[0]);
    }

    #[test]
    fn sketchbooks_own_captions_are_none_of_those_that_judge_it() {
        let own = built_in_captions("sketchbook", 100);
        assert_eq!(own, built_in_captions("sketchbook-teacher", 100));
        let own: BTreeSet<String> = own
            .iter()
            .map(|caption| caption.prompt.as_str().to_lowercase())
            .collect();
        assert_eq!(own.len(), 100);
        for file in ["captions.jsonl", "open.jsonl"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sketchbook/score");
            for caption in read_captions(&path.join(file), 100).unwrap() {
                let caption = caption.prompt.as_str().to_lowercase();
                let plain = caption.trim_end_matches('.');
                assert!(!own.iter().any(|own| own.trim_end_matches('.') == plain));
            }
        }
    }

    #[test]
    fn another_order_or_another_negative_prompt_is_another_digest() {
        let of = |text: &str| {
            captions_digest(&parse_captions(text.as_bytes(), Path::new(""), 1).unwrap())
        };
        let one = of("{\"caption\": \"a fox\"}");
        assert_eq!(one, of("a fox"));
        assert_ne!(one, of("a foxx"));
        assert_ne!(
            one,
            of("{\"caption\": \"a fox\", \"negative_prompt\": \"x\"}")
        );
    }

    /// Files that nearly have a form.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"a fox",
            b"caption",
            b"negative_prompt",
            b"http://a.b/c",
            b"{\"caption\": \"a\"}",
            b"{\"prompt\": ",
            b"[",
            b"\"",
            b",",
            b";",
            b"\t",
            b" ",
            b"\n",
            b"\r\n",
            b"\r",
            "é".as_bytes(),
            "\u{feff}".as_bytes(),
            b"\xff",
        ];
        let piece = proptest::sample::select(pieces);
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_captions_or_a_refusal(
            bytes in prop_oneof![
                3 => nearly(),
                1 => proptest::collection::vec(any::<u8>(), 0..200),
            ],
            name in prop_oneof![Just("a.txt"), Just("a.csv"), Just("a.TSV"), Just("a.jsonl"), Just("a")],
            count in 1_usize..4,
        ) {
            match parse_captions(&bytes, Path::new(name), count) {
                Ok(captions) => {
                    prop_assert_eq!(captions.len(), count);
                    for caption in captions {
                        let prompt = caption.prompt.as_str();
                        prop_assert!(!prompt.is_empty() && prompt == prompt.trim());
                    }
                }
                Err(refusal) => prop_assert!(refusal.to_string().starts_with(name)),
            }
        }
    }
}
