//! `scheduler/scheduler_config.json`: which noise a checkpoint was trained with, and how diffusers walks it.
//!
//! Keys and defaults are those of `LCMScheduler` and `DPMSolverMultistepScheduler` in diffusers 0.42. The two share keys
//! but not defaults, and a request may ask for the one that is not the checkpoint's own. Then diffusers'
//! `Other.from_config(scheduler.config)` carries over the keys that stand in the file and takes the other's default for
//! those that do not; so the file is kept as it is here and read once for each scheduler. Unknown keys are ignored;
//! keys that change the arithmetic in a way that is not built in are refused, by name.
//!
//! The file is Python's idea of JSON, with bare `NaN`, `Infinity` and `-Infinity`.

mod keys;

use serde_json::Value;
use thiserror::Error;

use self::keys::{File, unsupported};
use crate::domain::SchedulerKind;

/// A scheduler configuration that cannot be followed. The messages name the key, what was found and what is supported; the file's name
/// is added by whoever opened it.
#[derive(Debug, Error)]
pub enum SchedulerConfigError {
    /// Not JSON, even as Python writes it.
    #[error("it is not a JSON object that can be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A scheduler of diffusers that is not built in. Its file has the noise that the model was trained with under the same keys.
    #[error(
        "_class_name is {found}, which is not built in: write \"DPMSolverMultistepScheduler\" there, as diffusers' from_config does, to draw with dpmsolver++ by the same noise, or \"LCMScheduler\" for a student of few steps; or take the scheduler_config.json of another checkpoint of this model"
    )]
    Foreign {
        /// The class, as JSON, shortened.
        found: String,
    },
    /// A key whose value is of another type, out of range, or an option that is not built in.
    #[error("{key} is {found}: supported is {supported}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value as JSON, shortened; `absent` when there is none.
        found: String,
        /// What would do, in words.
        supported: String,
    },
}

/// A checkpoint's scheduler configuration: its own scheduler is valid, the other one is checked when it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    kind: SchedulerKind,
    file: File,
}

/// The noise that a model was trained with: a table of betas, one for each training timestep.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingNoise {
    /// Length of the table, 1 to 100,000.
    pub num_train_timesteps: usize,
    /// How the table is made.
    pub betas: Betas,
    /// Whether the table is rescaled so that the last timestep is pure noise (arXiv 2305.08891, algorithm 1).
    pub rescale_betas_zero_snr: bool,
}

/// How the table of betas is made. `start` and `end` are within (0, 1), `start <= end`.
#[derive(Debug, Clone, PartialEq)]
pub enum Betas {
    /// Evenly spaced from `start` to `end`.
    Linear {
        /// Beta of timestep 0.
        start: f64,
        /// Beta of the last timestep.
        end: f64,
    },
    /// Squares of evenly spaced values from `sqrt(start)` to `sqrt(end)` (`scaled_linear`, of latent diffusion).
    ScaledLinear {
        /// Beta of timestep 0.
        start: f64,
        /// Beta of the last timestep.
        end: f64,
    },
    /// From a squared cosine, capped at 0.999 (`squaredcos_cap_v2`, of Glide).
    SquaredCosine,
    /// Given one by one (`trained_betas`), each within (0, 1).
    Trained(Vec<f32>),
}

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise: every published PixArt.
    Epsilon,
    /// The sample without noise.
    Sample,
    /// The velocity `alpha * noise - sigma * sample`.
    Velocity,
}

/// How DPM-Solver++'s timesteps are spread over the training timesteps (arXiv 2305.08891, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly, both ends included.
    Linspace,
    /// Multiples of a whole number, from the low end.
    Leading,
    /// Multiples of a fraction, from the high end.
    Trailing,
}

/// The second order formula of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SolverType {
    /// Midpoint rule, the default.
    Midpoint,
    /// Heun's.
    Heun,
}

/// The noise level after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalSigma {
    /// None at all, the default.
    Zero,
    /// That of training timestep 0.
    SigmaMin,
}

/// What `LCMScheduler` needs. Its `steps_offset`, `timestep_spacing` and `set_alpha_to_one` have no effect in diffusers.
#[derive(Debug, Clone, PartialEq)]
pub struct LcmConfig {
    /// The noise table.
    pub noise: TrainingNoise,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Length of the schedule that the student was distilled on, 1 to `num_train_timesteps`: the steps are taken from it.
    pub original_inference_steps: usize,
    /// Factor on the timestep in the boundary condition, positive.
    pub timestep_scaling: f32,
    /// When set, the predicted sample is clamped to ± this much (`clip_sample`, `clip_sample_range`).
    pub clip_sample: Option<f32>,
}

/// What `DPMSolverMultistepScheduler` needs, `algorithm_type` being `dpmsolver++`.
#[derive(Debug, Clone, PartialEq)]
pub struct DpmSolverConfig {
    /// The noise table.
    pub noise: TrainingNoise,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Order of the solver, 1 or 2.
    pub order: u8,
    /// The second order formula.
    pub solver_type: SolverType,
    /// Whether the last step is of order 1 when there are fewer than 15 steps.
    pub lower_order_final: bool,
    /// Whether the last step is of order 1 always.
    pub euler_at_final: bool,
    /// The noise level after the last step.
    pub final_sigma: FinalSigma,
    /// Half log signal-to-noise ratio below which timesteps are left out; −∞ for none.
    pub lambda_min_clipped: f32,
    /// How the timesteps are spread.
    pub spacing: Spacing,
    /// Added to every timestep of [`Spacing::Leading`].
    pub steps_offset: usize,
}

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`.
    ///
    /// # Errors
    /// When it is not JSON as Python writes it, or asks for something that is not built in.
    pub fn from_json(text: &str) -> Result<Self, SchedulerConfigError> {
        let file = File::from_json(text)?;
        let kind = file
            .choice(
                "_class_name",
                None,
                &[
                    ("LCMScheduler", SchedulerKind::Lcm),
                    (
                        "DPMSolverMultistepScheduler",
                        SchedulerKind::DpmSolverPlusPlus,
                    ),
                ],
            )
            .map_err(|error| match error {
                SchedulerConfigError::Unsupported { found, .. }
                    if file.value("_class_name").is_some_and(Value::is_string) =>
                {
                    SchedulerConfigError::Foreign { found }
                }
                error => error,
            })?;
        let config = Self { kind, file };
        match kind {
            SchedulerKind::Lcm => config.lcm().map(drop)?,
            SchedulerKind::DpmSolverPlusPlus => config.dpm_solver().map(drop)?,
        }
        Ok(config)
    }

    /// The checkpoint's own scheduler.
    pub fn kind(&self) -> SchedulerKind {
        self.kind
    }

    /// The file read as `LCMScheduler` reads it.
    ///
    /// # Errors
    /// When a key has a value that is not supported.
    pub fn lcm(&self) -> Result<LcmConfig, SchedulerConfigError> {
        let file = &self.file;
        file.refuse_flags(&["thresholding"])?;
        let noise = file.training_noise("scaled_linear", (0.000_85, 0.012))?;
        let longest = noise.num_train_timesteps;
        Ok(LcmConfig {
            prediction: file.prediction()?,
            original_inference_steps: file.count("original_inference_steps", 50, (1, longest))?,
            timestep_scaling: file.positive("timestep_scaling", 10.0)?,
            clip_sample: if file.flag("clip_sample", false)? {
                Some(file.positive("clip_sample_range", 1.0)?)
            } else {
                None
            },
            noise,
        })
    }

    /// The file read as `DPMSolverMultistepScheduler` reads it.
    ///
    /// # Errors
    /// When a key has a value that is not supported.
    pub fn dpm_solver(&self) -> Result<DpmSolverConfig, SchedulerConfigError> {
        let file = &self.file;
        file.refuse_flags(&[
            "thresholding",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_lu_lambdas",
            "use_flow_sigmas",
            "use_dynamic_shifting",
        ])?;
        // diffusers runs "deis" as dpmsolver++ and the solver types of UniPC and DEIS as midpoint.
        let is_deis = file.choice(
            "algorithm_type",
            Some("dpmsolver++"),
            &[("dpmsolver++", false), ("deis", true)],
        )?;
        if let Some(found) = file.value("variance_type") {
            return Err(unsupported("variance_type", found, "null"));
        }
        let noise = file.training_noise("linear", (0.0001, 0.02))?;
        let last_timestep = noise.num_train_timesteps - 1;
        Ok(DpmSolverConfig {
            prediction: file.prediction()?,
            order: if file.count("solver_order", 2, (1, 2))? == 1 {
                1
            } else {
                2
            },
            solver_type: file.choice(
                "solver_type",
                Some("midpoint"),
                &[
                    ("midpoint", SolverType::Midpoint),
                    ("heun", SolverType::Heun),
                    ("logrho", SolverType::Midpoint),
                    ("bh1", SolverType::Midpoint),
                    ("bh2", SolverType::Midpoint),
                ],
            )?,
            lower_order_final: file.flag("lower_order_final", true)?,
            euler_at_final: file.flag("euler_at_final", false)?,
            final_sigma: final_sigma(file, is_deis)?,
            lambda_min_clipped: file.lambda_min_clipped()?,
            spacing: file.choice(
                "timestep_spacing",
                Some("linspace"),
                &[
                    ("linspace", Spacing::Linspace),
                    ("leading", Spacing::Leading),
                    ("trailing", Spacing::Trailing),
                ],
            )?,
            steps_offset: file.count("steps_offset", 0, (0, last_timestep))?,
            noise,
        })
    }
}

/// The noise level after the last step. diffusers takes no null for it, and no zero where the algorithm is called deis.
fn final_sigma(file: &File, is_deis: bool) -> Result<FinalSigma, SchedulerConfigError> {
    let key = "final_sigmas_type";
    if file.is_null(key) {
        return Err(unsupported(key, "null", "zero, sigma_min"));
    }
    let options = [
        ("zero", FinalSigma::Zero),
        ("sigma_min", FinalSigma::SigmaMin),
    ];
    let found = file.choice(key, Some("zero"), &options)?;
    if is_deis && found == FinalSigma::Zero {
        let supported =
            "sigma_min, as algorithm_type is \"deis\"; or write \"dpmsolver++\" for that";
        return Err(unsupported(key, "\"zero\" or absent", supported));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dpm(keys: &str) -> Result<SchedulerConfig, SchedulerConfigError> {
        SchedulerConfig::from_json(&format!(
            r#"{{"_class_name": "DPMSolverMultistepScheduler"{keys}}}"#
        ))
    }

    fn lcm(keys: &str) -> Result<SchedulerConfig, SchedulerConfigError> {
        SchedulerConfig::from_json(&format!(r#"{{"_class_name": "LCMScheduler"{keys}}}"#))
    }

    #[test]
    fn absent_keys_take_the_defaults_of_the_scheduler_that_reads_them() {
        let config = lcm("").unwrap();
        assert_eq!(config.kind(), SchedulerKind::Lcm);
        let own = config.lcm().unwrap();
        assert_eq!(
            own.noise.betas,
            Betas::ScaledLinear {
                start: 0.000_85,
                end: 0.012
            }
        );
        assert_eq!(own.original_inference_steps, 50);
        assert_eq!(own.clip_sample, None);
        let other = config.dpm_solver().unwrap();
        assert_eq!(
            other.noise.betas,
            Betas::Linear {
                start: 0.0001,
                end: 0.02
            }
        );
        assert_eq!(other.spacing, Spacing::Linspace);
        assert_eq!(other.order, 2);
    }

    #[test]
    fn keys_that_stand_in_the_file_are_carried_over_to_the_other_scheduler() {
        let config = lcm(
            r#", "beta_schedule": "linear", "beta_start": 0.0002, "beta_end": 0.03,
                "timestep_spacing": "leading", "steps_offset": 1, "prediction_type": "v_prediction""#,
        )
        .unwrap();
        let other = config.dpm_solver().unwrap();
        assert_eq!(
            other.noise.betas,
            Betas::Linear {
                start: 0.0002,
                end: 0.03
            }
        );
        assert_eq!(other.spacing, Spacing::Leading);
        assert_eq!(other.steps_offset, 1);
        assert_eq!(other.prediction, Prediction::Velocity);
    }

    #[test]
    fn what_only_the_other_scheduler_refuses_is_refused_when_it_is_asked_for() {
        let config = lcm(r#", "use_karras_sigmas": true"#).unwrap();
        assert!(config.lcm().is_ok());
        let message = config.dpm_solver().unwrap_err().to_string();
        assert_eq!(message, "use_karras_sigmas is true: supported is false");
    }

    #[test]
    fn infinity_as_python_writes_it_is_read_and_strings_are_left_alone() {
        let config = dpm(r#", "lambda_min_clipped": -Infinity, "note": "a \"-Infinity\" NaN \\""#);
        let config = config.unwrap();
        let value = config.file.value("note").unwrap();
        assert_eq!(value, r#"a "-Infinity" NaN \"#);
        let clipped = config.dpm_solver().unwrap().lambda_min_clipped;
        assert!(clipped.is_infinite() && clipped < 0.0);
        assert_eq!(
            dpm(r#", "lambda_min_clipped": -5.5"#)
                .unwrap()
                .dpm_solver()
                .unwrap()
                .lambda_min_clipped
                .to_bits(),
            (-5.5_f32).to_bits()
        );
    }

    #[test]
    fn refusals_name_the_key_and_what_is_supported() {
        for (keys, key) in [
            (r#""use_karras_sigmas": true"#, "use_karras_sigmas"),
            (r#""use_flow_sigmas": true"#, "use_flow_sigmas"),
            (r#""use_karras_sigmas": "yes""#, "use_karras_sigmas"),
            (r#""thresholding": true"#, "thresholding"),
            (r#""algorithm_type": "sde-dpmsolver++""#, "algorithm_type"),
            (r#""algorithm_type": 3"#, "algorithm_type"),
            (r#""solver_order": 3"#, "solver_order"),
            (r#""solver_order": 2.5"#, "solver_order"),
            (r#""solver_type": "rk4""#, "solver_type"),
            (r#""variance_type": "learned_range""#, "variance_type"),
            (r#""prediction_type": "flow_prediction""#, "prediction_type"),
            (r#""timestep_spacing": "loose""#, "timestep_spacing"),
            (r#""steps_offset": -1"#, "steps_offset"),
            (r#""steps_offset": 1000"#, "steps_offset"),
            (r#""num_train_timesteps": 0"#, "num_train_timesteps"),
            (r#""num_train_timesteps": 100001"#, "num_train_timesteps"),
            (r#""num_train_timesteps": 1e400"#, ""),
            (r#""beta_start": NaN"#, "beta_start"),
            (r#""beta_start": -0.1"#, "beta_start"),
            (r#""beta_start": 0.5"#, "beta_end"),
            (r#""beta_end": Infinity"#, "beta_end"),
            (r#""beta_end": 1.0"#, "beta_end"),
            (r#""beta_schedule": "sigmoid""#, "beta_schedule"),
            (r#""trained_betas": [0.1, 0.2]"#, "trained_betas"),
            (
                r#""num_train_timesteps": 2, "trained_betas": [0.1, NaN]"#,
                "trained_betas",
            ),
            (r#""lambda_min_clipped": NaN"#, "lambda_min_clipped"),
            (r#""final_sigmas_type": null"#, "final_sigmas_type"),
            (r#""algorithm_type": "deis""#, "final_sigmas_type"),
            (
                r#""algorithm_type": "deis", "final_sigmas_type": "zero""#,
                "final_sigmas_type",
            ),
        ] {
            let error = dpm(&format!(", {keys}")).unwrap_err().to_string();
            let start = if key.is_empty() {
                "it is not a JSON object".to_owned()
            } else {
                format!("{key} is ")
            };
            assert!(error.starts_with(&start), "{keys}: {error}");
        }
        dpm(r#", "algorithm_type": "deis", "final_sigmas_type": "sigma_min""#).unwrap();
        for (keys, key) in [
            (
                r#""original_inference_steps": 0"#,
                "original_inference_steps",
            ),
            (
                r#""num_train_timesteps": 40"#,
                "original_inference_steps is 50: supported is a whole number from 1 to 40",
            ),
            (r#""timestep_scaling": 0"#, "timestep_scaling"),
            (
                r#""clip_sample": true, "clip_sample_range": -1"#,
                "clip_sample_range",
            ),
        ] {
            let error = lcm(&format!(", {keys}")).unwrap_err().to_string();
            assert!(error.contains(key), "{keys}: {error}");
        }
    }

    #[test]
    fn a_scheduler_that_is_not_built_in_is_refused_by_name() {
        for text in ["{}", r#"{"_class_name": "EulerDiscreteScheduler"}"#] {
            let error = SchedulerConfig::from_json(text).unwrap_err().to_string();
            assert!(
                error.contains("LCMScheduler") && error.contains("DPMSolverMultistepScheduler"),
                "{error}"
            );
        }
        assert!(matches!(
            SchedulerConfig::from_json("[]"),
            Err(SchedulerConfigError::Syntax(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in r#"[-{}\[\]":,\\NaInfity0-9.é ]{0,60}"#) {
            let _ = SchedulerConfig::from_json(&text);
        }
    }
}
