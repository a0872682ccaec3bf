//! What the picture looks like so far, for milliseconds instead of a run of the VAE: each latent's colour by a linear map.
//!
//! A latent is a square of `vae_scale_factor` pixels whose mean colour is nearly a linear function of its channels. The map
//! differs between VAEs, so it is fitted here, on the pictures that the model itself has drawn.

use ndarray::{Array4, ArrayView4, s};

use super::{Event, PipelineError, Watch, encode, pixels};
use crate::domain::GenerateRequest;

/// Red, green, blue.
const COLOURS: usize = 3;

/// Share of the mean of the diagonal that is added to it. Latents that do not vary, as those of a flat picture, would leave the
/// equations without a solution; beside latents that do it is nothing.
const RIDGE: f64 = 1e-6;

/// Fits colours to latents by least squares over every picture that it watches. It never stops one.
#[derive(Debug, Default)]
pub struct PreviewFit {
    /// f32 `[1, latent_channels, h, w]`, predicted by the last step of the picture in the making.
    latents: Option<Array4<f32>>,
    sums: Option<Sums>,
}

/// The normal equations. A feature is a channel of the latents; the last one is the constant 1.
#[derive(Debug)]
struct Sums {
    /// `[features][features]`, feature × feature.
    gram: Vec<Vec<f64>>,
    /// `[features]`, feature × colour.
    moments: Vec<[f64; COLOURS]>,
}

/// Colours of latents: `colour = Σ channel · weight + bias`, about -1 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentToRgb {
    /// For each channel.
    weights: Vec<[f32; COLOURS]>,
    bias: [f32; COLOURS],
}

impl PreviewFit {
    /// The map that fits best; none before the first picture.
    pub fn finish(&self) -> Option<LatentToRgb> {
        let Sums { gram, moments } = self.sums.as_ref()?;
        let mut gram = gram.clone();
        let trace: f64 = gram.iter().enumerate().map(|(index, row)| row[index]).sum();
        let ridge = RIDGE * trace / gram.len() as f64;
        for (index, row) in gram.iter_mut().enumerate() {
            row[index] += ridge;
        }
        let mut weights = solve(gram, moments.clone())?;
        let bias = weights.pop()?;
        Some(LatentToRgb { weights, bias })
    }

    /// Adds a picture: f32 `[1, C, h, w]` and the `[1, 3, h · factor, w · factor]` that it was decoded to.
    fn add(&mut self, latents: ArrayView4<'_, f32>, image: ArrayView4<'_, f32>) {
        let (_, channels, rows, columns) = latents.dim();
        let (_, colours, height, width) = image.dim();
        let factor = height / rows.max(1);
        if colours != COLOURS || factor == 0 || (height, width) != (rows * factor, columns * factor)
        {
            return;
        }
        let features = channels + 1;
        let sums = self.sums.get_or_insert_with(|| Sums::zero(features));
        if sums.moments.len() != features {
            return;
        }
        let means = [0, 1, 2].map(|colour| means(image, colour, factor));
        let mut feature = vec![1.0; features];
        for (position, values) in latents
            .slice(s![0, .., .., ..])
            .lanes(ndarray::Axis(0))
            .into_iter()
            .enumerate()
        {
            for (feature, &value) in feature.iter_mut().zip(values) {
                *feature = f64::from(value);
            }
            let colour = [0, 1, 2].map(|colour: usize| means[colour][position]);
            sums.add(&feature, colour);
        }
    }
}

impl Watch for PreviewFit {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::Stepped {
                step,
                steps,
                denoised,
                ..
            } if step + 1 == steps => self.latents = Some(denoised.to_owned()),
            Event::Decoded { image } => {
                if let Some(latents) = self.latents.take() {
                    self.add(latents.view(), image);
                }
            }
            _ => {}
        }
    }
}

/// Mean of each square of `factor` × `factor` pixels, from the top left.
fn means(image: ArrayView4<'_, f32>, colour: usize, factor: usize) -> Vec<f64> {
    image
        .slice(s![0, colour, .., ..])
        .exact_chunks((factor, factor))
        .into_iter()
        .map(|square| f64::from(square.sum()) / square.len() as f64)
        .collect()
}

impl Sums {
    fn zero(features: usize) -> Self {
        Self {
            gram: vec![vec![0.0; features]; features],
            moments: vec![[0.0; COLOURS]; features],
        }
    }

    fn add(&mut self, features: &[f64], colour: [f64; COLOURS]) {
        for ((row, moment), &a) in self.gram.iter_mut().zip(&mut self.moments).zip(features) {
            for (cell, &b) in row.iter_mut().zip(features) {
                *cell += a * b;
            }
            for (moment, colour) in moment.iter_mut().zip(colour) {
                *moment += a * colour;
            }
        }
    }
}

/// Solves `matrix · x = right` by Gaussian elimination with partial pivoting; none where there is no one solution.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<[f64; COLOURS]>) -> Option<Vec<[f32; COLOURS]>> {
    let count = matrix.len();
    for column in 0..count {
        let pivot = (column..count)
            .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let (pivot_row, pivot_right) = (matrix[column].clone(), right[column]);
        let pivot = pivot_row[column];
        if !pivot.is_finite() || pivot == 0.0 {
            return None;
        }
        for row in (0..count).filter(|&row| row != column) {
            let times = matrix[row][column] / pivot;
            for (cell, above) in matrix[row].iter_mut().zip(&pivot_row) {
                *cell -= times * above;
            }
            for (cell, above) in right[row].iter_mut().zip(pivot_right) {
                *cell -= times * above;
            }
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "weights of colours need no more than f32"
    )]
    let solution: Vec<[f32; COLOURS]> = (0..count)
        .map(|row| right[row].map(|value| (value / matrix[row][row]) as f32))
        .collect();
    solution
        .iter()
        .flatten()
        .all(|value| value.is_finite())
        .then_some(solution)
}

impl LatentToRgb {
    /// What a step predicted ([`Event::Stepped`]), one pixel a latent.
    ///
    /// `denoised`: f32 `[1, C, h, w]` → f32 `[1, 3, h, w]`, about -1 to 1.
    ///
    /// # Errors
    /// When the latents have another number of channels than those that it was fitted to.
    pub fn decode(&self, denoised: ArrayView4<'_, f32>) -> Result<Array4<f32>, PipelineError> {
        let (batch, channels, rows, columns) = denoised.dim();
        if (batch, channels) != (1, self.weights.len()) {
            return Err(PipelineError::Shape {
                stage: "preview",
                expected: format!("[1, {}, height, width]", self.weights.len()),
                got: denoised.shape().to_vec(),
            });
        }
        let colours = Array4::from_shape_fn((1, COLOURS, rows, columns), |(_, colour, y, x)| {
            self.weights
                .iter()
                .enumerate()
                .fold(self.bias[colour], |sum, (channel, weights)| {
                    sum + denoised[[0, channel, y, x]] * weights[colour]
                })
        });
        Ok(colours)
    }
}

/// The file of a preview, in the size and format of the request's picture: scaled bilinearly and cut as that will be.
///
/// `decoded`: f32 `[1, 3, h, w]`, about -1 to 1, of any size.
///
/// # Errors
/// When the encoder fails.
pub fn preview_file(
    decoded: Array4<f32>,
    request: &GenerateRequest,
) -> Result<Vec<u8>, PipelineError> {
    let picture = pixels::to_rgb8(pixels::resize_and_crop(decoded, request.size).view())?;
    Ok(encode::encode(&picture, request, &[])?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        Decoder, ImageSize, OutputFormat, Prompt, RequestDefaults, RequestDraft, SchedulerKind,
        Seed,
    };
    use crate::pipeline::noise::TorchGenerator;

    const FACTOR: usize = 4;

    fn request(size: &str, output_format: OutputFormat) -> GenerateRequest {
        let defaults = RequestDefaults {
            scheduler: SchedulerKind::Lcm,
            decoder: Decoder::Full,
            size: size.parse().unwrap(),
            resolution_binning: false,
        };
        RequestDraft {
            output_format,
            ..RequestDraft::new(Prompt::new("a boat").unwrap(), Seed::new(1))
        }
        .complete(&defaults)
    }

    fn latents(channels: usize, seed: u64) -> Array4<f32> {
        let shape = (1, channels, 6, 5);
        let values = TorchGenerator::new(Seed::new(seed)).randn(channels * 30);
        Array4::from_shape_vec(shape, values).unwrap()
    }

    fn known_map(channels: usize) -> LatentToRgb {
        LatentToRgb {
            weights: (0..channels)
                .map(|channel| [0.1, -0.2, 0.05].map(|weight| weight * (channel as f32 - 1.5)))
                .collect(),
            bias: [0.3, 0.0, -0.25],
        }
    }

    /// Each square of pixels has the map's colour on average, and varies around it.
    fn decoded(map: &LatentToRgb, latents: &Array4<f32>) -> Array4<f32> {
        let (_, channels, rows, columns) = latents.dim();
        Array4::from_shape_fn((1, 3, rows * FACTOR, columns * FACTOR), |(_, c, y, x)| {
            let detail = if (x + y) % 2 == 0 { 0.5 } else { -0.5 };
            (0..channels).fold(map.bias[c] + detail, |sum, channel| {
                sum + latents[[0, channel, y / FACTOR, x / FACTOR]] * map.weights[channel][c]
            })
        })
    }

    fn watch(fit: &mut PreviewFit, latents: &Array4<f32>, image: &Array4<f32>) {
        let other = Array4::zeros(latents.raw_dim());
        for step in 0..2 {
            let denoised = if step == 1 { latents } else { &other };
            fit.observe(Event::Stepped {
                step,
                steps: 2,
                took: Duration::ZERO,
                latents: other.view(),
                denoised: denoised.view(),
                preview: None,
            });
        }
        fit.observe(Event::Decoded {
            image: image.view(),
        });
    }

    #[test]
    fn a_linear_map_is_found_again() {
        for channels in [4, 16] {
            let map = known_map(channels);
            let mut fit = PreviewFit::default();
            assert_eq!(fit.finish(), None, "nothing was seen");
            for seed in 0..2 {
                let latents = latents(channels, seed);
                watch(&mut fit, &latents, &decoded(&map, &latents));
            }
            let found = fit.finish().unwrap();
            let all = |map: &LatentToRgb| -> Vec<f32> {
                map.weights
                    .iter()
                    .flatten()
                    .chain(&map.bias)
                    .copied()
                    .collect()
            };
            for (found, known) in all(&found).into_iter().zip(all(&map)) {
                assert!((found - known).abs() < 1e-5, "{found} is not {known}");
            }
        }
    }

    #[test]
    fn latents_that_do_not_vary_still_give_their_colour() {
        let latents = Array4::zeros((1, 4, 6, 5));
        let map = known_map(4);
        let mut fit = PreviewFit::default();
        watch(&mut fit, &latents, &decoded(&map, &latents));
        let found = fit.finish().unwrap();
        for (found, known) in found.bias.into_iter().zip(map.bias) {
            assert!((found - known).abs() < 1e-5, "{found} is not {known}");
        }
    }

    #[test]
    fn numbers_that_are_not_finite_give_no_map() {
        let mut fit = PreviewFit::default();
        let image = Array4::zeros((1, 3, 6 * FACTOR, 5 * FACTOR));
        watch(&mut fit, &Array4::from_elem((1, 4, 6, 5), f32::NAN), &image);
        assert_eq!(fit.finish(), None);
    }

    #[test]
    fn a_preview_has_the_size_and_format_of_the_picture() {
        let map = known_map(4);
        for format in OutputFormat::ALL {
            // 48x40 is what 6 × 5 latents cover; the other is cut out of it.
            for size in ["40x48", "33x21"] {
                let colours = map.decode(latents(4, 1).view()).unwrap();
                let file = preview_file(colours, &request(size, format)).unwrap();
                let picture = if format == OutputFormat::Png {
                    let mut reader = ::png::Decoder::new(std::io::Cursor::new(file))
                        .read_info()
                        .unwrap();
                    let mut data = vec![0; reader.output_buffer_size().unwrap()];
                    let frame = reader.next_frame(&mut data).unwrap();
                    (frame.width, frame.height)
                } else {
                    let picture = image::load_from_memory(&file).unwrap();
                    (picture.width(), picture.height())
                };
                let size: ImageSize = size.parse().unwrap();
                assert_eq!(picture, (size.width_px(), size.height_px()), "{format}");
            }
        }
    }

    #[test]
    fn latents_of_another_model_are_refused() {
        let error = known_map(4).decode(latents(16, 1).view()).unwrap_err();
        assert!(
            error.to_string().contains("[1, 4, height, width]"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn what_is_solved_solves(values in prop::collection::vec(-10.0_f64..10.0, 16), right in prop::collection::vec(-10.0_f64..10.0, 12)) {
            let matrix: Vec<Vec<f64>> = values.chunks(4).map(<[f64]>::to_vec).collect();
            let right: Vec<[f64; 3]> = right.as_chunks::<3>().0.to_vec();
            if let Some(solution) = solve(matrix.clone(), right.clone()) {
                let largest = solution.iter().flatten().fold(1.0_f32, |most, value| most.max(value.abs()));
                for (row, right) in matrix.iter().zip(&right) {
                    for colour in 0..3 {
                        let product: f64 = row.iter().zip(&solution).map(|(a, x)| a * f64::from(x[colour])).sum();
                        prop_assert!((product - right[colour]).abs() < 1e-4 * f64::from(largest));
                    }
                }
            }
        }
    }
}
