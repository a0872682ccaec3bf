//! The little statistics that the table needs.

use std::time::Duration;

/// The value below which the part `quantile` (0 to 1) lies: the nearest rank. Zero of nothing.
pub fn quantile(values: &[Duration], quantile: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (quantile * sorted.len() as f64).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is at most the length"
    )]
    let index = (rank as usize).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// The largest. Zero of nothing.
pub fn longest(values: &[Duration]) -> Duration {
    values.iter().max().copied().unwrap_or_default()
}

/// The slope of the line that fits `(x, y)` best by least squares.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|&(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|&(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points
        .iter()
        .map(|&(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let variance: f64 = points.iter().map(|&(x, _)| (x - mean_x).powi(2)).sum();
    covariance / variance
}
