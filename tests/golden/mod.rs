//! Parity with diffusers and torch: each module reads the fixtures of the same name. `numerics.py` made them.

use std::fs;
use std::path::{Path, PathBuf};

mod noise;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn read_json(name: &str) -> serde_json::Value {
    let text = fs::read_to_string(path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}
