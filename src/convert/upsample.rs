//! "Double the picture, then convolve 3×3" as one transposed convolution with less than half the multiplications.
//!
//! Doubling by repetition shows every pixel four times, so a 3×3 window behind it sees only 2×2 different pixels: the taps
//! that fall on the same pixel can be added up once, when the model is converted. What remains is a transposed convolution
//! of stride 2 with a 4×4 kernel: 4 products a pixel and channel pair instead of 9, with the same zeros around the edge.
//! `docs/adr/0007-upsampling-as-one-transposed-convolution.md` has what was measured.

/// Side of the kernel behind the doubling.
const TAPS: usize = 3;
/// Side of the folded kernel.
pub(super) const FOLDED_TAPS: usize = 4;

/// Which taps of one axis are added up into each tap of the folded kernel.
///
/// With stride 2 and padding 1, an even output pixel 2i gets tap 1 of pixel i and tap 3 of pixel i - 1, an odd one 2i + 1
/// tap 2 of pixel i and tap 0 of pixel i + 1. Behind the doubling, window 2i covers pixels i - 1, i, i and window 2i + 1
/// pixels i, i, i + 1.
const FOLDED: [&[usize]; FOLDED_TAPS] = [&[2], &[1, 2], &[0, 1], &[0]];

/// Folds the kernel `[outputs, inputs, 3, 3]` of a convolution behind a doubling by repetition into the kernel
/// `[inputs, outputs, 4, 4]` of a transposed convolution with stride 2 and padding 1.
pub(super) fn fold_upsampling(kernel: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let tap = |output: usize, input: usize, row: usize, column: usize| {
        kernel[((output * inputs + input) * TAPS + row) * TAPS + column]
    };
    let mut folded = Vec::with_capacity(inputs * outputs * FOLDED_TAPS * FOLDED_TAPS);
    for input in 0..inputs {
        for output in 0..outputs {
            for rows in FOLDED {
                for columns in FOLDED {
                    let taps = rows
                        .iter()
                        .flat_map(|&row| columns.iter().map(move |&column| (row, column)));
                    folded.push(
                        taps.map(|(row, column)| tap(output, input, row, column))
                            .sum(),
                    );
                }
            }
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture of one channel, zero outside.
    fn at(picture: &[Vec<f32>], row: isize, column: isize) -> f32 {
        let inside = |index: isize, length: usize| {
            usize::try_from(index).ok().filter(|&index| index < length)
        };
        match inside(row, picture.len()) {
            Some(row) => {
                inside(column, picture[row].len()).map_or(0.0, |column| picture[row][column])
            }
            None => 0.0,
        }
    }

    fn doubled_then_convolved(
        picture: &[Vec<f32>],
        kernel: &[f32],
        row: isize,
        column: isize,
    ) -> f32 {
        let (height, width) = (
            2 * picture.len().cast_signed(),
            2 * picture[0].len().cast_signed(),
        );
        let mut sum = 0.0;
        for (tap, weight) in kernel.iter().enumerate() {
            let (r, c) = (
                row + (tap / 3).cast_signed() - 1,
                column + (tap % 3).cast_signed() - 1,
            );
            if (0..height).contains(&r) && (0..width).contains(&c) {
                sum += weight * at(picture, r / 2, c / 2);
            }
        }
        sum
    }

    fn transposed(picture: &[Vec<f32>], folded: &[f32], row: isize, column: isize) -> f32 {
        let mut sum = 0.0;
        for (tap, weight) in folded.iter().enumerate() {
            // output = 2 · input + tap - padding
            let (r, c) = (
                row + 1 - (tap / 4).cast_signed(),
                column + 1 - (tap % 4).cast_signed(),
            );
            if r.rem_euclid(2) == 0 && c.rem_euclid(2) == 0 {
                sum += weight * at(picture, r.div_euclid(2), c.div_euclid(2));
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn folding_changes_no_pixel_edges_included(
            kernel in proptest::collection::vec(-1.0_f32..1.0, 9),
            picture in proptest::collection::vec(proptest::collection::vec(-1.0_f32..1.0, 3), 1..4),
        ) {
            let folded = fold_upsampling(&kernel, 1, 1);
            for row in 0..2 * picture.len().cast_signed() {
                for column in 0..6 {
                    let expected = doubled_then_convolved(&picture, &kernel, row, column);
                    let got = transposed(&picture, &folded, row, column);
                    prop_assert!((expected - got).abs() < 1e-5, "row {row}, column {column}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    fn channels_change_places() {
        // One tap a pair of channels, in the middle: [output 0: input 0, 1; output 1: input 0, 1].
        let mut kernel = vec![0.0; 2 * 2 * 9];
        for (pair, weight) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            kernel[pair * 9 + 4] = weight;
        }
        let folded = fold_upsampling(&kernel, 2, 2);
        let middle: Vec<f32> = folded.chunks(16).map(|taps| taps[5]).collect();
        assert_eq!(middle, [1.0, 3.0, 2.0, 4.0]);
    }
}
