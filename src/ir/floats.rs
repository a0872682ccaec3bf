//! Raw little-endian floats, as they lie in files, → f32 in memory, as fast as they can be read.
//!
//! Conversions take a slice at a time, for which `half` has the processor's own instructions where it has them: asked for one
//! number at a time, they took longer than the disk.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

/// Appends f32 elements.
pub(crate) fn append_f32(raw: &[u8], values: &mut Vec<f32>) {
    values.extend(
        raw.chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
    );
}

/// Appends f16 elements, exactly.
pub(crate) fn append_f16(raw: &[u8], values: &mut Vec<f32>) {
    let halves: Vec<f16> = raw
        .chunks_exact(2)
        .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]))
        .collect();
    let first = values.len();
    values.resize(first + halves.len(), 0.0);
    halves.convert_to_f32_slice(&mut values[first..]);
}

/// Appends bf16 elements, exactly.
pub(crate) fn append_bf16(raw: &[u8], values: &mut Vec<f32>) {
    values.extend(
        raw.chunks_exact(2)
            .map(|bytes| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()),
    );
}

/// The first value that is infinite or no number.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    // Without an early exit this is done many at a time; the place is looked for only where there is one.
    let all_finite = values
        .iter()
        .fold(true, |all, value| all & value.is_finite());
    if all_finite {
        return None;
    }
    values.iter().position(|value| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_widened_as_one_at_a_time() {
        let raw: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![1.0];
        append_f16(&raw, &mut values);
        for (bits, value) in (0..=u16::MAX).zip(&values[1..]) {
            let expected = f16::from_bits(bits).to_f32();
            assert!(
                value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
                "{bits:#x}: {value}"
            );
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(first_not_finite(&[0.0, 1.0, -2.0]), None);
        assert_eq!(
            first_not_finite(&[0.0, f32::NEG_INFINITY, f32::NAN]),
            Some(1)
        );
    }
}
