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
    /// The first layer of the transformer, `[width, channels, patch, patch]`: each of the `inputs` goes to channels of its own,
    /// with signs that alternate, so that no input looks like another and none moves the mean.
    Patches {
        /// channels · patch · patch.
        inputs: usize,
        /// Size of the weights that are not 0.
        size: f32,
    },
    /// The first layer's bias, `[width]`: larger than what varies, so that norms divide by nearly the same everywhere, and with
    /// signs that cancel out in the last layer.
    Ground {
        /// As of the first layer.
        inputs: usize,
        /// Size of all values.
        size: f32,
    },
    /// The last layer of the transformer, `[patch · patch · outputs, width]`: for the latents' channels its rows are those of the
    /// first layer, so that what is predicted is nearly what came in.
    Echo {
        /// Latents on one side of a token.
        patch: usize,
        /// Channels of the latents.
        channels: usize,
        /// Channels of the prediction.
        outputs: usize,
        /// Width of the blocks.
        width: usize,
        /// Size of the first layer's weights here.
        size: f32,
        /// Deviation of the other rows.
        deviation: f32,
    },
}

/// The weight from an input of the first layer to a channel.
fn patch_weight(inputs: usize, input: usize, channel: usize) -> f32 {
    if channel % inputs == input {
        alternating(channel / inputs)
    } else {
        0.0
    }
}

fn alternating(index: usize) -> f32 {
    if index.is_multiple_of(2) { 1.0 } else { -1.0 }
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
            Values::Patches { inputs, size } => {
                for (value, index) in out.iter_mut().zip(start..) {
                    *value = size * patch_weight(inputs, index % inputs, index / inputs);
                }
            }
            Values::Ground { inputs, size } => {
                for (value, channel) in out.iter_mut().zip(start..) {
                    *value = size * alternating(channel / inputs / 2);
                }
            }
            Values::Echo {
                patch,
                channels,
                outputs,
                width,
                size,
                deviation,
            } => {
                let patches = patch * patch;
                for (value, index) in out.iter_mut().zip(start..) {
                    let (row, column) = (index / width, index % width);
                    let (place, channel) = (row / outputs, row % outputs);
                    *value = if channel < channels {
                        size * patch_weight(patches * channels, channel * patches + place, column)
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
            Values::Patches {
                inputs: 4,
                size: 1.0,
            },
            Values::Ground {
                inputs: 4,
                size: 1.0,
            },
        ] {
            let tensor = tensor(&[8, 4], values);
            let whole = filled(&tensor, 0, 32);
            assert_eq!(whole[5..20], filled(&tensor, 5, 15));
        }
    }

    #[test]
    fn an_echo_gives_back_what_the_first_layer_took_and_nothing_of_its_ground() {
        let (patch, channels, outputs, width) = (2, 4, 8, 192);
        let inputs = patch * patch * channels;
        let first = tensor(
            &[width, channels, patch, patch],
            Values::Patches { inputs, size: 2.0 },
        );
        let ground = tensor(&[width], Values::Ground { inputs, size: 10.0 });
        let echo = tensor(
            &[patch * patch * outputs, width],
            Values::Echo {
                patch,
                channels,
                outputs,
                width,
                size: 1.0,
                deviation: 1.0,
            },
        );
        let [first, ground, echo] =
            [&first, &ground, &echo].map(|tensor| filled(tensor, 0, tensor.elements()));
        for input in 0..inputs {
            let (channel, place) = (input / (patch * patch), input % (patch * patch));
            let row = &echo[(place * outputs + channel) * width..][..width];
            let through = |values: &mut dyn Iterator<Item = f32>| -> f32 {
                row.iter()
                    .zip(values)
                    .map(|(weight, value)| weight * value)
                    .sum()
            };
            for other in 0..inputs {
                let back = through(&mut (0..width).map(|inner| first[inner * inputs + other]));
                let expected = if other == input {
                    2.0 * (width / inputs) as f32
                } else {
                    0.0
                };
                assert!((back - expected).abs() < 1e-3, "{input} {other}: {back}");
            }
            assert!(through(&mut ground.iter().copied()).abs() < 1e-3);
        }
    }
}
