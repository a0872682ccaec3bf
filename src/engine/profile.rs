//! What a device made of a network: each of its nodes with the kernel that ran it and its time.
//!
//! The safe crate has no call for profiling information and no way to its own pointers, so this file speaks to the C library by
//! itself, from the core to the inference, and shares nothing with the rest of the room but the loaded library.

#![expect(
    unsafe_code,
    reason = "the safe crate lacks profiling, and lends no pointers"
)]

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use openvino_sys as sys;

use super::{Elements, EngineError, Runtime, Tensor};
use crate::config::Precision;

/// A node of a compiled network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfiledNode {
    /// Name of the operation that it came from; one that was fused in carries its own as well.
    pub name: String,
    /// What it does, by the device's word, such as `FullyConnected`.
    pub kind: String,
    /// The kernel, with its arithmetic last, such as `brgemm_avx512_I8`.
    pub kernel: String,
    /// Time of its run; none where it did not run, being fused or folded.
    pub time: Option<Duration>,
}

/// How a network is profiled.
#[derive(Debug, Clone, Copy)]
pub struct ProfileOptions<'a> {
    /// `CPU`, `GPU`, ….
    pub device: &'a str,
    /// Arithmetic.
    pub precision: Precision,
    /// Runs that are looked at; one in front of them warms up. The least time of each node counts.
    pub runs: usize,
}

impl Runtime {
    /// Compiles the IR at `xml` for profiling, runs it on `inputs` (of the ports' own types), and tells what ran.
    ///
    /// # Errors
    /// When it cannot be read or compiled, or an input does not fit.
    pub fn profile(
        &self,
        xml: &Path,
        options: ProfileOptions<'_>,
        inputs: &[(&str, &Tensor)],
    ) -> Result<Vec<ProfiledNode>, EngineError> {
        let failed =
            |verb: &'static str| move |detail: String| EngineError::graph(xml, verb, detail);
        let core = Owned::made(
            // SAFETY: the library is loaded, as `self` is there; the pointer is written to by the call.
            |core| unsafe { sys::ov_core_create(core) },
            // SAFETY: freed once, by its one owner.
            |core| unsafe { sys::ov_core_free(core) },
        )
        .map_err(EngineError::Runtime)?;
        let device = text(options.device).map_err(EngineError::Runtime)?;
        let mut properties = vec![("PERF_COUNT", "YES")];
        let precision = self.safe_precision(options.device, options.precision, None, xml);
        if precision != Precision::Auto {
            properties.push(("INFERENCE_PRECISION_HINT", precision.name()));
        }
        for (key, value) in properties {
            let (key, value) = (
                text(key).map_err(EngineError::Runtime)?,
                text(value).map_err(EngineError::Runtime)?,
            );
            // SAFETY: the core is alive, and so are the texts, which the call copies.
            check(unsafe {
                sys::ov_core_set_property(
                    core.pointer,
                    device.as_ptr(),
                    key.as_ptr(),
                    value.as_ptr(),
                )
            })
            .map_err(EngineError::Runtime)?;
        }
        let request = compiled(&core, &device, xml).map_err(failed("compiled"))?;
        let mut nodes: Vec<ProfiledNode> = Vec::new();
        for run in 0..=options.runs.max(1) {
            infer(&request, inputs).map_err(|detail| EngineError::Inference {
                graph: xml.display().to_string(),
                detail,
            })?;
            if run > 0 {
                let found = profile_of(&request).map_err(EngineError::Runtime)?;
                keep_least(&mut nodes, found);
            }
        }
        Ok(nodes)
    }
}

/// The same nodes in the same order every time; the least time of each is the one that nothing disturbed.
fn keep_least(nodes: &mut Vec<ProfiledNode>, found: Vec<ProfiledNode>) {
    if nodes.len() != found.len() {
        *nodes = found;
        return;
    }
    for (node, found) in nodes.iter_mut().zip(found) {
        node.time = node.time.min(found.time).or(node.time);
    }
}

/// Reads and compiles.
fn compiled(
    core: &Owned<sys::ov_core_t>,
    device: &CStr,
    xml: &Path,
) -> Result<Owned<sys::ov_infer_request_t>, String> {
    let path = |path: &Path| text(path.to_str().ok_or("its path is not UTF-8")?);
    let (xml, bin) = (path(xml)?, path(&xml.with_extension("bin"))?);
    let model = Owned::made(
        // SAFETY: the core is alive; the model's pointer is written to by the call.
        |model| unsafe { sys::ov_core_read_model(core.pointer, xml.as_ptr(), bin.as_ptr(), model) },
        // SAFETY: freed once, by its one owner.
        |model| unsafe { sys::ov_model_free(model) },
    )?;
    let compiled = Owned::made(
        // SAFETY: core and model are alive; no properties follow, as their number says.
        |compiled| unsafe {
            sys::ov_core_compile_model(core.pointer, model.pointer, device.as_ptr(), 0, compiled)
        },
        // SAFETY: freed once, by its one owner.
        |compiled| unsafe { sys::ov_compiled_model_free(compiled) },
    )?;
    Owned::made(
        // SAFETY: the compiled model is alive; the request keeps what it needs of it by counting.
        |request| unsafe { sys::ov_compiled_model_create_infer_request(compiled.pointer, request) },
        // SAFETY: freed once, by its one owner.
        |request| unsafe { sys::ov_infer_request_free(request) },
    )
}

/// One inference on tensors that borrow the callers' numbers.
fn infer(
    request: &Owned<sys::ov_infer_request_t>,
    inputs: &[(&str, &Tensor)],
) -> Result<(), String> {
    let mut held = Vec::with_capacity(inputs.len());
    for &(name, values) in inputs {
        let name = text(name)?;
        let mut dims: Vec<i64> = values
            .shape()
            .iter()
            .map(|&dim| i64::try_from(dim).expect("sizes in memory fit i64"))
            .collect();
        let shape = sys::ov_shape_t {
            rank: i64::try_from(dims.len()).expect("ranks are small"),
            dims: dims.as_mut_ptr(),
        };
        let (element, data) = match values.elements() {
            Elements::F32(values) => (sys::ov_element_type_e::F32, values.as_ptr().cast()),
            Elements::I64(values) => (sys::ov_element_type_e::I64, values.as_ptr().cast()),
        };
        let data: *const std::ffi::c_void = data;
        let tensor = Owned::made(
            // SAFETY: the numbers are as many as the shape says, which `Tensor` holds, of that type, and outlive the tensor; an
            // input is read and never written. The shape is copied.
            |tensor| unsafe {
                sys::ov_tensor_create_from_host_ptr(element, shape, data.cast_mut(), tensor)
            },
            // SAFETY: freed once, by its one owner.
            |tensor| unsafe { sys::ov_tensor_free(tensor) },
        )?;
        // SAFETY: request, name and tensor are alive; `held` keeps the tensor until the inference has ended.
        check(unsafe {
            sys::ov_infer_request_set_tensor(request.pointer, name.as_ptr(), tensor.pointer)
        })?;
        held.push(tensor);
    }
    // SAFETY: the request is alive, and this thread is the only one that runs it.
    check(unsafe { sys::ov_infer_request_infer(request.pointer) })
}

/// Copies the profile of the last inference.
fn profile_of(request: &Owned<sys::ov_infer_request_t>) -> Result<Vec<ProfiledNode>, String> {
    let mut list = sys::ov_profiling_info_list_t {
        profiling_infos: ptr::null_mut(),
        size: 0,
    };
    // SAFETY: the request is alive and the list is written to by the call.
    check(unsafe { sys::ov_infer_request_get_profiling_info(request.pointer, &raw mut list) })?;
    let nodes = (0..list.size)
        .map(|index| {
            // SAFETY: the library has filled `size` entries.
            let info = unsafe { &*list.profiling_infos.add(index) };
            let ran = info.status == sys::ov_profiling_info_t_Status::EXECUTED;
            ProfiledNode {
                name: copied(info.node_name),
                kind: copied(info.node_type),
                kernel: copied(info.exec_type),
                time: ran
                    .then(|| Duration::from_micros(u64::try_from(info.real_time).unwrap_or(0))),
            }
        })
        .collect();
    // SAFETY: the list came from the library and nothing of it is used any more.
    unsafe { sys::ov_profiling_info_list_free(&raw mut list) };
    Ok(nodes)
}

/// A text of the library's, copied.
fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the library's texts end with a zero byte and live as long as the list that they are in.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

fn text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("'{}' has a zero byte", text.escape_debug()))
}

/// A status as a result, with what the library has to say.
fn check(status: sys::ov_status_e) -> Result<(), String> {
    if status == sys::ov_status_e::OK {
        return Ok(());
    }
    // SAFETY: the last message is a text of this thread's that stays until the next failure.
    let message = copied(unsafe { sys::ov_get_last_err_msg() });
    Err(if message.is_empty() {
        format!("{status:?}")
    } else {
        message
    })
}

/// A thing of the library's with one owner.
struct Owned<T> {
    pointer: *mut T,
    free: fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes what `make` leaves in the pointer that it is handed.
    fn made(
        make: impl FnOnce(*mut *mut T) -> sys::ov_status_e,
        free: fn(*mut T),
    ) -> Result<Self, String> {
        let mut pointer = ptr::null_mut();
        check(make(&raw mut pointer))?;
        Ok(Self { pointer, free })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        (self.free)(self.pointer);
    }
}
