//! What a picture of sketchbook's world shows, and whether that is what its caption says.
//!
//! A small convolutional network (`reader.xml`, made by `../train`) scores the classes of every property; the rules that
//! turn its scores into a verdict are here. Shared by the scorer beside it and by the tests of the project.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use pixart::config::Precision;
use pixart::engine::{CompileOptions, CompiledGraph, Graph as _, Runtime, Tensor};
use serde::Deserialize;

/// Side of the pictures that the reader was taught on, in pixels.
pub const SIDE: usize = 256;

/// One subject, as a caption states it or as it was read. What is not said is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    pub object: Option<String>,
    pub colour: Option<String>,
    pub mood: Option<String>,
}

/// A line of `captions.jsonl`: a caption and what it states, subjects from left to right.
#[derive(Debug, Clone, Deserialize)]
pub struct Captioned {
    pub caption: String,
    pub subjects: Vec<Subject>,
    pub place: Option<String>,
    pub time: Option<String>,
}

/// What a picture shows: how many subjects, the outermost of them, where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub count: usize,
    pub left: Subject,
    /// Nothing, where one subject stands alone.
    pub right: Option<Subject>,
    pub place: String,
    pub time: String,
}

/// For each property whether the picture shows what the caption states; `None` where it states nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub count: Option<bool>,
    pub object: Option<bool>,
    pub colour: Option<bool>,
    pub mood: Option<bool>,
    pub place: Option<bool>,
    pub time: Option<bool>,
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

/// Holds a reading against what the caption states.
pub fn judge(stated: &Captioned, shown: &Reading) -> Verdict {
    let (first, last) = (stated.subjects.first(), stated.subjects.last());
    let second = last.filter(|_| stated.subjects.len() > 1);
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
        count: object.map(|_| stated.subjects.len() == shown.count),
        object,
        colour: of(|subject| &subject.colour),
        mood: of(|subject| &subject.mood),
        place: told(&stated.place, &shown.place),
        time: told(&stated.time, &shown.time),
    }
}

/// The captions of a JSON-lines file.
pub fn captions(file: &Path) -> Result<Vec<Captioned>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", file.display(), i + 1))
        })
        .collect()
}

/// A property of `reader.json`: its name, and its classes in the order of the scores.
#[derive(Debug, Deserialize)]
struct Property {
    name: String,
    classes: Vec<String>,
}

/// The network, and what its scores mean.
pub struct Reader {
    graph: CompiledGraph,
    properties: Vec<Property>,
}

impl Reader {
    /// The reader in `folder`: `reader.xml`, `reader.bin` and `reader.json`.
    pub fn load(runtime: &mut Runtime, folder: &Path) -> Result<Self> {
        let options = CompileOptions {
            device: "CPU",
            precision: Precision::F32,
            threads: None,
            inputs: &["picture"],
            fixed: None,
        };
        let properties = fs::read_to_string(folder.join("reader.json"))
            .with_context(|| format!("{} has no reader.json", folder.display()))?;
        Ok(Self {
            graph: runtime.compile(&folder.join("reader.xml"), &options)?,
            properties: serde_json::from_str(&properties).context("reader.json")?,
        })
    }

    /// What a picture shows. `rgb`: u8 [256, 256, 3].
    pub fn read(&mut self, rgb: &[u8]) -> Result<Reading> {
        ensure!(
            rgb.len() == SIDE * SIDE * 3,
            "the reader reads pictures of {SIDE}x{SIDE} pixels only"
        );
        let planes = (0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3));
        let pixels = planes
            .map(|&value| f32::from(value) / 127.5 - 1.0)
            .collect();
        let picture = Tensor::f32([1, 3, SIDE, SIDE], pixels);
        let answer = self.graph.infer(&[("picture", &picture)], &|| false)?;
        let (_, scores) = answer.into_f32()?;
        let classes = self.classes(scores.as_slice())?;
        let read = |name: &str| {
            let class = classes.get(name);
            class
                .map(|&class| class.to_owned())
                .with_context(|| format!("reader.json has no property {name}"))
        };
        let subject = |side: &str| {
            anyhow::Ok(Subject {
                object: Some(read(&format!("{side}_object"))?),
                colour: Some(read(&format!("{side}_colour"))?),
                mood: Some(read(&format!("{side}_mood"))?),
            })
        };
        let right = subject("right")?;
        Ok(Reading {
            count: read("count")?.parse()?,
            left: subject("left")?,
            right: (right.object.as_deref() != Some("none")).then_some(right),
            place: read("place")?,
            time: read("time")?,
        })
    }

    /// The class of each property whose score is highest. `scores`: those of all classes, property after property.
    fn classes(&self, mut scores: &[f32]) -> Result<BTreeMap<&str, &str>> {
        let mut classes = BTreeMap::new();
        for property in &self.properties {
            let (own, others) = scores
                .split_at_checked(property.classes.len())
                .context("the network gives fewer scores than reader.json has classes")?;
            let best = (0..own.len()).max_by(|&a, &b| own[a].total_cmp(&own[b]));
            let best = best.with_context(|| format!("{} has no classes", property.name))?;
            classes.insert(property.name.as_str(), property.classes[best].as_str());
            scores = others;
        }
        Ok(classes)
    }
}
