//! The published repositories in diffusers' format: what each of them has, as values.
//!
//! A repository is written as it was saved: with the class names of its time, without the keys that came later, with the tensors
//! that its architecture no longer uses. `docs/synthesize.md` says what was seen and what is inferred, and where.

use super::Storage;
use super::files::Shards;

/// A repository, and the parts that it has.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// OWNER/NAME.
    pub name: &'static str,
    /// The name of before there were others.
    pub alias: Option<&'static str>,
    pub(super) index: Option<Index>,
    pub(super) scheduler: Option<Scheduler>,
    /// The tokenizer comes with it.
    pub(super) text_encoder: Option<TextEncoder>,
    pub(super) transformer: Option<Transformer>,
    pub(super) vae: Option<Vae>,
    /// How all weights are stored.
    pub(super) storage: Storage,
}

/// `model_index.json`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Index {
    pub(super) class: &'static str,
    pub(super) diffusers: &'static str,
}

/// `scheduler_config.json`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scheduler {
    pub(super) kind: SchedulerClass,
    pub(super) diffusers: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SchedulerClass {
    /// `DPMSolverMultistepScheduler` of before `final_sigmas_type`.
    DpmSolver,
    /// With it.
    DpmSolverWithFinalSigmas,
    Lcm,
    Ddpm,
}

/// T5 v1.1 XXL's encoder, the same weights everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TextEncoder {
    pub(super) shards: Shards,
    pub(super) name_or_path: &'static str,
    pub(super) transformers: &'static str,
}

/// Class `Transformer2DModel`, by which all were saved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transformer {
    pub(super) diffusers: &'static str,
    /// Side of the latents.
    pub(super) sample_size: usize,
    /// The key, where the configuration has it.
    pub(super) interpolation_scale: Option<f64>,
    /// The key, where the configuration has it.
    pub(super) use_additional_conditions: Option<bool>,
    /// Rows of `caption_projection.y_embedding`, which diffusers' pipelines never used: the text embedding of no prompt.
    pub(super) y_embedding: Option<usize>,
}

impl Transformer {
    /// What diffusers takes for an absent key.
    pub(super) fn interpolation_scale(self) -> f64 {
        let default = (self.sample_size / 64).max(1) as f64;
        self.interpolation_scale.unwrap_or(default)
    }

    /// What diffusers takes for an absent key.
    pub(super) fn use_additional_conditions(self) -> bool {
        self.use_additional_conditions
            .unwrap_or(self.sample_size == 128)
    }
}

/// `AutoencoderKL`; its attention has the names `to_q`, `to_k`, `to_v` and `to_out.0` everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vae {
    pub(super) diffusers: &'static str,
    pub(super) name_or_path: &'static str,
    pub(super) sample_size: usize,
    pub(super) scaling_factor: f64,
    /// Whether the configuration has `latents_mean` and `latents_std`, both null.
    pub(super) latents_keys: bool,
}

impl Published {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        ALPHA_1024,
        ALPHA_512,
        ALPHA_256,
        ALPHA_SAM_256,
        ALPHA_LCM_1024,
        ALPHA_DMD_512,
        SIGMA_1024,
        SIGMA_512,
        SIGMA_256,
        SIGMA_2K,
        SIGMA_BASE,
    ];

    /// The one with this name, or with this alias.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL
            .iter()
            .find(|published| published.name == name || published.alias == Some(name))
    }

    /// Whether it has everything that drawing takes.
    pub fn is_full(&self) -> bool {
        self.text_encoder.is_some() && self.transformer.is_some() && self.vae.is_some()
    }
}

/// transformers cut shards at 10 GB until 4.35, at 5 GB since.
const TWO_SHARDS: Shards = Shards {
    count: 2,
    at_most_bytes: 10_000_000_000,
};
const FOUR_SHARDS: Shards = Shards {
    count: 4,
    at_most_bytes: 5_000_000_000,
};

const ALPHA_1024: Published = Published {
    name: "PixArt-alpha/PixArt-XL-2-1024-MS",
    alias: None,
    index: Some(Index {
        class: "PixArtAlphaPipeline",
        diffusers: "0.22.0.dev0",
    }),
    scheduler: Some(Scheduler {
        kind: SchedulerClass::DpmSolver,
        diffusers: "0.22.0.dev0",
    }),
    text_encoder: Some(TextEncoder {
        shards: TWO_SHARDS,
        name_or_path: "PixArt-alpha/PixArt-alpha",
        transformers: "4.34.1",
    }),
    transformer: Some(ALPHA_TRANSFORMER),
    vae: Some(Vae {
        diffusers: "0.22.0.dev0",
        name_or_path: "PixArt-alpha/PixArt-alpha",
        sample_size: 256,
        scaling_factor: 0.18215,
        latents_keys: false,
    }),
    storage: Storage::F32,
};

const ALPHA_TRANSFORMER: Transformer = Transformer {
    diffusers: "0.22.0.dev0",
    sample_size: 128,
    interpolation_scale: None,
    use_additional_conditions: None,
    y_embedding: Some(120),
};

const ALPHA_512: Published = Published {
    name: "PixArt-alpha/PixArt-XL-2-512x512",
    transformer: Some(Transformer {
        sample_size: 64,
        ..ALPHA_TRANSFORMER
    }),
    ..ALPHA_1024
};

const ALPHA_256: Published = Published {
    name: "PixArt-alpha/PixArt-XL-2-256x256",
    transformer: Some(Transformer {
        diffusers: "0.26.0.dev0",
        sample_size: 32,
        interpolation_scale: Some(1.0),
        ..ALPHA_TRANSFORMER
    }),
    ..ALPHA_1024
};

const ALPHA_SAM_256: Published = Published {
    name: "PixArt-alpha/PixArt-XL-2-SAM-256x256",
    ..ALPHA_256
};

const ALPHA_LCM_1024: Published = Published {
    name: "PixArt-alpha/PixArt-LCM-XL-2-1024-MS",
    alias: Some("alpha-lcm-xl-2-1024"),
    index: Some(Index {
        class: "PixArtAlphaPipeline",
        diffusers: "0.23.0.dev0",
    }),
    scheduler: Some(Scheduler {
        kind: SchedulerClass::Lcm,
        diffusers: "0.23.0.dev0",
    }),
    text_encoder: Some(TextEncoder {
        shards: FOUR_SHARDS,
        name_or_path: "PixArt-alpha/PixArt-XL-2-1024-MS",
        transformers: "4.36.0.dev0",
    }),
    ..ALPHA_1024
};

const ALPHA_DMD_512: Published = Published {
    name: "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512",
    index: None,
    scheduler: Some(Scheduler {
        kind: SchedulerClass::Ddpm,
        diffusers: "0.27.0.dev0",
    }),
    text_encoder: None,
    transformer: Some(Transformer {
        diffusers: "0.27.0.dev0",
        sample_size: 64,
        interpolation_scale: Some(1.0),
        use_additional_conditions: None,
        y_embedding: None,
    }),
    vae: None,
    ..ALPHA_1024
};

const SIGMA_1024: Published = Published {
    name: "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    alias: None,
    index: Some(Index {
        class: "PixArtSigmaPipeline",
        diffusers: "0.28.0.dev0",
    }),
    scheduler: Some(SIGMA_SCHEDULER),
    text_encoder: Some(SIGMA_TEXT_ENCODER),
    transformer: Some(SIGMA_TRANSFORMER),
    vae: Some(SIGMA_VAE),
    storage: Storage::F32,
};

const SIGMA_SCHEDULER: Scheduler = Scheduler {
    kind: SchedulerClass::DpmSolverWithFinalSigmas,
    diffusers: "0.28.0.dev0",
};

const SIGMA_TEXT_ENCODER: TextEncoder = TextEncoder {
    shards: TWO_SHARDS,
    name_or_path: "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
    transformers: "4.34.1",
};

const SIGMA_TRANSFORMER: Transformer = Transformer {
    diffusers: "0.28.0.dev0",
    sample_size: 128,
    interpolation_scale: Some(2.0),
    use_additional_conditions: Some(false),
    y_embedding: None,
};

const SIGMA_VAE: Vae = Vae {
    diffusers: "0.28.0.dev0",
    name_or_path: "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
    sample_size: 1024,
    scaling_factor: 0.13025,
    latents_keys: true,
};

/// A transformer alone, of another size.
const SIGMA_512: Published = Published {
    name: "PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
    index: None,
    scheduler: None,
    text_encoder: None,
    transformer: Some(Transformer {
        sample_size: 64,
        interpolation_scale: Some(1.0),
        ..SIGMA_TRANSFORMER
    }),
    vae: None,
    ..SIGMA_1024
};

const SIGMA_256: Published = Published {
    name: "PixArt-alpha/PixArt-Sigma-XL-2-256x256",
    transformer: Some(Transformer {
        sample_size: 32,
        interpolation_scale: Some(0.5),
        ..SIGMA_TRANSFORMER
    }),
    ..SIGMA_512
};

const SIGMA_2K: Published = Published {
    name: "PixArt-alpha/PixArt-Sigma-XL-2-2K-MS",
    transformer: Some(Transformer {
        sample_size: 256,
        interpolation_scale: Some(4.0),
        ..SIGMA_TRANSFORMER
    }),
    ..SIGMA_512
};

/// What the transformers alone are completed with.
const SIGMA_BASE: Published = Published {
    name: "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
    transformer: None,
    ..SIGMA_1024
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_repository_is_found_by_its_name_and_no_two_share_one() {
        for published in Published::ALL {
            assert_eq!(Published::named(published.name), Some(published));
        }
        let lcm = Published::named("alpha-lcm-xl-2-1024").unwrap();
        assert_eq!(lcm.name, "PixArt-alpha/PixArt-LCM-XL-2-1024-MS");
        assert_eq!(Published::named("PixArt-alpha/PixArt-alpha"), None);
    }
}
