//! `pixart info`: the runtime, the devices, the model.

use anyhow::Result;
use serde_json::{Value, json};

use super::progress::{ConvertProgress, Interrupt};
use super::{Common, ModelFlags, QualityFlag, say};
use crate::app::{Model, threads};
use crate::domain::Quality;
use crate::engine::Runtime;
use crate::model::{Choice, Measurement, ModelDirectory};
use crate::telemetry::cpu_quota;

/// Tell the runtime's version, the devices, instruction set and precision in force, and what the model is.
#[derive(Debug, clap::Args)]
pub(super) struct Info {
    #[command(flatten)]
    model: ModelFlags,

    #[command(flatten)]
    quality: QualityFlag,

    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let mut flags = self.model.settings()?;
        flags.extend(self.quality.setting());
        let app = common.app(flags)?;
        let mut runtime = app.runtime()?;
        let machine = json!({
            "pixart": env!("CARGO_PKG_VERSION"),
            "openvino": {
                "version": runtime.version(),
                "library": runtime.library().display().to_string(),
            },
            "devices": devices(&runtime)?,
            "instruction_set": app.instruction_set(),
            "threads": {
                "asked_for": threads(&app.settings().openvino),
                "setting": app.settings().openvino.threads,
                "cpu_quota": cpu_quota(),
            },
        });
        if !self.json {
            // Before the model, which may be what is wrong.
            say(&readable_machine(&machine))?;
        }
        let (app, choice) = app.choosing()?;
        let interrupt = Interrupt::listen()?;
        let progress = ConvertProgress::new(interrupt.clone(), self.json);
        let model = app.model(&mut runtime, self.model.notebook_files(), &progress)?;
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
            page["choice"] = choice_page(&choice)?;
            page["model"] = model_page(&model)?;
            say(&serde_json::to_string_pretty(&page)?)?;
        } else {
            say(&format!("in force         {precision} on {device}"))?;
            say(&readable_choice(&choice))?;
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

fn model_page(model: &Model) -> Result<Value> {
    Ok(match model {
        Model::Own(directory) => json!({
            "directory": directory.path().display().to_string(),
            "digest": directory.manifest().digest(),
            "manifest_sha256": directory.manifest_sha256(),
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
    lines.push(format!(
        "threads          {}",
        threads_line(&page["threads"])
    ));
    lines.join("\n")
}

/// How many threads compute on the CPU, and who says so.
fn threads_line(threads: &Value) -> String {
    let quota = threads["cpu_quota"].as_f64().map_or_else(
        || "there is no CPU quota".to_owned(),
        |quota| format!("the CPU quota is {quota:.2} cores"),
    );
    match (
        threads["asked_for"].as_u64(),
        threads["setting"].as_u64() == Some(0),
    ) {
        (Some(number), false) => format!("{number}, by openvino.threads; {quota}"),
        (Some(number), true) => format!("{number}, by the CPU quota; {quota}"),
        (None, _) => format!("the runtime's own number; {quota}"),
    }
}

fn readable_model(model: &Model) -> String {
    let lines = match model {
        Model::Own(directory) => manifest_lines(directory),
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

fn manifest_lines(directory: &ModelDirectory) -> Vec<String> {
    let (manifest, path) = (directory.manifest(), directory.path().display());
    let (text, transformer, vae) = (
        &manifest.text_encoder,
        &manifest.transformer,
        &manifest.vae_decoder,
    );
    let defaults = &manifest.defaults;
    let mut lines = vec![
        format!("model            {}  {path}", manifest.name),
        format!("digest           {}", manifest.digest()),
        directory.manifest_sha256().map_or_else(
            || {
                "manifest         without a checksum of its own, as earlier versions made it: convert or pull the model again for one"
                    .to_owned()
            },
            |sha256| format!("manifest         sha256 {sha256}"),
        ),
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
        manifest.tiny_vae_decoder.as_ref().map_or_else(
            || {
                "tiny decoder     none: 'pixart convert TAESD --output MODEL' gives it one"
                    .to_owned()
            },
            |tiny| {
                format!(
                    "tiny decoder     {}: {} channels, {:?} blocks",
                    tiny.words(),
                    tiny.spec.width(),
                    tiny.spec.num_decoder_blocks
                )
            },
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
    let tiny = manifest.tiny_vae_decoder.as_ref();
    let left_out = [
        ("text encoder", text.unused_tensors.as_ref()),
        ("transformer", transformer.unused_tensors.as_ref()),
        ("VAE decoder", vae.unused_tensors.as_ref()),
        (
            "tiny decoder",
            tiny.and_then(|tiny| tiny.unused_tensors.as_ref()),
        ),
    ];
    lines.extend(left_out.into_iter().filter_map(|(component, unused)| {
        unused.map(|unused| format!("left out         of the {component} {unused}"))
    }));
    lines.extend(manifest.measured.iter().map(measured));
    lines.push("files".to_owned());
    lines.extend(manifest.files.iter().map(|(name, file)| {
        format!(
            "  {:<34} {:>12} bytes  sha256 {}",
            name, file.bytes, file.sha256
        )
    }));
    lines
}

/// What draws, and what does not and why.
fn readable_choice(choice: &Choice) -> String {
    let drawing = match (&choice.variant, choice.in_f32) {
        (Some(variant), _) => format!("the variant {variant}"),
        (None, true) => "the model itself, in f32".to_owned(),
        (None, false) => "the model itself".to_owned(),
    };
    let mut lines = vec![format!("quality          {}: {drawing}", choice.quality)];
    lines.extend(choice.standings.iter().map(|standing| {
        let told = match (&standing.useless, &standing.measured) {
            (Some(reason), _) => reason.clone(),
            (None, measured) => {
                let names: Vec<&str> = standing.qualities.iter().map(|it| it.name()).collect();
                let told = measured.as_ref().map(figures).unwrap_or_default();
                format!("near enough for {}: {told}", names.join(", "))
            }
        };
        format!("variant          {}: {told}", standing.name)
    }));
    lines.join("\n")
}

fn choice_page(choice: &Choice) -> Result<Value> {
    let variants = choice.standings.iter().map(|standing| {
        Ok(json!({
            "name": standing.name,
            "qualities": standing.qualities.iter().copied().map(Quality::name).collect::<Vec<_>>(),
            "useless": standing.useless,
            "measured": serde_json::to_value(&standing.measured)?,
            "measured_elsewhere": serde_json::to_value(&standing.measured_elsewhere)?,
        }))
    });
    Ok(json!({
        "quality": choice.quality.name(),
        "variant": choice.variant,
        "in_f32": choice.in_f32,
        "variants": variants.collect::<Result<Vec<_>>>()?,
    }))
}

/// How near pictures are, and how fast they come.
fn figures(measured: &Measurement) -> String {
    let least = measured
        .least_times_faster
        .map_or_else(String::new, |least| format!(" (worst pair {least:.2})"));
    let faster = measured.times_faster.map_or_else(String::new, |times| {
        format!(", {times:.2} times as fast{least}")
    });
    format!(
        "{:.1} dB (least {:.1}) of {} pictures{faster}",
        measured.median_psnr_db, measured.least_psnr_db, measured.pictures
    )
}

/// How near its pictures are to another model's.
fn measured(quality: &Measurement) -> String {
    let decoder = match quality.decoder.as_str() {
        "full" => String::new(),
        other => format!(" with the {other} decoder"),
    };
    format!(
        "measured         {}{decoder}, against {} in {}, on {}, {} cores",
        figures(quality),
        quality.against.get(..12).unwrap_or(&quality.against),
        quality.against_precision,
        quality.cpu,
        quality.cores
    )
}
