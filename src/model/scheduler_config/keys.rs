//! Typed access to the keys of a `scheduler_config.json`, each refusal naming the key. It knows no scheduler.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::super::python_json::from_python;
use super::{Betas, Prediction, SchedulerConfigError, TrainingNoise};

/// Training timesteps beyond any checkpoint, and small enough for a table of them.
const MAX_TRAIN_TIMESTEPS: usize = 100_000;
/// Below this, 1 - beta is 1 in f32 and a timestep would have no noise at all.
const LEAST_BETA: f64 = 1e-7;

/// The file's keys. A key that is absent or `null` takes its default.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File(Map<String, Value>);

impl File {
    /// Reads the text of a file.
    pub(super) fn from_json(text: &str) -> Result<Self, SchedulerConfigError> {
        from_python(text)
            .map(Self)
            .map_err(SchedulerConfigError::Syntax)
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there with nothing in it.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(Value::is_null)
    }

    fn number(&self, key: &'static str, default: f64) -> Result<f64, SchedulerConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => as_number(value).ok_or_else(|| unsupported(key, value, "a number")),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "torch rounds it to f32 as well"
    )]
    pub(super) fn positive(
        &self,
        key: &'static str,
        default: f64,
    ) -> Result<f32, SchedulerConfigError> {
        let number = self.number(key, default)?;
        if number > 0.0 && number <= 1e6 {
            Ok(number as f32)
        } else {
            Err(unsupported(key, number, "a number above 0 up to 1e6"))
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "torch compares it in f32 as well"
    )]
    pub(super) fn lambda_min_clipped(&self) -> Result<f32, SchedulerConfigError> {
        let key = "lambda_min_clipped";
        let number = self.number(key, f64::NEG_INFINITY)?;
        if number.is_nan() || number > 0.0 {
            return Err(unsupported(key, number, "-Infinity or a number up to 0"));
        }
        Ok(number as f32)
    }

    pub(super) fn count(
        &self,
        key: &'static str,
        default: usize,
        (least, most): (usize, usize),
    ) -> Result<usize, SchedulerConfigError> {
        let supported = || format!("a whole number from {least} to {most}");
        let count = match self.value(key) {
            None => default,
            Some(value) => value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| unsupported(key, value, supported()))?,
        };
        if (least..=most).contains(&count) {
            Ok(count)
        } else {
            Err(unsupported(key, count, supported()))
        }
    }

    pub(super) fn flag(
        &self,
        key: &'static str,
        default: bool,
    ) -> Result<bool, SchedulerConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| unsupported(key, value, "true or false")),
        }
    }

    pub(super) fn refuse_flags(&self, keys: &[&'static str]) -> Result<(), SchedulerConfigError> {
        for &key in keys {
            if self.flag(key, false)? {
                return Err(unsupported(key, true, "false"));
            }
        }
        Ok(())
    }

    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        default: Option<&'static str>,
        options: &[(&'static str, T)],
    ) -> Result<T, SchedulerConfigError> {
        let found = match self.value(key) {
            None => default,
            Some(value) => value.as_str().or(Some("")),
        };
        options
            .iter()
            .find(|(name, _)| Some(*name) == found)
            .map(|&(_, option)| option)
            .ok_or_else(|| {
                let names: Vec<&str> = options.iter().map(|&(name, _)| name).collect();
                match self.value(key) {
                    Some(value) => unsupported(key, value, names.join(", ")),
                    None => unsupported(key, "absent", names.join(", ")),
                }
            })
    }

    pub(super) fn prediction(&self) -> Result<Prediction, SchedulerConfigError> {
        self.choice(
            "prediction_type",
            Some("epsilon"),
            &[
                ("epsilon", Prediction::Epsilon),
                ("sample", Prediction::Sample),
                ("v_prediction", Prediction::Velocity),
            ],
        )
    }

    pub(super) fn training_noise(
        &self,
        default_schedule: &'static str,
        default_range: (f64, f64),
    ) -> Result<TrainingNoise, SchedulerConfigError> {
        let num_train_timesteps =
            self.count("num_train_timesteps", 1000, (2, MAX_TRAIN_TIMESTEPS))?;
        let betas = match self.value("trained_betas") {
            Some(value) => Betas::Trained(trained_betas(value, num_train_timesteps)?),
            None => self.made_betas(default_schedule, default_range)?,
        };
        Ok(TrainingNoise {
            num_train_timesteps,
            betas,
            rescale_betas_zero_snr: self.flag("rescale_betas_zero_snr", false)?,
        })
    }

    fn made_betas(
        &self,
        default_schedule: &'static str,
        default_range: (f64, f64),
    ) -> Result<Betas, SchedulerConfigError> {
        let start = self.number("beta_start", default_range.0)?;
        if !(LEAST_BETA..1.0).contains(&start) {
            return Err(unsupported("beta_start", start, "1e-7 or more, below 1"));
        }
        let end = self.number("beta_end", default_range.1)?;
        if !(start..1.0).contains(&end) {
            let supported = format!("at least beta_start ({start}), below 1");
            return Err(unsupported("beta_end", end, supported));
        }
        self.choice(
            "beta_schedule",
            Some(default_schedule),
            &[
                ("linear", &Betas::Linear { start, end }),
                ("scaled_linear", &Betas::ScaledLinear { start, end }),
                ("squaredcos_cap_v2", &Betas::SquaredCosine),
            ],
        )
        .cloned()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "torch keeps the table in f32 as well"
)]
fn trained_betas(value: &Value, length: usize) -> Result<Vec<f32>, SchedulerConfigError> {
    let key = "trained_betas";
    let found: &[Value] = value.as_array().map_or(&[], Vec::as_slice);
    if found.len() != length {
        let supported = format!("null, or as many numbers as num_train_timesteps ({length})");
        return Err(unsupported(key, value, supported));
    }
    found
        .iter()
        .map(|beta| {
            as_number(beta)
                .filter(|number| (LEAST_BETA..1.0).contains(number))
                .map(|number| number as f32)
                .ok_or_else(|| unsupported(key, beta, "numbers of 1e-7 or more, below 1"))
        })
        .collect()
}

/// A JSON number, or one of Python's three that [`from_python`] made a string of.
fn as_number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// The refusal of a key, its value shortened.
pub(super) fn unsupported(
    key: &'static str,
    found: impl Display,
    supported: impl Into<String>,
) -> SchedulerConfigError {
    const SHOWN: usize = 60;
    let found = found.to_string();
    let mut shown: String = found.chars().take(SHOWN).collect();
    if shown.len() < found.len() {
        shown.push('…');
    }
    SchedulerConfigError::Unsupported {
        key,
        found: shown,
        supported: supported.into(),
    }
}
