//! Parity with diffusers, transformers and torch on recorded fixtures; `PROVENANCE.md` says how they were made.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

mod binning;
mod captions;
mod cases;
mod noise;
mod pixels;
mod schedules;
mod tokens;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn read_text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read_json(name: &str) -> serde_json::Value {
    serde_json::from_str(&read_text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The lines of a JSON-lines fixture.
fn lines<Line: DeserializeOwned>(name: &str) -> Vec<Line> {
    read_text(name)
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"))
        })
        .collect()
}

fn f32_values(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    let (values, rest) = tensor.data().as_chunks();
    assert!(rest.is_empty(), "{name}");
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}
