//! A compiled network: inputs checked and copied in, one inference that can be cancelled, the output copied out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use openvino::{
    DeviceType, ElementType, InferRequest, InferenceErrorKind, PartialShape, PropertyKey,
    RwPropertyKey, Shape,
};

use super::rest::{Shapes, resting_inputs};
use super::runtime::{Runtime, port, read};
use super::{Elements, EngineError, Graph, Port, Tensor};
use crate::config::Precision;

/// How often a running inference looks at cancellation.
const POLL_MILLISECONDS: i64 = 20;

/// What a device's list of capabilities calls a precision.
fn capability(precision: Precision) -> &'static str {
    match precision {
        Precision::Auto | Precision::F32 => "FP32",
        Precision::Bf16 => "BF16",
        Precision::F16 => "FP16",
    }
}

/// How a network is compiled.
#[derive(Debug, Clone)]
pub struct CompileOptions<'a> {
    /// `CPU`, `GPU`, `GPU.1`, `NPU`, `AUTO`.
    pub device: &'a str,
    /// Arithmetic.
    pub precision: Precision,
    /// Threads of the CPU, or the runtime's own choice.
    pub threads: Option<u16>,
    /// Names of the inputs that the caller will set where they exist.
    pub inputs: &'a [&'a str],
    /// An input that will always have this shape. A network with one cannot be used any more once an inference was stopped.
    pub fixed: Option<(&'a str, &'a [usize])>,
}

/// How a compiled network computes, by the device's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Its arithmetic.
    pub precision: String,
    /// Threads of the processor; none where another device computes.
    pub threads: Option<usize>,
}

/// A compiled network and its one inference request.
pub struct CompiledGraph {
    path: PathBuf,
    request: InferRequest,
    inputs: HashMap<String, Port>,
    outputs: Vec<String>,
    is_fixed: bool,
    in_force: InForce,
    /// Shapes of the last inference that came to its end: those that every part of the network agrees on.
    settled: Shapes,
}

impl CompiledGraph {
    pub(super) fn compile(
        runtime: &mut Runtime,
        xml: &Path,
        options: &CompileOptions<'_>,
    ) -> Result<Self, EngineError> {
        let beneath = runtime.devices_beneath(options.device)?;
        for device in &beneath {
            check_precision(runtime, device, options.precision)?;
            configure(runtime, device, options, xml)?;
        }
        let failed = |verb: &'static str| {
            move |error: openvino::InferenceError| EngineError::graph(xml, verb, error.to_string())
        };
        let device = DeviceType::from(options.device);
        let mut model = read(&mut runtime.core(), xml)?;
        if let Some((input, shape)) = options.fixed {
            fix(&mut model, input, shape).map_err(failed("compiled"))?;
        }
        let mut compiled = runtime
            .core()
            .compile_model(&model, device)
            .map_err(failed("compiled"))?;
        let mut inputs = HashMap::new();
        for name in options.inputs {
            if let Ok(node) = compiled.get_input_by_name(name) {
                inputs.insert((*name).to_owned(), port(&node).map_err(failed("compiled"))?);
            }
        }
        // What was traced may have left its output without a name: nobody asks for it by one.
        let outputs = (0..compiled.get_output_size().map_err(failed("compiled"))?)
            .map(|index| {
                let port = compiled.get_output_by_index(index)?;
                Ok(port.get_name().unwrap_or_default())
            })
            .collect::<Result<_, _>>()
            .map_err(failed("compiled"))?;
        let precision = match compiled.get_property(&PRECISION.into()) {
            Ok(precision) => precision.into_owned(),
            // AUTO has none of its own: the device that it has chosen has.
            Err(_) => runtime.precision_of(&executing(&compiled, &beneath)),
        };
        let threads = compiled.get_property(&PropertyKey::Other(THREADS.into()));
        let threads = threads.ok().and_then(|threads| threads.parse().ok());
        let in_force = InForce { precision, threads };
        let request = compiled
            .create_infer_request()
            .map_err(failed("compiled"))?;
        Ok(Self {
            path: xml.to_owned(),
            request,
            inputs,
            outputs,
            is_fixed: options.fixed.is_some(),
            in_force,
            settled: Shapes::new(),
        })
    }

    /// The arithmetic in force, by the device's own word.
    pub fn precision(&self) -> &str {
        &self.in_force.precision
    }

    /// How it computes.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Runs the network as [`Graph::infer`] does and returns all of its outputs, by name.
    ///
    /// # Errors
    /// Those of [`Graph::infer`].
    pub fn infer_all(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, Tensor)>, EngineError> {
        self.run(inputs, cancelled)?;
        (0..self.outputs.len())
            .map(|index| Ok((self.outputs[index].clone(), self.output(index)?)))
            .collect()
    }

    /// One inference, to its end or to where it is cancelled.
    fn run(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let shapes = shapes_of(inputs);
        self.start(inputs)?;
        match self.finish(cancelled) {
            Ok(()) => {
                self.settled = shapes;
                Ok(())
            }
            Err(EngineError::Cancelled) if self.settled != shapes && !self.is_fixed => {
                self.rest(&shapes)?;
                Err(EngineError::Cancelled)
            }
            Err(error) => Err(error),
        }
    }

    /// A copy of an output of the last inference.
    fn output(&self, index: usize) -> Result<Tensor, EngineError> {
        let output = self
            .request
            .get_output_tensor_by_index(index)
            .map_err(|error| self.failed(&error))?;
        copy_out(&output, &self.path)
    }

    /// Sets the inputs and starts.
    fn start(&mut self, inputs: &[(&str, &Tensor)]) -> Result<(), EngineError> {
        for &(name, tensor) in inputs {
            let port = self
                .inputs
                .get(name)
                .ok_or_else(|| EngineError::MissingPort {
                    path: self.path.clone(),
                    port: name.to_owned(),
                })?;
            check_shape(name, tensor, port)?;
            let tensor = copy_in(name, tensor, port)?;
            self.request
                .set_tensor(name, &tensor)
                .map_err(|error| self.failed(&error))?;
        }
        self.request
            .infer_async()
            .map_err(|error| self.failed(&error))
    }

    /// Waits for what was started, and stops it where it is when `cancelled`.
    fn finish(&mut self, cancelled: &dyn Fn() -> bool) -> Result<(), EngineError> {
        let mut stopping = false;
        loop {
            match self.request.wait(POLL_MILLISECONDS) {
                Ok(()) if stopping => return Err(EngineError::Cancelled),
                Ok(()) => return Ok(()),
                Err(error) if error.kind == InferenceErrorKind::ResultNotReady => {
                    if !stopping && cancelled() {
                        stopping = true;
                        self.request.cancel().map_err(|error| self.failed(&error))?;
                    }
                }
                Err(error) if stopping || error.kind == InferenceErrorKind::InferCancelled => {
                    return Err(EngineError::Cancelled);
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Makes every part of the network take shapes again after an inference of the shapes `stopped` was stopped midway.
    fn rest(&mut self, stopped: &Shapes) -> Result<(), EngineError> {
        let not_at_rest = |detail: String| EngineError::NotAtRest {
            path: self.path.clone(),
            detail,
        };
        let inputs = resting_inputs(|name| self.inputs.get(name), &self.settled, stopped)
            .ok_or_else(|| not_at_rest("the rank of an input is unknown".to_owned()))?;
        let inputs: Vec<(&str, &Tensor)> = inputs
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        self.start(&inputs)
            .and_then(|()| self.finish(&|| false))
            .map_err(|error| EngineError::NotAtRest {
                path: self.path.clone(),
                detail: error.to_string(),
            })?;
        self.settled = shapes_of(&inputs);
        Ok(())
    }

    fn failed(&self, error: &openvino::InferenceError) -> EngineError {
        EngineError::inference(&self.path, error.to_string())
    }
}

/// The device's hint for the arithmetic of what is compiled next.
const PRECISION: RwPropertyKey = RwPropertyKey::HintInferencePrecision;

/// The property of a compiled network that has the number of threads in force.
const THREADS: &str = "INFERENCE_NUM_THREADS";

/// Entries of the CPU plugin's cache of kernels, each network having one of its own. By default there are 5000: every new size of an
/// image left 4 to 7 MB for ever. With 64, sketchbook holds 150 MiB more after 25 sizes and no more after 200.
const KERNELS_KEPT: &str = "64";

/// Sets what the options ask of one device, and takes back what earlier ones asked.
fn configure(
    runtime: &mut Runtime,
    device: &str,
    options: &CompileOptions<'_>,
    xml: &Path,
) -> Result<(), EngineError> {
    let precision = runtime.safe_precision(device, options.precision, options.threads, xml);
    let hint = (precision != Precision::Auto).then(|| precision.name());
    runtime.set(device, PRECISION, hint)?;
    if device == "CPU" {
        // In f32 int8 weights must not bring dynamically quantised activations with them.
        let group_size = (precision == Precision::F32).then_some("0");
        let key = RwPropertyKey::Other("DYNAMIC_QUANTIZATION_GROUP_SIZE".into());
        runtime.set(device, key, group_size)?;
        let threads = options.threads.map(|threads| threads.to_string());
        runtime.set(
            device,
            RwPropertyKey::InferenceNumThreads,
            threads.as_deref(),
        )?;
        let key = RwPropertyKey::Other("CPU_RUNTIME_CACHE_CAPACITY".into());
        runtime.set(device, key, Some(KERNELS_KEPT))?;
    }
    Ok(())
}

/// Gives an input one shape.
fn fix(
    model: &mut openvino::Model,
    input: &str,
    shape: &[usize],
) -> Result<(), openvino::InferenceError> {
    let dims: Vec<i64> = shape
        .iter()
        .map(|&dim| i64::try_from(dim).expect("sizes in memory fit i64"))
        .collect();
    let rank = i64::try_from(dims.len()).expect("ranks are small");
    model.reshape_input_by_name(input, &PartialShape::new_static(rank, &dims)?)
}

/// The device that runs a network compiled for AUTO, or the first of those it may choose from.
fn executing(compiled: &openvino::CompiledModel, beneath: &[String]) -> String {
    let running = compiled.get_property(&PropertyKey::Other("EXECUTION_DEVICES".into()));
    let running = running.as_deref().unwrap_or_default();
    beneath
        .iter()
        .find(|device| running.contains(device.as_str()))
        .or(beneath.first())
        .cloned()
        .unwrap_or_default()
}

fn check_precision(
    runtime: &Runtime,
    device: &str,
    precision: Precision,
) -> Result<(), EngineError> {
    let capabilities = runtime.capabilities(device);
    let can = capabilities.iter().any(|can| can == capability(precision));
    if can || matches!(precision, Precision::Auto | Precision::F32) {
        return Ok(());
    }
    Err(EngineError::UnsupportedPrecision {
        device: device.to_owned(),
        precision: precision.name(),
        available: capabilities.join(", "),
    })
}

impl Graph for CompiledGraph {
    fn input(&self, name: &str) -> Option<Port> {
        self.inputs.get(name).cloned()
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        self.run(inputs, cancelled)?;
        self.output(0)
    }
}

fn shapes_of(inputs: &[(&str, &Tensor)]) -> Shapes {
    inputs
        .iter()
        .map(|&(name, tensor)| (name.to_owned(), tensor.shape().to_vec()))
        .collect()
}

fn check_shape(name: &str, tensor: &Tensor, port: &Port) -> Result<(), EngineError> {
    let fits = port.dims.len() == tensor.shape().len()
        && port
            .dims
            .iter()
            .zip(tensor.shape())
            .all(|(dim, &size)| dim.is_none_or(|dim| dim == size));
    // A port of unknown rank takes what it gets.
    if fits || port.dims.is_empty() {
        return Ok(());
    }
    let dims: Vec<String> = port
        .dims
        .iter()
        .map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string()))
        .collect();
    Err(EngineError::Shape {
        tensor: name.to_owned(),
        expected: format!("[{}]", dims.join(", ")),
        got: tensor.shape().to_vec(),
    })
}

/// A tensor of the port's own element type.
fn copy_in(name: &str, tensor: &Tensor, port: &Port) -> Result<openvino::Tensor, EngineError> {
    let element = match port.element.as_str() {
        "f32" => ElementType::F32,
        "f16" => ElementType::F16,
        "i64" => ElementType::I64,
        "i32" => ElementType::I32,
        other => {
            return Err(EngineError::ElementType {
                tensor: name.to_owned(),
                expected: "f32, f16, i64 or i32",
                got: other.to_owned(),
            });
        }
    };
    let runtime = |error: openvino::InferenceError| EngineError::Runtime(error.to_string());
    let dims: Vec<i64> = tensor
        .shape()
        .iter()
        .map(|&dim| i64::try_from(dim).expect("sizes in memory fit i64"))
        .collect();
    let shape = Shape::new(&dims).map_err(runtime)?;
    let mut copy = openvino::Tensor::new(element, &shape).map_err(runtime)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "masks and timesteps are small whole numbers in any type"
    )]
    match (tensor.elements(), element) {
        (Elements::F32(values), ElementType::F32) => {
            copy.get_data_mut::<f32>()
                .map_err(runtime)?
                .copy_from_slice(values);
        }
        (Elements::F32(values), ElementType::F16) => {
            fill(
                copy.get_data_mut::<u16>().map_err(runtime)?,
                values,
                |&value| f16::from_f32(value).to_bits(),
            );
        }
        (Elements::F32(values), ElementType::I64) => {
            fill(
                copy.get_data_mut::<i64>().map_err(runtime)?,
                values,
                |&value| value as i64,
            );
        }
        (Elements::F32(values), _) => {
            fill(
                copy.get_data_mut::<i32>().map_err(runtime)?,
                values,
                |&value| value as i32,
            );
        }
        (Elements::I64(values), ElementType::I64) => {
            copy.get_data_mut::<i64>()
                .map_err(runtime)?
                .copy_from_slice(values);
        }
        (Elements::I64(values), ElementType::F32) => {
            fill(
                copy.get_data_mut::<f32>().map_err(runtime)?,
                values,
                |&value| value as f32,
            );
        }
        (Elements::I64(values), ElementType::F16) => {
            fill(
                copy.get_data_mut::<u16>().map_err(runtime)?,
                values,
                |&value| f16::from_f32(value as f32).to_bits(),
            );
        }
        (Elements::I64(values), _) => {
            fill(
                copy.get_data_mut::<i32>().map_err(runtime)?,
                values,
                |&value| value as i32,
            );
        }
    }
    Ok(copy)
}

fn fill<From, To>(to: &mut [To], from: &[From], convert: impl Fn(&From) -> To) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(from);
    }
}

/// The request owns its output buffer and reuses it: everything is copied before the next inference.
fn copy_out(output: &openvino::Tensor, path: &Path) -> Result<Tensor, EngineError> {
    let runtime = |error: openvino::InferenceError| EngineError::Runtime(error.to_string());
    let shape: Vec<usize> = output
        .get_shape()
        .map_err(runtime)?
        .get_dimensions()
        .iter()
        .map(|&dim| usize::try_from(dim).expect("the shape of a finished tensor is static"))
        .collect();
    // As large as an image: where there is no room for it, that image fails and not the process.
    let count = shape.iter().product();
    let mut values: Vec<f32> = Vec::new();
    values
        .try_reserve_exact(count)
        .map_err(|_| EngineError::Runtime(format!("no memory for an output of {count} numbers")))?;
    match output.get_element_type().map_err(runtime)? {
        ElementType::F32 => values.extend_from_slice(output.get_data::<f32>().map_err(runtime)?),
        ElementType::F16 => {
            let bits = output.get_data::<u16>().map_err(runtime)?;
            values.extend(bits.iter().map(|&bits| f16::from_bits(bits).to_f32()));
        }
        ElementType::Bf16 => {
            let bits = output.get_data::<u16>().map_err(runtime)?;
            values.extend(bits.iter().map(|&bits| bf16::from_bits(bits).to_f32()));
        }
        other => {
            return Err(EngineError::ElementType {
                tensor: format!("output of {}", path.display()),
                expected: "f32, f16 or bf16",
                got: other.to_string(),
            });
        }
    }
    Ok(Tensor::f32(shape, values))
}
