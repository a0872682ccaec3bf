//! `pixart list`: the models on this machine, and the checkpoints that could become one.

use std::path::Path;

use anyhow::Result;

use super::say;
use crate::app::inventory::{CheckpointPlace, Inventory, ListedCheckpoint, ListedModel, Made};
use crate::app::shell::quoted;
use crate::config::Environment;
use crate::model::size_in_words;

/// The model of the examples.
const EXAMPLE: &str = "PixArt-alpha/PixArt-LCM-XL-2-1024-MS";

/// List the models on this machine, and the checkpoints that are not converted yet.
///
/// Models lie in PIXART_HOME/models, as 'pixart pull --convert' and 'pixart convert' make them, checkpoints in
/// PIXART_HOME/checkpoints and in the hub's own cache. PIXART_HOME is ~/.local/share/pixart unless it is set. --model takes each
/// name, or its part after the slash where that is unique.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(&self) -> Result<()> {
        let inventory = Inventory::of(&Environment::of_process())?;
        if self.json {
            say(&serde_json::to_string_pretty(&inventory)?)?;
        } else {
            say(&readable(&inventory))?;
        }
        Ok(())
    }
}

fn readable(inventory: &Inventory) -> String {
    let mut sections = Vec::new();
    if !inventory.models.is_empty() {
        sections.push(table(
            [
                "MODEL", "SIZE", "PIPELINE", "WEIGHTS", "VARIANTS", "PROBLEM", "FOLDER",
            ],
            inventory.models.iter().map(model_row),
        ));
    }
    if !inventory.checkpoints.is_empty() {
        sections.push(table(
            [
                "NOT CONVERTED",
                "SIZE",
                "PIPELINE",
                "PLACE",
                "PROBLEM",
                "NEXT",
                "FOLDER",
            ],
            inventory.checkpoints.iter().map(checkpoint_row),
        ));
    }
    let has_own = inventory
        .models
        .iter()
        .any(|model| model.directory.is_some());
    match &inventory.home {
        None => sections.push(
            "There is no folder for models: set PIXART_HOME or HOME, or name one with --output."
                .to_owned(),
        ),
        Some(home) if !has_own => sections.push(format!(
            "No model is in {} yet. This fetches one of 20 GB, and converts it:\n  pixart pull {EXAMPLE} --convert",
            shown(&home.join("models"))
        )),
        Some(_) => {}
    }
    sections.join("\n\n")
}

fn model_row(model: &ListedModel) -> [String; 7] {
    let variants = model.variants.iter().map(|variant| {
        let broken = variant.problem.as_ref().map_or("", |_| " (broken)");
        format!("{}{broken}", variant.name)
    });
    [
        model.name.clone(),
        model
            .made
            .as_ref()
            .map_or_else(none, |made| size_in_words(made.bytes)),
        model
            .made
            .as_ref()
            .map_or_else(none, |made| format!("{:?}", made.pipeline).to_lowercase()),
        model.made.as_ref().map_or_else(none, weights),
        or_none(variants.collect::<Vec<_>>().join(", ")),
        model.problem.clone().unwrap_or_else(none),
        model
            .directory
            .as_deref()
            .map_or_else(|| "in this binary".to_owned(), shown),
    ]
}

fn checkpoint_row(checkpoint: &ListedCheckpoint) -> [String; 7] {
    let place = match checkpoint.place {
        CheckpointPlace::Home => "home",
        CheckpointPlace::HubCache => "hub cache",
    };
    let pipeline = checkpoint.pipeline;
    [
        checkpoint.name.clone(),
        size_in_words(checkpoint.bytes),
        pipeline.map_or_else(none, |class| format!("{class:?}").to_lowercase()),
        place.to_owned(),
        checkpoint.problem.clone().unwrap_or_else(none),
        checkpoint.next.clone(),
        shown(&checkpoint.directory),
    ]
}

/// One format where all networks have the same, else those of text encoder, transformer and VAE decoder.
fn weights(made: &Made) -> String {
    let [text_encoder, transformer, vae_decoder] = &made.weights;
    if text_encoder == transformer && transformer == vae_decoder {
        transformer.clone()
    } else {
        made.weights.join(" / ")
    }
}

fn shown(path: &Path) -> String {
    quoted(path)
}

fn none() -> String {
    "-".to_owned()
}

fn or_none(text: String) -> String {
    if text.is_empty() { none() } else { text }
}

/// Columns of one width each; those that no row has anything in are left out.
fn table(head: [&str; 7], rows: impl Iterator<Item = [String; 7]>) -> String {
    let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.map(|row| row.to_vec()));
    for column in (0..head.len()).rev() {
        if lines[1..].iter().all(|row| row[column] == "-") {
            for line in &mut lines {
                line.remove(column);
            }
        }
    }
    let width = |column: usize| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let lines = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths);
        let text: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        text.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
