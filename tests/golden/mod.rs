//! Parity with diffusers and torch: each module reads the fixtures of the same name. `numerics.py` made them.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

mod binning;
mod noise;
mod pixels;
mod schedules;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn read_json(name: &str) -> serde_json::Value {
    let text = fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
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
