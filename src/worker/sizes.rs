//! Which sizes were drawn before: the first picture of a size waits while the runtime prepares its kernels.
//!
//! The networks are compiled once, with free height and width. What OpenVINO's CPU plugin makes for a new size are kernels and
//! buffers, in the first step that has it: nothing that restarts anything, and told here, so that nobody has to guess.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::{Generated, ImageSize};
use crate::telemetry::Metrics;

/// Widths and heights that were drawn by these compiled networks, in pixels: 12,769 at most from 256 to 2048 in steps of 16.
#[derive(Debug, Default)]
pub(super) struct Sizes(BTreeSet<(u32, u32)>);

impl Sizes {
    /// Nothing but what warming up has drawn.
    pub(super) fn new(warm: Option<ImageSize>) -> Self {
        Self(warm.into_iter().map(sides).collect())
    }

    /// Takes in a picture, and tells of it when it is the first of its size.
    pub(super) fn drawn(&mut self, picture: &Generated, metrics: &Metrics) {
        let size = picture.receipt.drawn_size;
        if !self.0.insert(sides(size)) {
            return;
        }
        let prepared = preparation(&picture.timings.steps);
        metrics.size_prepared(prepared);
        tracing::info!(
            %size,
            preparation_seconds = prepared.as_secs_f64(),
            "the first picture of this size: its kernels are prepared now"
        );
    }
}

fn sides(size: ImageSize) -> (u32, u32) {
    (size.width_px(), size.height_px())
}

/// What the first step took beyond the quickest of the others; nothing where there are no others.
fn preparation(steps: &[Duration]) -> Duration {
    match steps.split_first() {
        Some((first, others)) => others
            .iter()
            .min()
            .map_or(Duration::ZERO, |usual| first.saturating_sub(*usual)),
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preparation_is_what_the_first_step_took_beyond_the_quickest_other() {
        let steps = |millis: &[u64]| -> Vec<Duration> {
            millis.iter().copied().map(Duration::from_millis).collect()
        };
        for (taken, expected) in [
            (&[][..], 0),
            (&[90], 0),
            (&[90, 20, 10, 30], 80),
            (&[10, 20], 0),
        ] {
            let expected = Duration::from_millis(expected);
            assert_eq!(preparation(&steps(taken)), expected, "{taken:?}");
        }
    }
}
