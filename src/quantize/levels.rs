//! Groups of weights → integer levels and their scales, beside those of `convert/quantise.rs`.

use half::f16;

use crate::convert::quantise_int8;

/// Where zero lies among 16 levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// In the middle.
    Symmetric,
    /// Wherever the group's own range has it.
    Asymmetric,
}

/// i8 levels of a kernel, and a scale for each output.
pub(super) struct RowLevels {
    pub(super) levels: Vec<i8>,
    pub(super) scales: Vec<f32>,
}

impl RowLevels {
    /// Of a kernel `[inputs, outputs, taps]`, whose outputs are its second axis.
    pub(super) fn of_axis_1(kernel: &[f32], outputs: usize, taps: usize) -> Self {
        let mut levels = vec![0; kernel.len()];
        let mut scales = Vec::with_capacity(outputs);
        for output in 0..outputs {
            let places = || {
                (output * taps..kernel.len())
                    .step_by(outputs * taps)
                    .flat_map(|start| start..start + taps)
            };
            let row: Vec<f32> = places().map(|place| kernel[place]).collect();
            let (scale, of_row) = quantise_int8(&row);
            scales.push(scale);
            for (place, level) in places().zip(of_row) {
                levels[place] = level;
            }
        }
        Self { levels, scales }
    }
}

/// One group → u4 levels, appended to `packed` two to a byte; their scale, and the level that means zero.
///
/// The range is stretched to hold zero, which then is a level: padding and masks stay exact.
pub(super) fn int4_asymmetric(group: &[f32], packed: &mut Vec<u8>) -> (f16, u8) {
    let low = group.iter().copied().fold(0.0_f32, f32::min);
    let high = group.iter().copied().fold(0.0_f32, f32::max);
    let scale = f16::from_f32(
        ((high - low) / 15.0).clamp(f16::MIN_POSITIVE_SUBNORMAL.to_f32(), f16::MAX.to_f32()),
    );
    let step = scale.to_f32();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=15"
    )]
    let level = |value: f32| value.round_ties_even().clamp(0.0, 15.0) as u8;
    let zero = level(-low / step);
    let of = |value: f32| level(value / step + f32::from(zero));
    packed.extend(
        group
            .chunks_exact(2)
            .map(|pair| of(pair[0]) | of(pair[1]) << 4),
    );
    (scale, zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn asymmetric_levels_are_off_by_at_most_a_step(
            group in proptest::collection::vec(-3.0_f32..10.0, 32),
        ) {
            let mut packed = Vec::new();
            let (scale, zero) = int4_asymmetric(&group, &mut packed);
            let levels = packed.iter().flat_map(|byte| [byte & 0x0f, byte >> 4]);
            for (value, level) in group.iter().zip(levels) {
                let back = (f32::from(level) - f32::from(zero)) * scale.to_f32();
                prop_assert!((value - back).abs() <= scale.to_f32() * 1.01, "{value} came back as {back}");
            }
        }

        #[test]
        fn levels_of_the_second_axis_are_those_of_its_rows(
            kernel in proptest::collection::vec(-1.0_f32..1.0, 3 * 2 * 4),
        ) {
            let rows = RowLevels::of_axis_1(&kernel, 2, 4);
            for (place, (&value, &level)) in kernel.iter().zip(&rows.levels).enumerate() {
                let scale = rows.scales[place / 4 % 2];
                prop_assert!((value - f32::from(level) * scale).abs() <= 0.501 * scale);
            }
        }
    }

    #[test]
    fn a_group_of_zeros_stays_zeros() {
        let mut packed = Vec::new();
        let (_, zero) = int4_asymmetric(&[0.0; 4], &mut packed);
        assert_eq!((packed.as_slice(), zero), ([0, 0].as_slice(), 0));
    }
}
