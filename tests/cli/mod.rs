//! The binary as people and programs run it: what it draws and says, and how it ends.

mod bench;
mod compare;
mod draws;
mod foreign;
mod formats;
mod hostile;
mod info;
mod interrupt;
mod models;
mod names;
mod quantize;
mod refuses;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use pixart::model::WeightsFormat;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Outcome, Picture, checkpoint, convert_to, decode_png, names_in, outcome, pixart_at_home,
    project, small_model,
};

/// Sketchbook in f16 as `f16`, once for all tests.
static SKETCHBOOK: LazyLock<Desk> = LazyLock::new(|| {
    let desk = Desk::new();
    convert_to(
        &project("models/sketchbook"),
        &desk.path("f16"),
        WeightsFormat::F16,
    );
    desk
});

/// An empty working folder.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        names_in(self.0.path())
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn picture(&self, name: &str) -> Picture {
        decode_png(&self.read(name))
    }

    /// A subcommand, run from here, with the embedded model at hand.
    fn pixart(&self, words: &[&str]) -> Command {
        let mut command = pixart_at_home();
        command.current_dir(self.0.path()).args(words);
        command
    }

    /// `pixart generate` with the embedded model.
    fn draw(&self, words: &[&str]) -> Outcome {
        outcome(self.pixart(&["generate"]).args(words))
    }

    /// `pixart generate` with a model of a few kilobytes, at a size that takes no time.
    fn draw_small(&self, words: &[&str]) -> Outcome {
        outcome(
            self.pixart(&["generate", "--no-resolution-binning", "--model"])
                .arg(small_model())
                .args(words),
        )
    }
}

/// A small model that draws in aspect bins of 256 px unless it is asked not to, as every published one does in its own.
fn binned_model(desk: &Desk) -> PathBuf {
    let model = desk.path("binned");
    let source = checkpoint("tests/golden/checkpoints/tiny-sigma");
    convert_to(source.path(), &model, WeightsFormat::F32);
    model
}

/// What `--json` printed.
#[track_caller]
fn json(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stderr, "", "programs read standard output alone");
    serde_json::from_str(&outcome.stdout).unwrap()
}
