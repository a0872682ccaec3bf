//! The machine's own matmul peak: a network of matrix products and nothing else, through the same runtime, device and
//! precision as the models.
//!
//! Eight products of 2048×2048 by one weight of that size: 137 GFLOP, about a second in f32 on two cores, large enough
//! for every cache and blocking. Input and output are kept out of the time: a column comes in, one number goes out.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use thiserror::Error;

use crate::config::Precision;
use crate::engine::{CompileOptions, EngineError, Graph as _, Runtime, Tensor};

/// Rows and columns of every matrix.
const SIDE: usize = 2048;
/// How long is measured. The best inference counts, as only that one may have had the machine for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Five inferences of eight products: seconds on two cores.
    Thorough,
    /// Inferences of two products for a second, ten at the most: a first idea.
    Quick,
}

impl Effort {
    /// Products of one inference.
    fn products(self) -> usize {
        match self {
            Self::Thorough => 8,
            Self::Quick => 2,
        }
    }

    /// Whether another inference follows `trials` of them, which took `seconds` together.
    fn goes_on(self, trials: usize, seconds: f64) -> bool {
        match self {
            Self::Thorough => trials < 5,
            Self::Quick => trials < 10 && seconds < 1.0,
        }
    }
}

/// Why the peak could not be measured.
#[derive(Debug, Error)]
pub enum PeakError {
    /// The network cannot be written.
    #[error("cannot write the matmul network {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not run.
    #[error("the matmul peak: {0}")]
    Engine(#[from] EngineError),
}

/// How the models run, and where the network may be written: 17 MB.
pub struct PeakOptions<'a> {
    /// As the setting has it.
    pub device: &'a str,
    /// Arithmetic.
    pub precision: Precision,
    /// Threads of the CPU, or the runtime's own choice.
    pub threads: Option<u16>,
    /// A folder of one's own.
    pub folder: &'a Path,
    /// How long is measured.
    pub effort: Effort,
}

/// FLOP/s of the best of a few inferences.
///
/// # Errors
/// When the network cannot be written or does not run, or `cancelled`.
pub fn matmul_peak(
    runtime: &mut Runtime,
    options: &PeakOptions<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<f64, PeakError> {
    let xml = options.folder.join("matmul.xml");
    let bin = xml.with_extension("bin");
    let write = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|source| PeakError::Write {
            path: path.to_owned(),
            source,
        })
    };
    let products = options.effort.products();
    let network = Network::new(products);
    write(&xml, network.xml.as_bytes())?;
    write(&bin, &network.bin)?;
    let mut graph = runtime.compile(
        &xml,
        &CompileOptions {
            device: options.device,
            precision: options.precision,
            threads: options.threads,
            inputs: &["x"],
            fixed: None,
        },
    )?;
    let x = Tensor::f32([SIDE, 1], vec![1.0; SIDE]);
    // The first one packs the weights.
    graph.infer(&[("x", &x)], cancelled)?;
    let (mut best, mut sum, mut trials) = (f64::INFINITY, 0.0, 0);
    while options.effort.goes_on(trials, sum) {
        let start = Instant::now();
        graph.infer(&[("x", &x)], cancelled)?;
        let seconds = start.elapsed().as_secs_f64();
        (best, sum, trials) = (best.min(seconds), sum + seconds, trials + 1);
    }
    Ok((2 * products * SIDE * SIDE * SIDE) as f64 / best)
}

/// The two halves of the IR.
struct Network {
    xml: String,
    bin: Vec<u8>,
}

impl Network {
    /// `max(((x · row) · Wᵀ) · Wᵀ …)`: x f32 `[SIDE, 1]`, row f32 `[1, SIDE]`, W f32 `[SIDE, SIDE]` of ±1/√SIDE, so that
    /// values stay of their size.
    fn new(products: usize) -> Self {
        let mut network = Self {
            xml: "<?xml version=\"1.0\"?>\n<net name=\"matmul\" version=\"11\">\n<layers>\n"
                .to_owned(),
            bin: Vec::new(),
        };
        let size = format!("{SIDE},{SIDE}");
        network.layer(
            0,
            "Parameter",
            &format!("shape=\"{SIDE},1\" element_type=\"f32\""),
            0,
        );
        network.constant(1, "f32", &format!("1,{SIDE}"), signs(SIDE, 1.0));
        network.layer(2, "Multiply", "auto_broadcast=\"numpy\"", 2);
        let scale = 1.0 / (SIDE as f32).sqrt();
        network.constant(3, "f32", &size, signs(SIDE * SIDE, scale));
        network.constant(
            4,
            "i64",
            "2",
            [0_i64, 1].iter().flat_map(|axis| axis.to_le_bytes()),
        );
        let first = 5;
        for product in 0..products {
            network.layer(
                first + product,
                "MatMul",
                "transpose_a=\"false\" transpose_b=\"true\"",
                2,
            );
        }
        let reduce = first + products;
        network.layer(reduce, "ReduceMax", "keep_dims=\"true\"", 2);
        network.result(reduce + 1);
        network.xml.push_str("</layers>\n<edges>\n");
        network.edge((0, 0), (2, 0));
        network.edge((1, 0), (2, 1));
        let mut last = 2;
        for product in first..reduce {
            network.edge((last, 2), (product, 0));
            network.edge((3, 0), (product, 1));
            last = product;
        }
        network.edge((last, 2), (reduce, 0));
        network.edge((4, 0), (reduce, 1));
        network.edge((reduce, 2), (reduce + 1, 0));
        network.xml.push_str("</edges>\n</net>\n");
        network
    }

    /// A layer of one output, whose port comes after those of its inputs.
    fn layer(&mut self, id: usize, kind: &str, data: &str, inputs: usize) {
        let name = if kind == "Parameter" {
            "x".to_owned()
        } else {
            format!("layer{id}")
        };
        let ports: Vec<String> = (0..inputs)
            .map(|port| format!("<port id=\"{port}\"/>"))
            .collect();
        let ports = ports.concat();
        let element = if data.contains("i64") { "I64" } else { "FP32" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.xml,
            "<layer id=\"{id}\" name=\"{name}\" type=\"{kind}\" version=\"opset1\"><data {data}/>\
             <input>{ports}</input><output><port id=\"{inputs}\" precision=\"{element}\" names=\"{name}\"/></output></layer>"
        );
    }

    fn constant(&mut self, id: usize, element: &str, shape: &str, bytes: impl Iterator<Item = u8>) {
        let offset = self.bin.len();
        self.bin.extend(bytes);
        let size = self.bin.len() - offset;
        let data = format!(
            "element_type=\"{element}\" shape=\"{shape}\" offset=\"{offset}\" size=\"{size}\""
        );
        self.layer(id, "Const", &data, 0);
    }

    fn result(&mut self, id: usize) {
        let _ = writeln!(
            self.xml,
            "<layer id=\"{id}\" name=\"result\" type=\"Result\" version=\"opset1\"><input><port id=\"0\"/></input></layer>"
        );
    }

    fn edge(&mut self, from: (usize, usize), to: (usize, usize)) {
        let _ = writeln!(
            self.xml,
            "<edge from-layer=\"{}\" from-port=\"{}\" to-layer=\"{}\" to-port=\"{}\"/>",
            from.0, from.1, to.0, to.1
        );
    }
}

/// `±size` without a pattern, as bytes: the top bit of a linear congruential generator (Knuth's MMIX constants).
fn signs(count: usize, size: f32) -> impl Iterator<Item = u8> {
    let mut state = 1_u64;
    (0..count).flat_map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let value = if state >> 63 == 0 { size } else { -size };
        value.to_le_bytes()
    })
}
