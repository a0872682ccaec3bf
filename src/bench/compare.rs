//! Two models, turn by turn: the ratio of each pair, and the middle of them.
//!
//! Turns of the two alternate, each in a process of its own, so that what the machine does meanwhile meets both. The ratio
//! of a pair is free of it as far as it is slow; the median of the pairs forgives one pair that was not.

use serde::{Deserialize, Serialize};

use super::statistics::median;
use super::{CaseReport, Report, SCHEMA};

/// Both models, and how they compare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The machine's matmul peak in FLOP/s; none where it was not measured.
    pub matmul_flops_per_second: Option<f64>,
    /// Of the model of `--model`, a report a turn.
    pub model: Vec<Report>,
    /// Of the model of `--against`, a report a turn.
    pub against: Vec<Report>,
    /// One for each size and stage.
    pub ratios: Vec<Ratio>,
}

/// How many times as long the other model takes: above 1, that of `--model` is faster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Width × height in pixels.
    pub size: String,
    /// The stage; `step` and `whole` beside them.
    pub stage: String,
    /// Median seconds of the model of `--model` in each turn.
    pub seconds: Vec<f64>,
    /// Those of the other one.
    pub against_seconds: Vec<f64>,
    /// Pair by pair.
    pub pairs: Vec<f64>,
    /// The middle of the pairs.
    pub median: f64,
}

/// Puts the turns of both together; the shorter list ends it.
pub fn compare(model: Vec<Report>, against: Vec<Report>) -> Comparison {
    let cases = model.first().map_or(0, |report| report.cases.len());
    let mut ratios = Vec::new();
    for case in 0..cases {
        let Some(first) = model[0].cases.get(case) else {
            break;
        };
        for stage in names(first) {
            let (seconds, against_seconds): (Vec<f64>, Vec<f64>) = model
                .iter()
                .zip(&against)
                .filter_map(|(one, other)| {
                    let [one, other] =
                        [one, other].map(|report| seconds(report.cases.get(case)?, &stage));
                    Some((one?, other?))
                })
                .unzip();
            let pairs: Vec<f64> = seconds
                .iter()
                .zip(&against_seconds)
                .map(|(one, other)| other / one)
                .collect();
            ratios.push(Ratio {
                size: first.size.clone(),
                stage,
                median: median(&pairs),
                seconds,
                against_seconds,
                pairs,
            });
        }
    }
    Comparison {
        schema: SCHEMA,
        matmul_flops_per_second: None,
        model,
        against,
        ratios,
    }
}

/// The three networks' stages, a step, and the whole; what is left takes milliseconds in which ratios say nothing.
fn names(case: &CaseReport) -> Vec<String> {
    case.stages
        .iter()
        .chain([&case.step, &case.whole])
        .filter(|stage| stage.flops.is_some())
        .map(|stage| stage.name.clone())
        .collect()
}

/// The median of a stage.
fn seconds(case: &CaseReport, stage: &str) -> Option<f64> {
    case.stages
        .iter()
        .chain([&case.step, &case.whole])
        .find(|report| report.name == stage)
        .map(|report| report.spread.median)
}
