//! How far one picture is from another.

use ndarray::ArrayView4;

use crate::pipeline::pixels::Rgb8;

/// Largest ratio that is told, in dB: that of two equal pictures is infinite, which JSON does not know.
const MOST_DB: f64 = 100.0;

/// Peak signal-to-noise ratio of two pictures of one size, over all channels, in dB: `10 log10(255² / mean squared difference)`;
/// [`MOST_DB`] at most.
pub fn psnr(one: &Rgb8, other: &Rgb8) -> f64 {
    let squares: f64 = one
        .data
        .iter()
        .zip(&other.data)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    let mean = squares / one.data.len().max(1) as f64;
    (10.0 * (255.0_f64.powi(2) / mean).log10()).min(MOST_DB)
}

/// Side of SSIM's window in pixels, and the deviation of its weights.
const WINDOW: usize = 11;
const DEVIATION: f64 = 1.5;

/// Structural similarity of two pictures of one size, from -1 to 1: the mean over all channels and all windows that lie
/// inside of the picture. None where it is smaller than a window.
///
/// Source: Wang et al. 2004, "Image quality assessment", eq. 13 with K1 = 0.01, K2 = 0.03 and Gaussian windows of 11×11, σ 1.5.
pub fn ssim(one: &Rgb8, other: &Rgb8) -> Option<f64> {
    let (width, height) = (one.width as usize, one.height as usize);
    if width < WINDOW || height < WINDOW {
        return None;
    }
    let (c1, c2) = ((0.01_f64 * 255.0).powi(2), (0.03_f64 * 255.0).powi(2));
    let weights = weights();
    let mut sum = 0.0;
    for channel in 0..3 {
        let plane = |picture: &Rgb8| -> Vec<f64> {
            let values = picture.data.iter().skip(channel).step_by(3);
            values.map(|&value| f64::from(value)).collect()
        };
        let (a, b) = (plane(one), plane(other));
        let product =
            |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
        let mean = |plane: &[f64]| blurred(plane, width, height, &weights);
        let (mean_a, mean_b) = (mean(&a), mean(&b));
        let (aa, bb, ab) = (
            mean(&product(&a, &a)),
            mean(&product(&b, &b)),
            mean(&product(&a, &b)),
        );
        let windows = mean_a.len();
        let channel_sum: f64 = (0..windows)
            .map(|i| {
                let (ma, mb) = (mean_a[i], mean_b[i]);
                let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
                ((2.0 * ma * mb + c1) * (2.0 * cov + c2))
                    / ((ma * ma + mb * mb + c1) * (va + vb + c2))
            })
            .sum();
        sum += channel_sum / windows as f64;
    }
    Some(sum / 3.0)
}

/// One side of the Gaussian window; its sum is 1.
fn weights() -> [f64; WINDOW] {
    let middle = (WINDOW / 2) as f64;
    let mut weights: [f64; WINDOW] = std::array::from_fn(|i| {
        let distance = i as f64 - middle;
        (-distance * distance / (2.0 * DEVIATION * DEVIATION)).exp()
    });
    let sum: f64 = weights.iter().sum();
    for weight in &mut weights {
        *weight /= sum;
    }
    weights
}

/// The weighted mean of every window that lies inside of the plane.
fn blurred(plane: &[f64], width: usize, height: usize, weights: &[f64; WINDOW]) -> Vec<f64> {
    let (across, down) = (width + 1 - WINDOW, height + 1 - WINDOW);
    let rows: Vec<f64> = plane
        .chunks_exact(width)
        .flat_map(|row| {
            row.windows(WINDOW)
                .map(|window| window.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>())
        })
        .collect();
    (0..down * across)
        .map(|i| {
            let (y, x) = (i / across, i % across);
            (0..WINDOW)
                .map(|row| rows[(y + row) * across + x] * weights[row])
                .sum()
        })
        .collect()
}

/// Cosine of the angle between two arrays of one shape, each taken as one vector.
pub fn cosine(one: ArrayView4<'_, f32>, other: ArrayView4<'_, f32>) -> f64 {
    let (mut product, mut squares, mut others) = (0.0, 0.0, 0.0);
    for (&a, &b) in one.iter().zip(other.iter()) {
        let (a, b) = (f64::from(a), f64::from(b));
        product += a * b;
        squares += a * a;
        others += b * b;
    }
    // The root of the product, not the product of the roots: of equal arrays it is exactly what stands above it. f32 values squared
    // and summed are far from where f64 overflows.
    // Rounding can lead beyond what a cosine may be.
    (product / (squares * others).sqrt().max(f64::MIN_POSITIVE)).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;

    fn picture(width: u32, height: u32, value: impl Fn(u32, u32, u32) -> u32) -> Rgb8 {
        let mut data = Vec::new();
        for y in 0..height {
            for x in 0..width {
                data.extend((0..3).map(|channel| value(x, y, channel).to_le_bytes()[0]));
            }
        }
        Rgb8 {
            width,
            height,
            data,
        }
    }

    #[test]
    fn equal_pictures_are_as_near_as_can_be_told() {
        let one = picture(16, 12, |x, y, channel| x * 9 + y * 5 + channel);
        assert!((psnr(&one, &one) - MOST_DB).abs() < 1e-9);
        assert!((ssim(&one, &one).unwrap() - 1.0).abs() < 1e-12);
    }

    /// A difference of 16 everywhere: 10 log10(255² / 256).
    #[test]
    fn a_shift_of_every_value_has_the_ratio_of_the_formula() {
        let one = picture(8, 8, |_, _, _| 100);
        let other = picture(8, 8, |_, _, _| 116);
        assert!((psnr(&one, &other) - 24.048).abs() < 1e-3);
        assert_eq!(ssim(&one, &other), None, "smaller than a window");
    }

    /// By scikit-image 0.26: `structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5,
    /// use_sample_covariance=False, data_range=255)` of these two pictures.
    #[test]
    fn similarity_is_that_of_scikit_image() {
        let one = picture(32, 24, |x, y, c| x * x * 3 + y * 7 * (c + 1));
        let other = picture(32, 24, |x, y, c| x * x * 3 + y * 7 * (c + 1) + (x * y) % 40);
        let expected = 0.611_286_770_270_616_7;
        let found = ssim(&one, &other).unwrap();
        assert!((found - expected).abs() < 1e-6, "{found}");
    }

    #[test]
    fn the_angle_knows_no_length() {
        let one = Array4::from_shape_vec((1, 1, 1, 3), vec![1.0, 2.0, -2.0]).unwrap();
        let longer = &one * 7.0;
        assert!((cosine(one.view(), longer.view()) - 1.0).abs() < 1e-12);
        let other = Array4::from_shape_vec((1, 1, 1, 3), vec![2.0, 1.0, 2.0]).unwrap();
        assert!(cosine(one.view(), other.view()).abs() < 1e-12);
    }

    /// Whatever the values: which ones a model draws is up to the processor.
    #[test]
    fn the_cosine_of_equal_arrays_is_exactly_1() {
        for count in 1..200_u16 {
            let values = (0..count).map(|i| (f32::from(i) * 0.37 + f32::from(count)).sin() * 3.1);
            let shape = (1, 1, 1, usize::from(count));
            let one = Array4::from_shape_vec(shape, values.collect()).unwrap();
            assert_eq!(cosine(one.view(), one.view()).to_bits(), 1.0_f64.to_bits());
            let opposite = -&one;
            assert_eq!(
                cosine(one.view(), opposite.view()).to_bits(),
                (-1.0_f64).to_bits()
            );
        }
    }
}
