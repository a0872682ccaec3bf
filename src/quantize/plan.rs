//! What becomes of each operation: from a mode and the ranges that calibration saw to quantisers, factors and formats.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::points::{Kind, Operation, Points};
use crate::model::WeightsFormat;

/// Lowest of 256 levels by the highest, where a range is symmetric: -128 by 127.
const LOWEST_BY_HIGHEST: f32 = 128.0 / 127.0;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsChoice {
    /// 8 bits, one scale a row.
    Int8,
    /// 4 bits around zero, one scale for each group of so many inputs; rows that the group does not divide get 8 bits.
    Int4Symmetric {
        /// Inputs that share a scale.
        group: usize,
    },
    /// 4 bits with a zero point of each group's own.
    Int4Asymmetric {
        /// Inputs that share a scale and a zero point.
        group: usize,
    },
}

impl WeightsChoice {
    /// As manifests have it.
    pub(super) fn stored(self) -> WeightsFormat {
        match self {
            Self::Int8 => WeightsFormat::Int8,
            Self::Int4Symmetric { .. } | Self::Int4Asymmetric { .. } => WeightsFormat::Int4,
        }
    }

    /// Inputs that share a scale; a row's where there is none.
    pub(super) fn group(self) -> Option<usize> {
        match self {
            Self::Int8 => None,
            Self::Int4Symmetric { group } | Self::Int4Asymmetric { group } => Some(group),
        }
    }
}

/// 256 levels between two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantizer {
    pub(super) low: f32,
    pub(super) high: f32,
}

impl Quantizer {
    /// Covers `low..=high`: unsigned where nothing is below zero, symmetric otherwise, as the device's kernels want it.
    pub(super) fn covering(low: f32, high: f32) -> Self {
        if low >= 0.0 {
            return Self { low: 0.0, high };
        }
        let high = high.abs().max(low.abs());
        Self {
            low: -high * LOWEST_BY_HIGHEST,
            high,
        }
    }
}

/// What becomes of one operation.
#[derive(Debug, Clone)]
pub(super) struct Treatment {
    /// How its weights are stored; as they are where there is nothing.
    pub(super) weights: Option<WeightsChoice>,
    /// Of each activation.
    pub(super) activations: Vec<Option<Quantizer>>,
    /// Factors of the channels that move from the activation into the weights.
    pub(super) smoothing: Option<Rc<[f32]>>,
}

impl Treatment {
    /// Everything stays.
    pub(super) fn none(operation: &Operation) -> Self {
        Self {
            weights: None,
            activations: vec![None; operation.activations.len()],
            smoothing: None,
        }
    }

    /// Whether the operation is to be computed in integers.
    pub(super) fn in_integers(&self) -> bool {
        self.activations.iter().any(Option::is_some)
    }
}

/// What calibration knows of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The least value that counts, by the rule of the caller.
    pub low: f32,
    /// The greatest.
    pub high: f32,
    /// The range by the rule is so many times that of the very extremes.
    pub share: f32,
    /// Largest magnitude of each channel; empty where nobody looked.
    pub channels: Vec<f32>,
}

/// Which operations are computed in integers, and how weights are stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) linear: WeightsChoice,
    pub(super) convolution: WeightsChoice,
    pub(super) embedding: WeightsChoice,
    /// Activations of linear layers.
    pub(super) linear_activations: bool,
    /// Activations of convolutions.
    pub(super) convolution_activations: bool,
    /// Queries and keys.
    pub(super) attention: bool,
    /// Exponent of the activations in their balance with the weights; none leaves channels as they are.
    pub(super) smoothing: Option<f32>,
    /// Operations that stay in float, by name.
    pub(super) in_float: BTreeSet<String>,
}

impl Choice {
    /// Whether the activations of an operation are to be integers.
    pub(super) fn computes_in_integers(&self, operation: &Operation) -> bool {
        let kind_does = match operation.kind {
            Kind::Linear => self.linear_activations,
            Kind::Convolution | Kind::TransposedConvolution => self.convolution_activations,
            Kind::Embedding => false,
            Kind::Attention => self.attention,
        };
        kind_does && !self.in_float.contains(&operation.name)
    }
}

/// Plans every operation. `columns` gives the largest magnitude of each input channel of a linear layer's weights.
pub(super) fn plan<E>(
    points: &Points,
    observed: &[Observed],
    choice: &Choice,
    mut columns: impl FnMut(&Operation) -> Result<Vec<f32>, E>,
) -> Result<Vec<Treatment>, E> {
    let mut factors: Vec<Option<Rc<[f32]>>> = vec![None; points.points.len()];
    if let (Some(strength), true) = (choice.smoothing, choice.linear_activations) {
        for (index, point) in points.points.iter().enumerate() {
            if point.channels.is_none() {
                continue;
            }
            let takers: Vec<&Operation> = points
                .operations
                .iter()
                .filter(|operation| {
                    operation
                        .activations
                        .iter()
                        .any(|activation| activation.point == index)
                })
                .collect();
            // One that stays in float would have to take the factors as well.
            if takers
                .iter()
                .any(|taker| choice.in_float.contains(&taker.name))
            {
                continue;
            }
            let mut largest: Vec<f32> = Vec::new();
            for taker in takers {
                let of_taker = columns(taker)?;
                largest.resize(of_taker.len(), 0.0);
                for (largest, of_taker) in largest.iter_mut().zip(of_taker) {
                    *largest = largest.max(of_taker);
                }
            }
            factors[index] = Some(smoothing(&observed[index].channels, &largest, strength).into());
        }
    }
    Ok(points
        .operations
        .iter()
        .map(|operation| treat(operation, observed, choice, &factors))
        .collect())
}

fn treat(
    operation: &Operation,
    observed: &[Observed],
    choice: &Choice,
    factors: &[Option<Rc<[f32]>>],
) -> Treatment {
    if choice.in_float.contains(&operation.name) {
        return Treatment::none(operation);
    }
    let weights = match operation.kind {
        Kind::Linear => Some(choice.linear),
        Kind::Convolution | Kind::TransposedConvolution => Some(choice.convolution),
        Kind::Embedding => Some(choice.embedding),
        Kind::Attention => None,
    };
    let in_integers = choice.computes_in_integers(operation);
    let smoothing = operation
        .activations
        .first()
        .and_then(|activation| factors[activation.point].clone());
    let activations = operation
        .activations
        .iter()
        .map(|activation| {
            in_integers.then(|| quantizer(&observed[activation.point], smoothing.as_deref()))
        })
        .collect();
    Treatment {
        weights,
        activations,
        smoothing: smoothing.filter(|_| in_integers),
    }
}

/// The range of a point behind its factors: known of magnitudes alone, so symmetric unless nothing is below zero.
fn quantizer(observed: &Observed, factors: Option<&[f32]>) -> Quantizer {
    let Some(factors) = factors else {
        return Quantizer::covering(observed.low, observed.high);
    };
    let largest = observed
        .channels
        .iter()
        .zip(factors)
        .fold(0.0_f32, |largest, (channel, factor)| {
            largest.max(channel / factor)
        })
        * observed.share;
    Quantizer::covering(if observed.low < 0.0 { -largest } else { 0.0 }, largest)
}

/// SmoothQuant's factors of channels, `max|x|^α / max|w|^(1 - α)`: dividing activations and multiplying weights by them
/// moves the outliers of activations, which one scale would have to serve, into weights, which have a scale a row.
///
/// `α` between 0 and 1: the higher, the flatter the activations. A channel that is all zero keeps a factor of 1.
/// Source: Xiao et al. 2023, "SmoothQuant", equation 4.
fn smoothing(activations: &[f32], weights: &[f32], alpha: f32) -> Vec<f32> {
    activations
        .iter()
        .zip(weights)
        .map(|(&activation, &weight)| {
            let factor = activation.powf(alpha) / weight.powf(1.0 - alpha);
            if factor.is_finite() && factor > 0.0 {
                factor
            } else {
                1.0
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_of_both_signs_has_zero_among_its_levels() {
        let quantizer = Quantizer::covering(-1.0, 3.0);
        let step = (quantizer.high - quantizer.low) / 255.0;
        let zero = -quantizer.low / step;
        assert!((zero - 128.0).abs() < 1e-3, "{zero}");
        assert!(quantizer.high >= 3.0);
    }

    #[test]
    fn a_range_of_one_sign_spends_every_level_on_it() {
        let quantizer = Quantizer::covering(0.0, 2.0);
        assert_eq!((quantizer.low, quantizer.high), (0.0, 2.0));
    }

    #[test]
    fn with_alpha_one_every_channel_becomes_as_large_as_the_others() {
        let activations = [4.0, 0.5, 100.0];
        let factors = smoothing(&activations, &[1.0, 2.0, 3.0], 1.0);
        for (activation, factor) in activations.iter().zip(factors) {
            assert!((activation / factor - 1.0).abs() < 1e-6);
        }
    }

    proptest! {
        #[test]
        fn factors_are_finite_and_above_zero_whatever_the_channels(
            activations in proptest::collection::vec(0.0_f32..1e30, 8),
            weights in proptest::collection::vec(0.0_f32..1e30, 8),
            alpha in 0.0_f32..=1.0,
        ) {
            for factor in smoothing(&activations, &weights, alpha) {
                prop_assert!(factor.is_finite() && factor > 0.0, "{factor}");
            }
        }
    }
}
