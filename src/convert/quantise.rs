//! Rows of a linear layer → integer levels and their scales.

use half::f16;

/// Added to a number below 2²², it leaves the number's nearest whole one, ties to even, in the lowest bits: 1.5 · 2²³, whose
/// neighbours are whole numbers apart. In two's complement, as the 1.5 keeps borrows away.
const ROUNDING: f32 = 12_582_912.0;

/// One row → i8 levels and their scale.
///
/// Written for what a compiler makes of it without asking for newer processors: `round_ties_even` would be a call for every
/// number, and a maximum of floats no more than one at a time. The levels are those of `(value / scale).round_ties_even()`.
pub(crate) fn quantise_int8(row: &[f32]) -> (f32, Vec<i8>) {
    // Magnitudes of finite floats order as their bits do.
    let largest = row.iter().fold(0_i32, |largest, value| {
        largest.max((value.to_bits() & 0x7fff_ffff).cast_signed())
    });
    let largest = f32::from_bits(largest.cast_unsigned());
    // A row of zeros still divides.
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lowest byte is the level: no quotient lies beyond ±127"
    )]
    let levels = row
        .iter()
        .map(|value| (value / scale + ROUNDING).to_bits() as i8)
        .collect();
    (scale, levels)
}

/// One group → i4 levels, appended to `packed` two to a byte, and their scale, rounded to f16 before the levels are taken
/// from it.
///
/// The value of largest magnitude becomes exactly -8, the end of the range that has one level more, so the scale takes
/// the opposite of its sign.
pub(crate) fn quantise_int4(group: &[f32], packed: &mut Vec<u8>) -> f16 {
    let extreme = group.iter().fold(0.0_f32, |extreme, &value| {
        if value.abs() > extreme.abs() {
            value
        } else {
            extreme
        }
    });
    let scale = representable(extreme / -8.0);
    let level = |value: f32| {
        #[expect(clippy::cast_possible_truncation, reason = "clamped to -8..=7")]
        let level = (value / scale.to_f32()).round_ties_even().clamp(-8.0, 7.0) as i8;
        level.cast_unsigned() & 0x0f
    };
    packed.extend(
        group
            .chunks_exact(2)
            .map(|pair| level(pair[0]) | level(pair[1]) << 4),
    );
    scale
}

/// A scale as f16 that is never 0 or infinite: groups of zeros still divide.
fn representable(scale: f32) -> f16 {
    let magnitude = scale
        .abs()
        .clamp(f16::MIN_POSITIVE_SUBNORMAL.to_f32(), f16::MAX.to_f32());
    f16::from_f32(magnitude.copysign(scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unpack(packed: &[u8]) -> Vec<f32> {
        packed
            .iter()
            .flat_map(|byte| [byte << 4, byte & 0xf0])
            .map(|nibble| f32::from(nibble.cast_signed() >> 4))
            .collect()
    }

    proptest! {
        #[test]
        fn int8_is_off_by_at_most_half_a_level(
            row in proptest::collection::vec(-10.0_f32..10.0, 1..300),
            exponent in -30_i32..30,
        ) {
            let row: Vec<f32> = row.iter().map(|value| value * 2.0_f32.powi(exponent)).collect();
            let (scale, levels) = quantise_int8(&row);
            for (value, level) in row.iter().zip(levels) {
                let error = (value - f32::from(level) * scale).abs();
                prop_assert!(error <= scale * 0.5001, "{value} became level {level} of {scale}");
            }
        }

        #[test]
        fn int4_is_off_by_at_most_one_level(
            group in proptest::collection::vec(-10.0_f32..10.0, 64),
            exponent in -8_i32..8,
        ) {
            let group: Vec<f32> = group.iter().map(|value| value * 2.0_f32.powi(exponent)).collect();
            let mut packed = Vec::new();
            let scale = quantise_int4(&group, &mut packed);
            for (value, level) in group.iter().zip(unpack(&packed)) {
                let error = (value - level * scale.to_f32()).abs();
                prop_assert!(error <= scale.to_f32().abs() * 1.01, "{value} became level {level} of {scale}");
            }
        }
    }

    proptest! {
        #[test]
        fn int8_levels_are_the_nearest_whole_numbers_ties_to_even(
            row in proptest::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL, 1..300),
        ) {
            let (scale, levels) = quantise_int8(&row);
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            prop_assert_eq!(scale.to_bits(), (largest / 127.0).max(f32::MIN_POSITIVE).to_bits());
            for (value, level) in row.iter().zip(levels) {
                let expected = (value / scale).round_ties_even().clamp(-127.0, 127.0);
                prop_assert!((f32::from(level) - expected).abs() < 0.5, "{value} by {scale}");
            }
        }
    }

    #[test]
    fn halves_of_levels_go_to_the_even_neighbour() {
        let (scale, levels) = quantise_int8(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0]);
        assert_eq!(scale.to_bits(), 1.0_f32.to_bits());
        assert_eq!(levels, [127, 0, 2, 2, 0, -2, -127]);
    }

    #[test]
    fn rows_of_zeros_stay_zeros() {
        let (_, levels) = quantise_int8(&[0.0; 8]);
        assert_eq!(levels, [0; 8]);
        let mut packed = Vec::new();
        quantise_int4(&[0.0; 64], &mut packed);
        assert_eq!(packed, [0; 32]);
    }
}
