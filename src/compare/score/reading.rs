//! What a picture shows: a small convolutional network (made by models/sketchbook/train) scores the classes of every property.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::{ScoreError, Subject};
use crate::config::Precision;
use crate::engine::{CompileOptions, CompiledGraph, Graph as _, Runtime, Tensor};
use crate::pipeline::pixels::Rgb8;

/// Side of the pictures that the reader was taught on, in pixels.
const SIDE: u32 = 256;

#[cfg(feature = "embedded-model")]
macro_rules! embedded {
    ($name:literal) => {
        Some(include_bytes!(concat!("../../../models/sketchbook/score/", $name)).as_slice())
    };
}
/// Built without the embedded model, which the reader belongs to.
#[cfg(not(feature = "embedded-model"))]
macro_rules! embedded {
    ($name:literal) => {
        None::<&[u8]>
    };
}

/// The captions that come along, as JSON lines; none where the binary was built without the embedded model.
pub(super) fn captions() -> Option<&'static str> {
    std::str::from_utf8(embedded!("captions.jsonl")?).ok()
}

/// What a picture shows: how many subjects, the outermost of them, where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Subjects.
    pub count: usize,
    /// The leftmost.
    pub left: Subject,
    /// The rightmost; nothing, where one subject stands alone.
    pub right: Option<Subject>,
    /// Where.
    pub place: String,
    /// When.
    pub time: String,
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
    /// Unpacks and compiles it, for the CPU and in f32 whatever the models are drawn with.
    ///
    /// # Errors
    /// When the binary was built without the embedded model, or there is no temporary folder.
    pub fn load(runtime: &mut Runtime) -> Result<Self, ScoreError> {
        let missing = ScoreError::NotEmbedded;
        let (Some(xml), Some(bin), Some(properties)) = (
            embedded!("reader.xml"),
            embedded!("reader.bin"),
            embedded!("reader.json"),
        ) else {
            return Err(missing);
        };
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("reader.xml");
        fs::write(&path, xml)?;
        fs::write(path.with_extension("bin"), bin)?;
        let options = CompileOptions {
            device: "CPU",
            precision: Precision::F32,
            threads: None,
            inputs: &["picture"],
            fixed: None,
        };
        Ok(Self {
            graph: runtime.compile(&path, &options)?,
            properties: serde_json::from_slice(properties)
                .map_err(|error| ScoreError::Reader(error.to_string()))?,
        })
    }

    /// What a picture shows.
    ///
    /// # Errors
    /// When it has another size than those that the network was taught on.
    pub fn read(&mut self, picture: &Rgb8) -> Result<Reading, ScoreError> {
        if (picture.width, picture.height) != (SIDE, SIDE) {
            return Err(ScoreError::Size {
                side: SIDE,
                width: picture.width,
                height: picture.height,
            });
        }
        let planes = (0..3).flat_map(|channel| picture.data.iter().skip(channel).step_by(3));
        let pixels = planes
            .map(|&value| f32::from(value) / 127.5 - 1.0)
            .collect();
        let side = SIDE as usize;
        let picture = Tensor::f32([1, 3, side, side], pixels);
        let answer = self.graph.infer(&[("picture", &picture)], &|| false)?;
        let (_, scores) = answer.into_f32()?;
        let classes = self.classes(scores.as_slice())?;
        let read = |name: &str| {
            let class = classes.get(name).map(|&class| class.to_owned());
            class.ok_or_else(|| ScoreError::Reader(format!("it has no property {name}")))
        };
        let subject = |side: &str| {
            Ok::<_, ScoreError>(Subject {
                object: Some(read(&format!("{side}_object"))?),
                colour: Some(read(&format!("{side}_colour"))?),
                mood: Some(read(&format!("{side}_mood"))?),
            })
        };
        let right = subject("right")?;
        let count = read("count")?;
        Ok(Reading {
            count: count
                .parse()
                .map_err(|_| ScoreError::Reader(format!("count is {count}")))?,
            left: subject("left")?,
            right: (right.object.as_deref() != Some("none")).then_some(right),
            place: read("place")?,
            time: read("time")?,
        })
    }

    /// The class of each property whose score is highest. `scores`: those of all classes, property after property.
    fn classes(&self, mut scores: &[f32]) -> Result<BTreeMap<&str, &str>, ScoreError> {
        let mut classes = BTreeMap::new();
        for property in &self.properties {
            let (own, others) = scores
                .split_at_checked(property.classes.len())
                .ok_or_else(|| ScoreError::Reader("it gives too few scores".to_owned()))?;
            let best = (0..own.len()).max_by(|&a, &b| own[a].total_cmp(&own[b]));
            let best = best
                .ok_or_else(|| ScoreError::Reader(format!("{} has no classes", property.name)))?;
            classes.insert(property.name.as_str(), property.classes[best].as_str());
            scores = others;
        }
        Ok(classes)
    }
}
