//! Finds and loads the OpenVINO runtime, and asks it what this machine has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openvino::{Core, DeviceType, PropertyKey, RwPropertyKey};

use super::compiled::{CompileOptions, CompiledGraph};
use super::scarcity::{Scarcity, check_addresses};
use super::{EngineError, Port};
use crate::files;

/// The oldest runtime whose IR reader and CPU plugin are known to take our graphs.
const OLDEST: (u32, u32, &str) = (2025, 1, "2025.1");
/// What the runtime's library is called, without version.
const LIBRARY: &str = if cfg!(target_os = "macos") {
    "libopenvino_c.dylib"
} else {
    "libopenvino_c.so"
};

/// The loaded runtime. OpenVINO's library is loaded once for each process and never unloaded. Clones are the same runtime, for
/// networks that are compiled later; as properties belong to devices, compile on one thread at a time, and with
/// [`Runtime::another`] beside it.
#[derive(Clone)]
pub struct Runtime {
    core: Arc<Mutex<Core>>,
    library: PathBuf,
    version: String,
    before: Arc<Mutex<Properties>>,
}

/// The properties that were changed, by device and key.
type Properties = BTreeMap<(String, String), Property>;

/// A property that was changed. What is in force is kept here, as some can be set and not be asked for.
#[derive(Clone)]
struct Property {
    before: String,
    now: String,
}

/// What `pixart info` tells of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `CPU`, `GPU.0`, ….
    pub name: String,
    /// What its maker calls it.
    pub full_name: String,
    /// Precisions and features, by OpenVINO's names.
    pub capabilities: Vec<String>,
    /// The precision that it computes in when none is asked for.
    pub default_precision: String,
}

impl Runtime {
    /// Loads the runtime from the first of `folders` that has it. An entry may also be the library itself.
    ///
    /// # Errors
    /// When none has it, it does not load, or it is too old.
    pub fn load(folders: &[PathBuf]) -> Result<Self, EngineError> {
        super::give_back_large_blocks();
        let library = folders
            .iter()
            .find_map(|folder| find_library(folder))
            .ok_or_else(|| EngineError::RuntimeNotFound {
                folders: folders.to_vec(),
            })?;
        let broken = |detail: String| {
            let what = format!("{} does not load", library.display());
            Scarcity::error(what, &detail).unwrap_or_else(|| EngineError::RuntimeBroken {
                path: library.clone(),
                detail,
            })
        };
        check_addresses()?;
        openvino_sys::library::load_from(library.clone()).map_err(broken)?;
        let version = openvino::version();
        let numbers: Vec<u32> = version
            .parts()
            .take(2)
            .filter_map(|part| part.parse().ok())
            .collect();
        if numbers.as_slice() < [OLDEST.0, OLDEST.1].as_slice() {
            return Err(EngineError::RuntimeTooOld {
                path: library,
                got: version.build_number,
                needed: OLDEST.2,
            });
        }
        let core = Core::new().map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            core: Arc::new(Mutex::new(core)),
            version: short_version(&version.build_number),
            library,
            before: Arc::default(),
        })
    }

    /// The same library with devices' properties of its own, as they are here now: a network can be compiled with it on another
    /// thread meanwhile.
    ///
    /// # Errors
    /// When the runtime cannot be started a second time.
    pub fn another(&self) -> Result<Self, EngineError> {
        let core = Core::new().map_err(|error| EngineError::Runtime(error.to_string()))?;
        let mut other = Self {
            core: Arc::new(Mutex::new(core)),
            before: Arc::default(),
            ..self.clone()
        };
        let changed = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        for ((device, key), property) in changed.iter() {
            let key = RwPropertyKey::Other(key.clone().into());
            other.set(device, key, Some(&property.now))?;
        }
        drop(changed);
        Ok(other)
    }

    /// Held for one call: what has panicked meanwhile has left nothing half done here.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Version of the runtime, such as `2026.4.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it was loaded from.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The devices of this machine.
    ///
    /// # Errors
    /// When the runtime cannot tell.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, EngineError> {
        let names = self.device_names()?;
        Ok(names
            .into_iter()
            .map(|name| DeviceInfo {
                full_name: self.property(&name, "FULL_DEVICE_NAME").trim().to_owned(),
                capabilities: self.capabilities(&name),
                default_precision: self.precision_of(&name),
                name,
            })
            .collect())
    }

    fn device_names(&self) -> Result<Vec<String>, EngineError> {
        let core = self.core();
        let devices = core
            .available_devices()
            .map_err(|error| EngineError::Runtime(error.to_string()))?;
        Ok(devices
            .iter()
            .map(|device| device.as_ref().to_owned())
            .collect())
    }

    /// The devices that `device` stands for: itself, or with `AUTO` and `AUTO:…` those it chooses from.
    pub(super) fn devices_beneath(&self, device: &str) -> Result<Vec<String>, EngineError> {
        let there = self.device_names()?;
        if device == "AUTO" && !there.is_empty() {
            return Ok(there);
        }
        let list = device.strip_prefix("AUTO:").unwrap_or(device);
        let known = |name: &str| {
            there
                .iter()
                .any(|there| there == name || there.split('.').next() == Some(name))
        };
        if list.split(',').all(known) {
            return Ok(list.split(',').map(str::to_owned).collect());
        }
        if there.is_empty() {
            return Err(self.no_device(list));
        }
        Err(EngineError::UnknownDevice {
            device: device.chars().take(40).collect(),
            available: there.join(", "),
        })
    }

    /// Why there is no device, where even the processor is none: its plugin does not load.
    fn no_device(&self, asked: &str) -> EngineError {
        let name = asked.split(['.', ',']).next().unwrap_or_default();
        let name = if name == "AUTO" { "CPU" } else { name };
        let key = PropertyKey::Other("FULL_DEVICE_NAME".into());
        let told = self.core().get_property(&DeviceType::from(name), &key);
        let detail = told
            .err()
            .map_or_else(String::new, |error| error.to_string());
        let what = format!("the device {name} does not load");
        Scarcity::error(what, &detail).unwrap_or_else(|| EngineError::NoDevice {
            library: self.library.clone(),
            detail: detail.trim().to_owned(),
        })
    }

    /// What a device can, by OpenVINO's names.
    pub(super) fn capabilities(&self, device: &str) -> Vec<String> {
        self.property(device, "OPTIMIZATION_CAPABILITIES")
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    /// The arithmetic that a device is set to.
    pub(super) fn precision_of(&self, device: &str) -> String {
        self.property(device, "INFERENCE_PRECISION_HINT")
    }

    fn property(&self, device: &str, key: &'static str) -> String {
        self.core()
            .get_property(&DeviceType::from(device), &PropertyKey::Other(key.into()))
            .unwrap_or_default()
    }

    /// Sets a property of a device for what is compiled next; nothing puts back what it was before the first change, as
    /// properties outlive the network that they were set for.
    pub(super) fn set(
        &mut self,
        device: &str,
        key: RwPropertyKey,
        value: Option<&str>,
    ) -> Result<(), EngineError> {
        let slot = (device.to_owned(), key.as_ref().to_owned());
        let mut core = self.core();
        let mut changed = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match (value, changed.get_mut(&slot)) {
            (None, None) => return Ok(()),
            (None, Some(property)) => {
                property.now.clone_from(&property.before);
                property.before.clone()
            }
            (Some(value), Some(property)) => {
                value.clone_into(&mut property.now);
                value.to_owned()
            }
            (Some(value), None) => {
                let before = core
                    .get_property(&DeviceType::from(device), &key.clone().into())
                    .unwrap_or_default();
                let now = value.to_owned();
                changed.insert(slot, Property { before, now });
                value.to_owned()
            }
        };
        core.set_property(&DeviceType::from(device), &key, &value)
            .map_err(|error| EngineError::Runtime(error.to_string()))
    }

    /// Has the runtime keep what it compiles for `device` from here on in `folder`, and take it from there the next time.
    /// `small` leaves out the weights, which are then read from the IR again.
    ///
    /// # Errors
    /// When the device is not there or has no such cache.
    pub fn keep_compiled(
        &mut self,
        device: &str,
        folder: &Path,
        small: bool,
    ) -> Result<(), EngineError> {
        let folder = folder
            .to_str()
            .ok_or_else(|| EngineError::Runtime(format!("{} is not UTF-8", folder.display())))?;
        let mode = if small {
            "OPTIMIZE_SIZE"
        } else {
            "OPTIMIZE_SPEED"
        };
        for device in self.devices_beneath(device)? {
            self.set(&device, RwPropertyKey::CacheDir, Some(folder))?;
            self.set(&device, RwPropertyKey::CacheMode, Some(mode))?;
        }
        Ok(())
    }

    /// Reads and compiles the IR at `xml`, whose `.bin` lies beside it.
    ///
    /// # Errors
    /// When the device or precision is not there, or the IR cannot be read or compiled.
    pub fn compile(
        &mut self,
        xml: &Path,
        options: &CompileOptions<'_>,
    ) -> Result<CompiledGraph, EngineError> {
        CompiledGraph::compile(self, xml, options)
    }

    /// Reads the IR at `xml` without compiling it and tells its ports by name, inputs then outputs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn inspect(&mut self, xml: &Path) -> Result<(NamedPorts, NamedPorts), EngineError> {
        let failed =
            |error: openvino::InferenceError| EngineError::graph(xml, "read", error.to_string());
        let model = read(&mut self.core(), xml)?;
        let named = |node: openvino::Node| -> Result<(String, Port), EngineError> {
            Ok((
                node.get_name().map_err(failed)?,
                port(&node).map_err(failed)?,
            ))
        };
        let inputs = (0..model.get_inputs_len().map_err(failed)?)
            .map(|index| named(model.get_input_by_index(index).map_err(failed)?))
            .collect::<Result<_, _>>()?;
        let outputs = (0..model.get_outputs_len().map_err(failed)?)
            .map(|index| named(model.get_output_by_index(index).map_err(failed)?))
            .collect::<Result<_, _>>()?;
        Ok((inputs, outputs))
    }
}

/// Ports with the name that the runtime gives first.
pub type NamedPorts = Vec<(String, Port)>;

/// Reads the IR at `xml`, whose `.bin` lies beside it.
pub(super) fn read(core: &mut Core, xml: &Path) -> Result<openvino::Model, EngineError> {
    let failed = |detail: String| EngineError::graph(xml, "read", detail);
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| failed("its path is not UTF-8".to_owned()))
    };
    let bin = xml.with_extension("bin");
    for file in [xml, &bin] {
        // The runtime opens them by their names, and would wait for a FIFO.
        files::open(file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    }
    core.read_model_from_file(&text(xml)?, &text(&bin)?)
        .map_err(|error| failed(error.to_string()))
}

/// Element type and dimensions of a port.
pub(super) fn port(node: &openvino::Node) -> Result<Port, openvino::InferenceError> {
    let element = node.get_element_type()?.to_string().to_lowercase();
    let shape = node.get_partial_shape()?;
    // A port of unknown rank has a negative one; asking such a shape for its dimensions would panic.
    let dims = if shape.get_rank().get_max() < 0 {
        Vec::new()
    } else {
        shape
            .get_dimensions()
            .iter()
            .map(|dim| {
                (dim.get_min() == dim.get_max())
                    .then(|| usize::try_from(dim.get_max()).ok())
                    .flatten()
            })
            .collect()
    };
    Ok(Port { element, dims })
}

/// The runtime's library in `folder`, or `folder` itself where it is a file: the unversioned name of an installation,
/// or the newest versioned one of the Python wheel.
fn find_library(folder: &Path) -> Option<PathBuf> {
    if folder.is_file() {
        return Some(folder.to_owned());
    }
    let plain = folder.join(LIBRARY);
    if plain.is_file() {
        return Some(plain);
    }
    let mut versioned: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("libopenvino_c."))
        })
        .collect();
    versioned.sort();
    versioned.pop()
}

/// `2026.4.1-19432-abcdef` → `2026.4.1`.
fn short_version(build: &str) -> String {
    build.split('-').next().unwrap_or(build).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheels_versioned_library_is_found_and_the_newest_wins() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libopenvino_c.so.2620",
            "libopenvino_c.so.2641",
            "libopenvino.so.2641",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find_library(folder.path()).unwrap();
        assert!(found.ends_with("libopenvino_c.so.2641"), "{found:?}");
    }

    #[test]
    fn a_missing_runtime_says_what_to_type() {
        let Err(error) = Runtime::load(&[PathBuf::from("/nowhere/openvino")]) else {
            panic!("there is no such folder");
        };
        let text = error.to_string();
        assert!(text.contains("/nowhere/openvino"), "{text}");
        assert!(text.contains("make runtime"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
