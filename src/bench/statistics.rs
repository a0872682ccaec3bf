//! The little statistics of few samples: nothing here assumes how they are spread.

use serde::{Deserialize, Serialize};

/// Where a handful of samples lies. All of nothing is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many samples.
    pub n: usize,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Median absolute deviation from the median, as it is (not scaled to a normal distribution's deviation).
    pub mad: f64,
}

impl Spread {
    /// Of finite samples.
    pub fn of(samples: &[f64]) -> Self {
        let middle = median(samples);
        let deviations: Vec<f64> = samples.iter().map(|value| (value - middle).abs()).collect();
        let fold = |pick: fn(f64, f64) -> f64| samples.iter().copied().reduce(pick);
        Self {
            n: samples.len(),
            median: middle,
            min: fold(f64::min).unwrap_or_default(),
            max: fold(f64::max).unwrap_or_default(),
            mad: median(&deviations),
        }
    }
}

/// The middle value; zero of nothing.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_the_ends_and_the_deviation() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 100.0]);
        let expected = Spread {
            n: 4,
            median: 3.0,
            min: 1.0,
            max: 100.0,
            mad: 1.5,
        };
        assert_eq!(spread, expected);
        assert!((Spread::of(&[5.0, 7.0, 6.0]).median - 6.0).abs() < f64::EPSILON);
    }

    #[test]
    fn of_nothing_all_is_zero() {
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
