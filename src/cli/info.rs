//! `pixart info`: the runtime, the devices, the model.

use anyhow::Result;
use serde_json::{Value, json};

use super::progress::{ConvertProgress, Interrupt};
use super::{Common, ModelFlags, say};
use crate::app::Model;
use crate::engine::Runtime;
use crate::model::{Manifest, QualityEntry};

/// Tell the runtime's version, the devices, instruction set and precision in force, and what the model is.
#[derive(Debug, clap::Args)]
pub(super) struct Info {
    #[command(flatten)]
    model: ModelFlags,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let app = common.app(self.model.settings()?)?;
        let mut runtime = app.runtime()?;
        let machine = json!({
            "pixart": env!("CARGO_PKG_VERSION"),
            "openvino": {
                "version": runtime.version(),
                "library": runtime.library().display().to_string(),
            },
            "devices": devices(&runtime)?,
            "instruction_set": instruction_set(),
        });
        if !self.json {
            // Before the model, which may be what is wrong.
            say(&readable_machine(&machine))?;
        }
        let interrupt = Interrupt::listen()?;
        let progress = ConvertProgress::new(interrupt.clone(), self.json);
        let model = app.model(&mut runtime, self.model.variant(), &progress)?;
        progress.finish();
        interrupt.check()?;
        self.model.warn_of_unused(&model);
        let loaded = app.load(&mut runtime, &model)?;
        let precision = &loaded.pipeline.planner().facts().precision;
        let device = &app.settings().openvino.device;
        if self.json {
            let mut page = machine;
            page["device"] = json!(device);
            page["precision"] = json!(precision);
            page["model"] = model_page(&model)?;
            say(&serde_json::to_string_pretty(&page)?)?;
        } else {
            say(&format!("in force         {precision} on {device}"))?;
            say(&readable_model(&model))?;
        }
        Ok(())
    }
}

fn devices(runtime: &Runtime) -> Result<Value> {
    let devices: Vec<Value> = runtime
        .devices()?
        .into_iter()
        .map(|device| {
            json!({
                "name": device.name,
                "full_name": device.full_name,
                "capabilities": device.capabilities,
                "default_precision": device.default_precision,
            })
        })
        .collect();
    Ok(Value::Array(devices))
}

/// The extensions that decide how fast OpenVINO's CPU kernels are, as far as this processor has them.
fn instruction_set() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        [
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("AVX512", is_x86_feature_detected!("avx512f")),
            ("AVX512-VNNI", is_x86_feature_detected!("avx512vnni")),
            ("AVX512-BF16", is_x86_feature_detected!("avx512bf16")),
            ("AVX-VNNI", is_x86_feature_detected!("avxvnni")),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec!["NEON"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}

fn model_page(model: &Model) -> Result<Value> {
    Ok(match model {
        Model::Own(directory) => json!({
            "directory": directory.path().display().to_string(),
            "digest": directory.manifest().digest(),
            "manifest": serde_json::to_value(directory.manifest())?,
        }),
        Model::Foreign(foreign) => json!({
            "text_encoder": foreign.text_encoder.display().to_string(),
            "transformer": foreign.transformer.display().to_string(),
            "vae_decoder": foreign.vae_decoder.display().to_string(),
            "checkpoint": foreign.checkpoint.display().to_string(),
            "traced_for_tokens": foreign.frozen_grid,
            "digest": foreign.digest()?,
        }),
    })
}

fn readable_machine(page: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| {
        let items: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        items.join(" ")
    };
    let mut lines = vec![
        format!("pixart           {}", text(&page["pixart"])),
        format!(
            "OpenVINO         {}  {}",
            text(&page["openvino"]["version"]),
            text(&page["openvino"]["library"])
        ),
    ];
    for device in page["devices"].as_array().into_iter().flatten() {
        lines.push(format!(
            "device {:<9} {}  ({})",
            text(&device["name"]),
            text(&device["full_name"]),
            list(&device["capabilities"])
        ));
    }
    lines.push(format!(
        "instruction set  {}",
        list(&page["instruction_set"])
    ));
    lines.join("\n")
}

fn readable_model(model: &Model) -> String {
    let lines = match model {
        Model::Own(directory) => manifest_lines(
            directory.manifest(),
            &directory.path().display().to_string(),
        ),
        Model::Foreign(foreign) => {
            let mut lines = vec![
                format!(
                    "model            made elsewhere: {}",
                    foreign.transformer.display()
                ),
                format!("checkpoint       {}", foreign.checkpoint.display()),
            ];
            if let Some((rows, columns)) = foreign.frozen_grid {
                lines.push(format!("traced for       {rows}x{columns} image tokens (rows x columns) and no other size"));
            }
            lines
        }
    };
    lines.join("\n")
}

fn manifest_lines(manifest: &Manifest, path: &str) -> Vec<String> {
    let (text, transformer, vae) = (
        &manifest.text_encoder,
        &manifest.transformer,
        &manifest.vae_decoder,
    );
    let defaults = &manifest.defaults;
    let mut lines = vec![
        format!("model            {}  {path}", manifest.name),
        format!("digest           {}", manifest.digest()),
        format!(
            "made by          pixart {}, checked with OpenVINO {}",
            manifest.pixart, manifest.openvino
        ),
        format!(
            "text encoder     {}: {} layers of {}, {} tokens",
            text.words(),
            text.spec.num_layers,
            text.spec.d_model,
            manifest.pipeline.max_tokens()
        ),
        format!(
            "transformer      {}: {} layers of {}, {} heads{}",
            transformer.words(),
            transformer.spec.num_layers,
            transformer.spec.inner_dim(),
            transformer.spec.num_attention_heads,
            if transformer.spec.use_additional_conditions {
                ", micro-conditions"
            } else {
                ""
            }
        ),
        format!(
            "VAE decoder      {}: channels {:?}",
            vae.words(),
            vae.spec.block_out_channels
        ),
        format!(
            "draws            {}x{} px unless asked otherwise{}",
            defaults.width_px,
            defaults.height_px,
            if defaults.resolution_binning {
                ", at the nearest of its aspect bins"
            } else {
                ""
            }
        ),
    ];
    lines.extend(manifest.quality.as_ref().map(measured));
    lines.push("files".to_owned());
    lines.extend(manifest.files.iter().map(|(name, file)| {
        format!(
            "  {:<34} {:>12} bytes  sha256 {}",
            name, file.bytes, file.sha256
        )
    }));
    lines
}

/// How near its pictures are to another model's.
fn measured(quality: &QualityEntry) -> String {
    let faster = quality
        .times_faster
        .map_or_else(String::new, |times| format!(", {times:.2} times as fast"));
    format!(
        "measured         {:.1} dB (least {:.1}) of {} pictures against {} in {}{faster}, on {}, {} cores",
        quality.median_psnr_db,
        quality.least_psnr_db,
        quality.pictures,
        quality.against.get(..12).unwrap_or(&quality.against),
        quality.against_precision,
        quality.cpu,
        quality.cores
    )
}
