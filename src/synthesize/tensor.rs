//! One tensor: its name, its shape, and how its values are spread.
//!
//! The rule is that what comes out of a layer has the variance of what went in: weights with deviation 1/√(inputs), norms 1,
//! biases small and not 0, so that one that is forgotten shows.

use super::generator::Numbers;

/// Deviation of biases.
const BIAS: f32 = 0.02;

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

/// How the values of a tensor are spread.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// All 1.
    Ones,
    /// Around 0.
    Spread {
        /// Standard deviation.
        deviation: f32,
    },
    /// T5's bias by distance, `[buckets, heads]`: as in trained encoders it falls with the distance in either direction.
    Distances {
        /// Rows; the second half is of keys behind the query.
        buckets: usize,
        /// Columns.
        heads: usize,
    },
    /// The last layer of the transformer, `[patch · patch · outputs, width]`: for the latents' channels its rows are those of the
    /// first layer, so that what is predicted resembles what came in.
    Echo {
        /// Name of the first layer's tensor, `[width, channels, patch, patch]`.
        of: &'static str,
        /// Latents on one side of a token.
        patch: usize,
        /// Channels of the latents.
        channels: usize,
        /// Channels of the prediction.
        outputs: usize,
        /// Width of the blocks.
        width: usize,
        /// What the first layer's numbers are multiplied by.
        gain: f32,
        /// Deviation of the other rows.
        deviation: f32,
    },
}

impl Tensor {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values from position `start` on, as many as `out` holds.
    pub(super) fn fill(&self, seed: u64, component: &str, start: usize, out: &mut [f32]) {
        let numbers = Numbers::of(seed, component, &self.name);
        match self.values {
            Values::Ones => out.fill(1.0),
            Values::Spread { deviation } => {
                for (value, index) in out.iter_mut().zip(start..) {
                    *value = numbers.at(index) * deviation;
                }
            }
            Values::Distances { buckets, heads } => {
                for (value, index) in out.iter_mut().zip(start..) {
                    let bucket = (index / heads) % (buckets / 2);
                    *value = 0.5 * numbers.at(index) - 0.2 * bucket as f32;
                }
            }
            Values::Echo {
                of,
                patch,
                channels,
                outputs,
                width,
                gain,
                deviation,
            } => {
                let first = Numbers::of(seed, component, of);
                for (value, index) in out.iter_mut().zip(start..) {
                    let (row, column) = (index / width, index % width);
                    let (place, channel) = (row / outputs, row % outputs);
                    *value = if channel < channels {
                        gain * first.at((column * channels + channel) * patch * patch + place)
                    } else {
                        deviation * numbers.at(index)
                    };
                }
            }
        }
    }
}

/// The tensors of a network, in the order in which they are added.
#[derive(Debug, Default)]
pub(super) struct Tensors(Vec<Tensor>);

impl Tensors {
    pub(super) fn into_vec(self) -> Vec<Tensor> {
        self.0
    }

    pub(super) fn add(&mut self, name: impl Into<String>, shape: &[usize], values: Values) {
        self.0.push(Tensor {
            name: name.into(),
            shape: shape.to_vec(),
            values,
        });
    }

    /// `{prefix}.weight` whose outputs have `gain` times the deviation of its inputs.
    pub(super) fn weight(&mut self, prefix: &str, shape: &[usize], gain: f32) {
        let inputs: usize = shape[1..].iter().product();
        let deviation = gain / (inputs as f32).sqrt();
        self.add(
            format!("{prefix}.weight"),
            shape,
            Values::Spread { deviation },
        );
    }

    pub(super) fn bias(&mut self, prefix: &str, outputs: usize) {
        let spread = Values::Spread { deviation: BIAS };
        self.add(format!("{prefix}.bias"), &[outputs], spread);
    }

    /// Weight and bias.
    pub(super) fn layer(&mut self, prefix: &str, shape: &[usize], gain: f32) {
        self.weight(prefix, shape, gain);
        self.bias(prefix, shape[0]);
    }

    /// A norm's factors, all 1.
    pub(super) fn norm(&mut self, prefix: &str, width: usize) {
        self.add(format!("{prefix}.weight"), &[width], Values::Ones);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: Values) -> Tensor {
        Tensor {
            name: "t".to_owned(),
            shape: shape.to_vec(),
            values,
        }
    }

    fn filled(tensor: &Tensor, start: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        tensor.fill(3, "transformer", start, &mut out);
        out
    }

    #[test]
    fn a_block_is_the_same_wherever_it_begins() {
        for values in [
            Values::Ones,
            Values::Spread { deviation: 0.5 },
            Values::Distances {
                buckets: 8,
                heads: 4,
            },
        ] {
            let tensor = tensor(&[8, 4], values);
            let whole = filled(&tensor, 0, 32);
            assert_eq!(whole[5..20], filled(&tensor, 5, 15));
        }
    }

    #[test]
    fn an_echo_has_the_first_layers_numbers_in_the_rows_of_the_latents() {
        let (patch, channels, outputs, width) = (2, 4, 8, 3);
        let first = Tensor {
            name: "first".to_owned(),
            ..tensor(
                &[width, channels, patch, patch],
                Values::Spread { deviation: 1.0 },
            )
        };
        let first = filled(&first, 0, first.elements());
        let echo = tensor(
            &[patch * patch * outputs, width],
            Values::Echo {
                of: "first",
                patch,
                channels,
                outputs,
                width,
                gain: 2.0,
                deviation: 1.0,
            },
        );
        let echo = filled(&echo, 0, echo.elements());
        for [row, column, channel] in [[0, 1, 1], [1, 0, 3], [1, 1, 2]] {
            for inner in 0..width {
                let here = echo[((row * patch + column) * outputs + channel) * width + inner];
                let there = first[((inner * channels + channel) * patch + row) * patch + column];
                assert_eq!(here.to_bits(), (2.0 * there).to_bits());
            }
        }
    }
}
