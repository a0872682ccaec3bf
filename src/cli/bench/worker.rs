//! One network that runs when it is told to: what `benches/notebook/` alternates with the notebook's.
//!
//! Lines of JSON in, lines of JSON out; tensors are files of little-endian numbers. docs/bench.md has the protocol.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::super::progress::{ConvertProgress, Interrupt};
use super::super::say;
use crate::app::App;
use crate::bench::MemoryWatch;
use crate::engine::Tensor;
use crate::model::NotebookFiles;
use crate::model::Part;

/// [`Part`] on the command line, by the names of the parts of a checkpoint.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Network {
    TextEncoder,
    Transformer,
    VaeDecoder,
    TinyVaeDecoder,
}

/// One line of standard input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// By port; without them, those of the order before.
    #[serde(default)]
    inputs: BTreeMap<String, Stored>,
    /// Where the output goes as f32, if anywhere.
    #[serde(default)]
    output: Option<PathBuf>,
}

/// A tensor in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    shape: Vec<usize>,
    #[serde(rename = "type")]
    element: Element,
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Element {
    F32,
    I64,
}

/// Loads the network, says so, and runs it for each line until there are no more.
pub(super) fn serve(
    app: &App,
    notebook_files: NotebookFiles,
    network: Network,
    interrupt: &Interrupt,
) -> Result<()> {
    let component = match network {
        Network::TextEncoder => Part::TextEncoder,
        Network::Transformer => Part::Transformer,
        Network::VaeDecoder => Part::VaeDecoder,
        Network::TinyVaeDecoder => Part::TinyVaeDecoder,
    };
    let start = Instant::now();
    let memory = MemoryWatch::start();
    let mut runtime = app.runtime()?;
    let progress = ConvertProgress::new(interrupt.clone(), true);
    let model = app.model(&mut runtime, notebook_files, &progress)?;
    let checked = start.elapsed();
    let (mut graph, precision) = app.load_component(&runtime, &model, component)?;
    say(&json!({
        "ready_seconds": start.elapsed().as_secs_f64(),
        "check_seconds": checked.as_secs_f64(),
        "precision": precision,
        "memory": memory.finish(),
    })
    .to_string())?;
    let mut inputs: BTreeMap<String, Tensor> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?).context("an order on standard input")?;
        if !order.inputs.is_empty() {
            inputs = order
                .inputs
                .into_iter()
                .map(|(port, stored)| Ok((port, stored.read()?)))
                .collect::<Result<_>>()?;
        }
        let named: Vec<(&str, &Tensor)> = inputs
            .iter()
            .map(|(port, tensor)| (port.as_str(), tensor))
            .collect();
        let memory = MemoryWatch::start();
        let start = Instant::now();
        let output = interrupt.attended(|| graph.infer(&named, &|| interrupt.came()))?;
        let seconds = start.elapsed().as_secs_f64();
        let memory = memory.finish();
        let (shape, values) = output.into_f32()?;
        if let Some(path) = &order.output {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        say(&json!({"seconds": seconds, "shape": shape, "memory": memory}).to_string())?;
    }
    Ok(())
}

impl Stored {
    fn read(&self) -> Result<Tensor> {
        let bytes = read(&self.file)?;
        let count: usize = self.shape.iter().product();
        let width = match self.element {
            Element::F32 => 4,
            Element::I64 => 8,
        };
        if Some(bytes.len()) != count.checked_mul(width) {
            bail!(
                "{} has {} bytes, and its shape {:?} takes {width} for each element",
                self.file.display(),
                bytes.len(),
                self.shape
            );
        }
        Ok(match self.element {
            Element::F32 => Tensor::f32(
                self.shape.clone(),
                numbers(&bytes).map(f32::from_le_bytes).collect(),
            ),
            Element::I64 => Tensor::i64(
                self.shape.clone(),
                numbers(&bytes).map(i64::from_le_bytes).collect(),
            ),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The bytes of one number after another.
fn numbers<const WIDTH: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; WIDTH]> {
    bytes
        .chunks_exact(WIDTH)
        .map(|chunk| chunk.try_into().expect("chunks of this width"))
}
