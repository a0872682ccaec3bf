//! The new model's folder: quantised components written and proven, everything else taken over, a manifest that tells all of it.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::component::{Component, ComponentOptions, Written};
use super::plan::Observed;
use super::proof::{check_kernels, inputs_of};
use super::{Progress, QuantizeError};
use crate::config::Precision;
use crate::convert::{Attention, ConvertError, Staging};
use crate::engine::{EngineError, ProfileOptions, Runtime};
use crate::model::{
    CalibrationEntry, ComponentEntry, Manifest, ModelDirectory, Part, check_free_space, hex,
};
use crate::shown::one_line;

/// A component that is to be quantised.
pub struct Work {
    /// Which.
    pub part: Part,
    /// Its network.
    pub component: Component,
    /// How.
    pub options: ComponentOptions,
    /// What calibration knows of its points; nothing where none is needed.
    pub observed: Vec<Observed>,
}

/// What the new model is made of.
pub struct Assembly<'a> {
    /// The model that is quantised.
    pub source: &'a ModelDirectory,
    /// Its components that change.
    pub work: Vec<Work>,
    /// Where ranges come from.
    pub calibration: Option<CalibrationEntry>,
    /// Where the new model goes.
    pub output: &'a Path,
    /// What it is called; as the source unless given.
    pub name: Option<String>,
    /// The device that it is proven on.
    pub device: &'a str,
    /// The arithmetic of what stays in floats.
    pub precision: Precision,
}

impl Assembly<'_> {
    /// Writes the model.
    ///
    /// # Errors
    /// When the output cannot be written, an operation has no integer kernel, or the caller asked to stop. Nothing half-made is
    /// left in any case.
    pub fn write(
        self,
        runtime: &Runtime,
        progress: &dyn Progress,
    ) -> Result<ModelDirectory, QuantizeError> {
        let _attention = Attention::begin(progress);
        let mut staging = Staging::begin(self.output, progress)?;
        let bytes = self
            .work
            .iter()
            .map(|work| work.component.quantized_bytes(&work.options))
            .sum();
        check_free_space(&staging.path(""), bytes).map_err(ConvertError::from)?;
        let mut manifest = self.source.manifest().clone();
        for (name, entry) in &self.source.manifest().files {
            let replaced = self
                .work
                .iter()
                .any(|work| name == work.part.xml() || *name == work.part.bin());
            if !replaced {
                staging.adopt(self.source.path(), name, entry)?;
            }
        }
        for work in &self.work {
            let bin = staging.path(&work.part.bin());
            let written = work
                .component
                .write(&work.options, &work.observed, &bin, progress)?;
            staging.record(&work.part.bin(), &written.bin);
            staging.write(work.part.xml(), written.xml.as_bytes())?;
            self.prove(work, &written, &staging.path(work.part.xml()), runtime)?;
            note(&mut manifest, work, written, self.calibration.as_ref());
        }
        if progress.cancelled() {
            return Err(QuantizeError::Cancelled);
        }
        if let Some(name) = self.name {
            manifest.name = one_line(&name).into_owned();
        }
        manifest.calibration = self.calibration;
        // What was measured is the other model's.
        manifest.measured = Vec::new();
        env!("CARGO_PKG_VERSION").clone_into(&mut manifest.pixart);
        runtime.version().clone_into(&mut manifest.openvino);
        manifest.files = staging.files().clone();
        Ok(staging.publish(&manifest)?)
    }

    fn prove(
        &self,
        work: &Work,
        written: &Written,
        xml: &Path,
        runtime: &Runtime,
    ) -> Result<(), QuantizeError> {
        if written.in_integers.is_empty() {
            return Ok(());
        }
        let inputs = inputs_of(work.part, self.source.manifest());
        let inputs: Vec<_> = inputs
            .iter()
            .map(|(name, tensor)| (*name, tensor))
            .collect();
        let options = ProfileOptions {
            device: self.device,
            precision: self.precision,
            runs: 1,
        };
        let profile = runtime.profile(xml, options, &inputs)?;
        check_kernels(work.part.name(), &written.in_integers, &profile)
    }
}

/// Tells the manifest of a component that was quantised.
fn note(
    manifest: &mut Manifest,
    work: &Work,
    written: Written,
    calibration: Option<&CalibrationEntry>,
) {
    fn change<Spec>(
        entry: &mut ComponentEntry<Spec>,
        work: &Work,
        written: Written,
        calibration: Option<&CalibrationEntry>,
    ) {
        let mut digest = Sha256::new();
        digest.update(&entry.fingerprint);
        digest.update(format!("{:?}", work.options));
        digest.update(calibration.map_or("", |calibration| &calibration.digest));
        entry.fingerprint = hex(&digest.finalize());
        entry.weights = work.options.stored();
        entry.quantization = Some(written.quantization);
    }
    match work.part {
        Part::TextEncoder => change(&mut manifest.text_encoder, work, written, calibration),
        Part::Transformer => change(&mut manifest.transformer, work, written, calibration),
        Part::VaeDecoder => change(&mut manifest.vae_decoder, work, written, calibration),
        Part::TinyVaeDecoder => {
            if let Some(entry) = &mut manifest.tiny_vae_decoder {
                change(entry, work, written, calibration);
            }
        }
    }
}

impl From<ConvertError> for QuantizeError {
    fn from(error: ConvertError) -> Self {
        match error {
            ConvertError::Cancelled => Self::Cancelled,
            error => Self::Output(error),
        }
    }
}

impl From<EngineError> for QuantizeError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Cancelled,
            error => Self::Engine(error),
        }
    }
}
