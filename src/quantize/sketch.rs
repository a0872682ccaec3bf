//! How many values lie where: a histogram of any number of them in the space of a few hundred bins.
//!
//! A bin is the first bits of an f32: its sign, its exponent, and six of its mantissa. So bins are 1/64 to 1/128 of their values
//! wide wherever these lie, no range has to be known beforehand, and the same values in any order give the same bins on every
//! machine: no logarithm is computed.
//!
//! The idea of bins that grow with their values: Masson, Rim and Lee 2019, "DDSketch".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of the mantissa that a bin does not tell.
const UNTOLD_BITS: u32 = 23 - 6;

/// How many values lie in each bin. Those of zero are in bin 0, others in that of their magnitude's first bits, with their sign.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sketch(BTreeMap<i16, u64>);

impl Sketch {
    /// Adds finite values.
    pub(super) fn add(&mut self, values: &[f32]) {
        // A row of one value after the other would be looked for in the tree; sorted, a bin is looked for once.
        let mut bins: Vec<i16> = values.iter().map(|&value| bin(value)).collect();
        bins.sort_unstable();
        for alike in bins.chunk_by(i16::eq) {
            *self.0.entry(alike[0]).or_default() += alike.len() as u64;
        }
    }

    /// The value that `share` of all values do not exceed, within 1/128 of it; 0 where there are none.
    pub(super) fn quantile(&self, share: f64) -> f32 {
        let total: u64 = self.0.values().sum();
        let wanted = share * total as f64;
        let mut seen = 0;
        let reached = self.0.iter().find(|&(_, count)| {
            seen += count;
            seen as f64 >= wanted
        });
        // Rounding may ask for a little more than there are.
        reached
            .or(self.0.last_key_value())
            .map_or(0.0, |(&bin, _)| middle(bin))
    }
}

fn bin(value: f32) -> i16 {
    // 14 bits are left of a magnitude.
    let magnitude = (value.abs().to_bits() >> UNTOLD_BITS) as i16;
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The middle of a bin. Bin 0, whose values are below 2e-40, has that of zero.
fn middle(bin: i16) -> f32 {
    if bin == 0 {
        return 0.0;
    }
    let first_bits = u32::from(bin.unsigned_abs()) << UNTOLD_BITS;
    let magnitude = f32::from_bits(first_bits | 1 << (UNTOLD_BITS - 1));
    if bin < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_hundred_numbers_are_their_hundredths() {
        let mut sketch = Sketch::default();
        let values: Vec<f32> = (1_u8..=100).map(|value| f32::from(value) - 50.0).collect();
        sketch.add(&values);
        for (share, expected) in [
            (0.0, -49.0),
            (0.01, -49.0),
            (0.5, 0.0),
            (0.9, 40.0),
            (1.0, 50.0),
        ] {
            let found = sketch.quantile(share);
            let error = (found - expected).abs();
            assert!(error <= expected.abs() / 128.0, "{share}: {found}");
        }
        assert!(Sketch::default().quantile(0.5).abs() < f32::MIN_POSITIVE);
    }

    #[test]
    fn bins_of_real_ranges_are_few() {
        let mut sketch = Sketch::default();
        let values: Vec<f32> = (1_u16..60_000)
            .map(|value| f32::from(value) / 1e3)
            .collect();
        sketch.add(&values);
        assert!(sketch.0.len() < 1100, "{}", sketch.0.len());
    }

    proptest! {
        #[test]
        fn a_bin_tells_its_values_within_a_128th(value in prop::num::f32::NORMAL) {
            let told = middle(bin(value));
            prop_assert!(told.is_finite());
            prop_assert!((told - value).abs() <= value.abs() / 128.0, "{value} became {told}");
        }

        #[test]
        fn bins_are_in_the_order_of_their_values(one in any::<f32>(), other in any::<f32>()) {
            prop_assume!(one.is_finite() && other.is_finite() && one <= other);
            prop_assert!(bin(one) <= bin(other));
            prop_assert!(middle(bin(one)) <= middle(bin(other)));
        }

        #[test]
        fn the_order_and_the_grouping_of_values_do_not_matter(
            mut values in proptest::collection::vec(-1e6_f32..1e6, 0..60),
            cut in 0_usize..60,
        ) {
            let mut one = Sketch::default();
            one.add(&values);
            values.reverse();
            let (first, rest) = values.split_at(cut.min(values.len()));
            let mut other = Sketch::default();
            other.add(first);
            other.add(rest);
            prop_assert_eq!(one, other);
        }
    }
}
