//! Whether sketchbook's pictures show what their captions say: 500 captions of its world, what they state, and a small network
//! that was taught to read pictures of that world.

mod reading;

use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::EngineError;
use crate::files;
pub use reading::{Reader, Reading};

/// Longest file of captions taken; the 500 that come along have 100 KB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// One subject, as a caption states it or as it was read. What is not said is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    /// What it is, such as `cactus`.
    pub object: Option<String>,
    /// Its colour.
    pub colour: Option<String>,
    /// The mood of its face; `none` where it has none.
    pub mood: Option<String>,
}

/// A caption and what it states, subjects from left to right.
#[derive(Debug, Clone, Deserialize)]
pub struct Captioned {
    /// What is drawn.
    pub caption: String,
    /// One to three.
    pub subjects: Vec<Subject>,
    /// Where.
    pub place: Option<String>,
    /// When.
    pub time: Option<String>,
}

/// For each property whether the picture shows what the caption states; `None` where it states nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How many subjects.
    pub count: Option<bool>,
    /// What they are.
    pub object: Option<bool>,
    /// Their colours.
    pub colour: Option<bool>,
    /// Their moods.
    pub mood: Option<bool>,
    /// Where.
    pub place: Option<bool>,
    /// When.
    pub time: Option<bool>,
}

/// How many of the captions that state a property were followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// Followed.
    pub right: usize,
    /// Stated.
    pub of: usize,
}

/// How far captions were followed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Score {
    /// What was drawn.
    pub object: Share,
    /// Colours.
    pub colour: Share,
    /// Where.
    pub place: Share,
    /// Object, colour and place, as far as they are stated.
    pub all_three: Share,
    /// When.
    pub time: Share,
    /// How many.
    pub count: Share,
    /// Moods.
    pub mood: Share,
}

/// Why pictures cannot be scored.
#[derive(Debug, Error)]
pub enum ScoreError {
    /// Another model than sketchbook.
    #[error(
        "{source_name} is not sketchbook: captions and reader of the score are of its world alone"
    )]
    OtherWorld {
        /// What the model was made from.
        source_name: String,
    },
    /// Built without the embedded model, which the reader belongs to.
    #[error(
        "this binary was built without its embedded model, whose captions and reader these are"
    )]
    NotEmbedded,
    /// A file of captions that cannot be used.
    #[error("{path} cannot be used: {detail}")]
    Captions {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The reader cannot be unpacked.
    #[error("the network that reads pictures needs a temporary folder (TMPDIR names one): {0}")]
    Folder(#[from] std::io::Error),
    /// The reader does not run.
    #[error("the network that reads pictures: {0}")]
    Engine(#[from] EngineError),
    /// The reader is not what its description says.
    #[error("the network that reads pictures is damaged: {0}")]
    Reader(String),
    /// A picture of another size.
    #[error("the score is of pictures of {side}x{side} px, and this model draws {width}x{height}")]
    Size {
        /// Of the pictures that the reader was taught on.
        side: u32,
        /// Found.
        width: u32,
        /// Found.
        height: u32,
    },
}

impl Verdict {
    /// Object, colour and place, as far as they are stated.
    pub fn follows(self) -> bool {
        [self.object, self.colour, self.place]
            .into_iter()
            .flatten()
            .all(|right| right)
    }
}

impl Captioned {
    /// The captions of a JSON-lines file.
    ///
    /// # Errors
    /// When it cannot be read, or a line states nothing that is known.
    pub fn read_all(file: &Path) -> Result<Vec<Self>, ScoreError> {
        let refused = |detail: String| ScoreError::Captions {
            path: file.display().to_string(),
            detail,
        };
        let text =
            files::read_text(file, MAX_FILE_BYTES).map_err(|error| refused(error.to_string()))?;
        Self::parse_all(&text).map_err(refused)
    }

    /// The 500 captions that come along.
    ///
    /// # Errors
    /// When the binary was built without the embedded model.
    pub fn built_in() -> Result<Vec<Self>, ScoreError> {
        let text = reading::captions().ok_or(ScoreError::NotEmbedded)?;
        Self::parse_all(text).map_err(ScoreError::Reader)
    }

    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.lines()
            .enumerate()
            .map(|(i, line)| {
                serde_json::from_str(line).map_err(|error| format!("line {}: {error}", i + 1))
            })
            .collect()
    }

    /// Holds a reading against what the caption states.
    pub fn judge(&self, shown: &Reading) -> Verdict {
        let (first, last) = (self.subjects.first(), self.subjects.last());
        let second = last.filter(|_| self.subjects.len() > 1);
        let of = |property: fn(&Subject) -> &Option<String>| {
            let pairs = [(first, Some(&shown.left)), (second, shown.right.as_ref())];
            let mut stated_ones = pairs
                .into_iter()
                .filter_map(|(stated, shown)| Some((property(stated?).as_ref()?, shown)))
                .peekable();
            stated_ones.peek()?;
            Some(stated_ones.all(|(stated, shown)| {
                shown.and_then(|subject| property(subject).as_ref()) == Some(stated)
            }))
        };
        let told = |stated: &Option<String>, shown: &str| stated.as_ref().map(|s| s == shown);
        let object = of(|subject| &subject.object);
        Verdict {
            count: object.map(|_| self.subjects.len() == shown.count),
            object,
            colour: of(|subject| &subject.colour),
            mood: of(|subject| &subject.mood),
            place: told(&self.place, &shown.place),
            time: told(&self.time, &shown.time),
        }
    }
}

impl Share {
    /// In per cent; 0 of nothing.
    pub fn percent(self) -> f64 {
        100.0 * self.right as f64 / self.of.max(1) as f64
    }

    fn of(verdicts: &[Verdict], property: fn(&Verdict) -> Option<bool>) -> Self {
        let stated: Vec<bool> = verdicts.iter().filter_map(property).collect();
        Self {
            right: stated.iter().filter(|&&right| right).count(),
            of: stated.len(),
        }
    }
}

impl Score {
    /// Of all verdicts.
    pub fn of(verdicts: &[Verdict]) -> Self {
        Self {
            object: Share::of(verdicts, |verdict| verdict.object),
            colour: Share::of(verdicts, |verdict| verdict.colour),
            place: Share::of(verdicts, |verdict| verdict.place),
            all_three: Share::of(verdicts, |verdict| Some(verdict.follows())),
            time: Share::of(verdicts, |verdict| verdict.time),
            count: Share::of(verdicts, |verdict| verdict.count),
            mood: Share::of(verdicts, |verdict| verdict.mood),
        }
    }

    /// Its properties with their names for people.
    pub fn shares(&self) -> [(&'static str, Share); 7] {
        [
            ("object", self.object),
            ("colour", self.colour),
            ("place", self.place),
            ("all three", self.all_three),
            ("time", self.time),
            ("count", self.count),
            ("mood", self.mood),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(object: &str, colour: Option<&str>) -> Subject {
        Subject {
            object: Some(object.to_owned()),
            colour: colour.map(str::to_owned),
            mood: None,
        }
    }

    fn shown(left: Subject, right: Option<Subject>) -> Reading {
        Reading {
            count: 1 + usize::from(right.is_some()),
            left,
            right,
            place: "sea".to_owned(),
            time: "day".to_owned(),
        }
    }

    #[test]
    fn what_is_not_stated_is_not_judged_and_of_two_both_must_be_right() {
        let stated = Captioned {
            caption: String::new(),
            subjects: vec![subject("boat", Some("red")), subject("fish", None)],
            place: Some("sea".to_owned()),
            time: None,
        };
        let boat = || subject("boat", Some("red"));
        let right = stated.judge(&shown(boat(), Some(subject("fish", Some("blue")))));
        assert_eq!((right.object, right.colour), (Some(true), Some(true)));
        assert_eq!((right.time, right.mood), (None, None));
        assert!(right.follows());
        let wrong = stated.judge(&shown(boat(), Some(subject("cat", None))));
        assert_eq!(wrong.object, Some(false));
        let alone = stated.judge(&shown(boat(), None));
        assert_eq!((alone.object, alone.count), (Some(false), Some(false)));
        let score = Score::of(&[right, wrong, alone]);
        assert_eq!(score.all_three, Share { right: 1, of: 3 });
        assert_eq!(score.time, Share { right: 0, of: 0 });
        assert!((score.object.percent() - 100.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    #[cfg(feature = "embedded-model")]
    fn five_hundred_captions_come_along() {
        let captions = Captioned::built_in().unwrap();
        assert_eq!(captions.len(), 500);
        assert!(
            captions
                .iter()
                .all(|captioned| !captioned.subjects.is_empty())
        );
    }
}
