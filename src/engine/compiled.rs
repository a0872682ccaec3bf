//! A compiled network: inputs checked and copied in, one inference that can be cancelled, the output copied out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use openvino::{
    DeviceType, ElementType, InferRequest, InferenceErrorKind, PropertyKey, RwPropertyKey, Shape,
};

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
}

/// A compiled network and its one inference request.
pub struct CompiledGraph {
    path: PathBuf,
    request: InferRequest,
    inputs: HashMap<String, Port>,
    precision: String,
}

impl CompiledGraph {
    pub(super) fn compile(
        runtime: &mut Runtime,
        xml: &Path,
        options: &CompileOptions<'_>,
    ) -> Result<Self, EngineError> {
        runtime.check_device(options.device)?;
        check_precision(runtime, options)?;
        let failed = |verb: &'static str| {
            move |error: openvino::InferenceError| EngineError::Graph {
                path: xml.to_owned(),
                verb,
                detail: error.to_string(),
            }
        };
        let device = DeviceType::from(options.device);
        let threads = options.threads.map(|threads| threads.to_string());
        let mut properties = Vec::new();
        if options.precision != Precision::Auto {
            properties.push((
                RwPropertyKey::HintInferencePrecision,
                options.precision.name(),
            ));
        }
        if options.device == "CPU" {
            if options.precision == Precision::F32 {
                // Otherwise int8 weights bring dynamically quantised activations with them.
                properties.push((
                    RwPropertyKey::Other("DYNAMIC_QUANTIZATION_GROUP_SIZE".into()),
                    "0",
                ));
            }
            if let Some(threads) = &threads {
                properties.push((RwPropertyKey::InferenceNumThreads, threads.as_str()));
            }
        }
        runtime
            .core
            .set_properties(&device, properties)
            .map_err(|error| EngineError::Runtime(error.to_string()))?;

        let model = read(&mut runtime.core, xml)?;
        let mut compiled = runtime
            .core
            .compile_model(&model, device)
            .map_err(failed("compiled"))?;
        let mut inputs = HashMap::new();
        for name in options.inputs {
            if let Ok(node) = compiled.get_input_by_name(name) {
                inputs.insert((*name).to_owned(), port(&node).map_err(failed("compiled"))?);
            }
        }
        let precision = compiled
            .get_property(&PropertyKey::Rw(RwPropertyKey::HintInferencePrecision))
            .map_or_else(
                |_| options.precision.name().to_owned(),
                std::borrow::Cow::into_owned,
            );
        let request = compiled
            .create_infer_request()
            .map_err(failed("compiled"))?;
        Ok(Self {
            path: xml.to_owned(),
            request,
            inputs,
            precision,
        })
    }

    /// The arithmetic in force, by the device's own word.
    pub fn precision(&self) -> &str {
        &self.precision
    }

    fn failed(&self, error: &openvino::InferenceError) -> EngineError {
        EngineError::Inference {
            graph: self.path.display().to_string(),
            detail: error.to_string(),
        }
    }
}

fn check_precision(runtime: &Runtime, options: &CompileOptions<'_>) -> Result<(), EngineError> {
    if matches!(options.precision, Precision::Auto | Precision::F32)
        || options.device.starts_with("AUTO")
    {
        return Ok(());
    }
    let devices = runtime.devices()?;
    let device = devices.iter().find(|device| {
        device.name == options.device || device.name.starts_with(&format!("{}.", options.device))
    });
    match device {
        Some(device)
            if !device
                .capabilities
                .iter()
                .any(|can| can == capability(options.precision)) =>
        {
            Err(EngineError::UnsupportedPrecision {
                device: options.device.to_owned(),
                precision: options.precision.name(),
                available: device.capabilities.join(", "),
            })
        }
        _ => Ok(()),
    }
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
            .map_err(|error| self.failed(&error))?;
        let mut stopping = false;
        loop {
            match self.request.wait(POLL_MILLISECONDS) {
                Ok(()) => break,
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
        if stopping {
            return Err(EngineError::Cancelled);
        }
        let output = self
            .request
            .get_output_tensor_by_index(0)
            .map_err(|error| self.failed(&error))?;
        copy_out(&output, &self.path)
    }
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
    let values = match output.get_element_type().map_err(runtime)? {
        ElementType::F32 => output.get_data::<f32>().map_err(runtime)?.to_vec(),
        ElementType::F16 => output
            .get_data::<u16>()
            .map_err(runtime)?
            .iter()
            .map(|&bits| f16::from_bits(bits).to_f32())
            .collect(),
        ElementType::Bf16 => output
            .get_data::<u16>()
            .map_err(runtime)?
            .iter()
            .map(|&bits| bf16::from_bits(bits).to_f32())
            .collect(),
        other => {
            return Err(EngineError::ElementType {
                tensor: format!("output of {}", path.display()),
                expected: "f32, f16 or bf16",
                got: other.to_string(),
            });
        }
    };
    Ok(Tensor::f32(shape, values))
}
