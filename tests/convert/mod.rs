//! Conversions, seen from outside: what comes out of whole checkpoints, and what is said of broken ones.

mod added_tokens;
mod broken_files;
mod configurations;
mod formats;
mod output;
mod places;
mod tensors;
mod tiny_vae;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use pixart::convert::{ComponentWeights, ConvertError, ConvertOptions, Progress, convert};
use pixart::model::{Manifest, ModelDirectory, WeightsFormat};
use tempfile::TempDir;

use crate::support::{Silent, checkpoint, names_in, rewrite_tensors, runtime};

const TEXT_ENCODER: &str = "text_encoder/model.safetensors";
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

/// A copy of a small checkpoint that a test may damage, and a folder for what comes of it.
struct Attempt {
    source: TempDir,
    outputs: TempDir,
    weights: ComponentWeights,
}

impl Attempt {
    /// On the smallest checkpoint in single f32 files.
    fn new() -> Self {
        Self::on("tests/golden/checkpoints/tiny-alpha")
    }

    fn on(path: &str) -> Self {
        Self {
            source: checkpoint(path),
            outputs: tempfile::tempdir().unwrap(),
            weights: ComponentWeights::all(WeightsFormat::F16),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    fn output(&self) -> PathBuf {
        self.outputs.path().join("model")
    }

    fn options(&self) -> ConvertOptions {
        ConvertOptions {
            source: self.source.path().to_owned(),
            output: self.output(),
            name: None,
            weights: self.weights,
            tiny_vae: None,
        }
    }

    fn watched(&self, progress: &dyn Progress) -> Result<ModelDirectory, ConvertError> {
        convert(&self.options(), &mut runtime(), progress)
    }

    #[track_caller]
    fn converted(&self) -> Manifest {
        self.watched(&Silent).unwrap().manifest().clone()
    }

    /// Holds that the conversion is refused with one message that has every one of `parts`, and that nothing is left.
    #[track_caller]
    fn refused(&self, parts: &[&str]) -> ConvertError {
        let error = self.watched(&Silent).unwrap_err();
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "no '{part}' in: {message}");
        }
        assert_eq!(message.lines().count(), 1, "{message}");
        assert_eq!(names_in(self.outputs.path()), [""; 0], "after: {message}");
        error
    }
}

/// Every file below `folder` with its bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names_in(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(
                contents(&path)
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found
}

/// Cuts a file, or makes it longer without taking room.
fn cut(path: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

/// Puts the bytes of one element into a tensor.
fn put(path: &Path, name: &str, index: usize, bytes: &[u8]) {
    rewrite_tensors(path, |tensors| {
        let data = &mut tensors.get_mut(name).unwrap().data;
        data[index * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
    });
}
