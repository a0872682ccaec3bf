//! Where a network can be quantised: its matrix products, convolutions and attentions, and the values that flow into them.
//!
//! An *operation* multiplies activations with weights (a linear layer, a convolution) or with each other (an attention). A
//! *point* is a value that calibration looks at, once however many operations take it: the text goes into every block.

use std::collections::{BTreeMap, BTreeSet};

use super::QuantizeError;
use crate::ir::{Constant, ElementType, Layer, Network, Value};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `x · weightᵀ`, weights `[outputs, inputs]`.
    Linear,
    /// Convolution, weights `[outputs, inputs, k, k]`.
    Convolution,
    /// Transposed convolution, weights `[inputs, outputs, k, k]`.
    TransposedConvolution,
    /// Rows of a table, by the ids that come in: `[rows, width]`.
    Embedding,
    /// `softmax(q · kᵀ) · v`: queries and keys are quantised, the softmax and what it weighs stay as they are.
    Attention,
}

/// Something that can be computed in integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operation {
    /// Its layer in the network.
    pub(super) layer: usize,
    /// The layer's name, by which manifests know it.
    pub(super) name: String,
    /// Names that a profile may have for it: its own, or that of what it is fused into.
    pub(super) fused: Vec<String>,
    pub(super) kind: Kind,
    /// Its activations: queries and keys of an attention, nothing for a table, the one input of all others.
    pub(super) activations: Vec<Activation>,
    /// Its weights; an attention has none.
    pub(super) weights: Option<Weights>,
}

/// An input that can be quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activation {
    /// Which of the points flows in.
    pub(super) point: usize,
    /// The layer whose input is replaced: the operation's own, or one in front of it that only moves numbers around.
    pub(super) layer: usize,
    /// Which input of that layer.
    pub(super) input: usize,
}

/// Constant weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weights {
    pub(super) constant: Constant,
    /// The constant and what unpacks it, which nobody else takes: all go when other weights come.
    pub(super) layers: Vec<usize>,
    /// Which input of the operation.
    pub(super) input: usize,
}

impl Weights {
    pub(super) fn elements(&self) -> usize {
        self.constant.shape.iter().product()
    }
}

/// A value that calibration looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) value: Value,
    /// Name of the layer that it comes from, with the number of its output where it has several.
    pub(super) name: String,
    /// Channels of its last axis, where linear layers alone take it: each can have a factor of its own.
    pub(super) channels: Option<usize>,
}

/// All operations of a network, in its order, and what flows into them.
#[derive(Debug, Default)]
pub(super) struct Points {
    pub(super) operations: Vec<Operation>,
    pub(super) points: Vec<Point>,
}

impl Points {
    /// Finds them.
    ///
    /// # Errors
    /// When the network is quantised already.
    pub(super) fn of(network: &Network) -> Result<Self, QuantizeError> {
        let integers = [ElementType::I8, ElementType::I4, ElementType::U4];
        if let Some(layer) = network
            .layers()
            .iter()
            .enumerate()
            .find_map(|(index, layer)| {
                let packed = network
                    .constant(index)
                    .is_some_and(|constant| integers.contains(&constant.element));
                (packed || layer.kind() == "FakeQuantize").then_some(layer)
            })
        {
            return Err(QuantizeError::AlreadyQuantized {
                component: network.name().to_owned(),
                layer: layer.name().to_owned(),
            });
        }
        let mut finder = Finder {
            network,
            takers: takers(network),
            places: BTreeMap::new(),
            found: Self::default(),
        };
        for (index, layer) in network.layers().iter().enumerate() {
            finder.look_at(index, layer);
        }
        let mut found = finder.found;
        found.leave_channels_to_linear_layers();
        Ok(found)
    }

    /// Factors for channels only help where every operation that takes a point can take them into its weights.
    fn leave_channels_to_linear_layers(&mut self) {
        let others: BTreeSet<usize> = self
            .operations
            .iter()
            .filter(|operation| operation.kind != Kind::Linear)
            .flat_map(|operation| &operation.activations)
            .map(|activation| activation.point)
            .collect();
        for point in others {
            self.points[point].channels = None;
        }
    }
}

/// The layers that take each value, with the number of the input.
fn takers(network: &Network) -> BTreeMap<Value, Vec<(usize, usize)>> {
    let mut takers: BTreeMap<Value, Vec<(usize, usize)>> = BTreeMap::new();
    for (index, layer) in network.layers().iter().enumerate() {
        for (input, &value) in layer.inputs().iter().enumerate() {
            takers.entry(value).or_default().push((index, input));
        }
    }
    takers
}

struct Finder<'a> {
    network: &'a Network,
    takers: BTreeMap<Value, Vec<(usize, usize)>>,
    places: BTreeMap<Value, usize>,
    found: Points,
}

impl Finder<'_> {
    fn look_at(&mut self, index: usize, layer: &Layer) {
        let kind = match layer.kind() {
            "MatMul" if layer.attribute("transpose_b") == Some("true") => {
                if self.softmax_behind(index).is_some() {
                    Kind::Attention
                } else {
                    // The VAE's attention, whose softmax is written out, has no weights and is none of these.
                    Kind::Linear
                }
            }
            "Convolution" => Kind::Convolution,
            "ConvolutionBackpropData" => Kind::TransposedConvolution,
            "Gather" if self.takes_ids(layer) => Kind::Embedding,
            _ => return,
        };
        let place = usize::from(kind != Kind::Embedding);
        let weights = match kind {
            Kind::Attention => None,
            _ => match self.weights(layer.inputs()[place]) {
                Some(weights) => Some(Weights {
                    input: place,
                    ..weights
                }),
                None => return,
            },
        };
        let channels = match (&weights, kind) {
            (Some(weights), Kind::Linear) => weights.constant.shape.last().copied(),
            _ => None,
        };
        let activations = match kind {
            Kind::Attention => vec![
                self.activation(index, 0, None),
                self.activation(index, 1, None),
            ],
            Kind::Embedding => Vec::new(),
            _ => vec![self.activation(index, 0, channels)],
        };
        let mut fused = vec![layer.name().to_owned()];
        if kind == Kind::Attention {
            fused.extend(self.fused_with(index));
        }
        self.found.operations.push(Operation {
            layer: index,
            name: layer.name().to_owned(),
            fused,
            kind,
            activations,
            weights,
        });
    }

    /// The softmax that takes the product at `index`, with or without something added to it first.
    fn softmax_behind(&self, index: usize) -> Option<usize> {
        let mut index = index;
        for _ in 0..2 {
            let taker = self.only_taker(index)?;
            match self.network.layers()[taker].kind() {
                "SoftMax" => return Some(taker),
                "Add" => index = taker,
                _ => return None,
            }
        }
        None
    }

    /// What an attention's products are fused with: the softmax behind them, what it weighs, and their new places.
    fn fused_with(&self, index: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut last = self.softmax_behind(index);
        for _ in 0..4 {
            let Some(index) = last else { break };
            names.push(self.network.layers()[index].name().to_owned());
            last = self.only_taker(index);
        }
        names
    }

    fn only_taker(&self, index: usize) -> Option<usize> {
        let element = self.network.layers()[index].first_output()?;
        let value = Value::of(index, element);
        match self.takers.get(&value)?.as_slice() {
            &[(taker, _)] => Some(taker),
            _ => None,
        }
    }

    /// Whether a gather looks up what comes into the network, and not what the network computes.
    fn takes_ids(&self, layer: &Layer) -> bool {
        let mut source = self.network.source(layer.inputs()[1]);
        while source.kind() == "Convert" {
            source = self.network.source(source.inputs()[0]);
        }
        source.kind() == "Parameter"
    }

    /// The constant behind a value, and the layers that unpack it.
    fn weights(&self, value: Value) -> Option<Weights> {
        let mut layers = Vec::new();
        let mut value = value;
        loop {
            if self
                .takers
                .get(&value)
                .is_none_or(|takers| takers.len() != 1)
            {
                return None;
            }
            layers.push(value.layer());
            if let Some(constant) = self.network.constant(value.layer()) {
                let float = [ElementType::F32, ElementType::F16].contains(&constant.element);
                return float.then_some(Weights {
                    constant,
                    layers,
                    input: 1,
                });
            }
            let layer = self.network.source(value);
            if !layer.is_decompression() {
                return None;
            }
            value = *layer.inputs().first()?;
        }
    }

    /// The input of an operation; of an attention the one in front of the layers that only move its numbers around, so that
    /// they move integers.
    fn activation(&mut self, layer: usize, input: usize, channels: Option<usize>) -> Activation {
        let (mut layer, mut input) = (layer, input);
        let mut value = self.network.layers()[layer].inputs()[input];
        loop {
            let source = self.network.source(value);
            let moves = matches!(source.kind(), "Transpose" | "Reshape");
            let alone = self
                .takers
                .get(&value)
                .is_some_and(|takers| takers.len() == 1);
            if channels.is_some() || !moves || !alone {
                break;
            }
            (layer, input) = (value.layer(), 0);
            value = source.inputs()[0];
        }
        Activation {
            point: self.point(value, channels),
            layer,
            input,
        }
    }

    fn point(&mut self, value: Value, channels: Option<usize>) -> usize {
        let points = &mut self.found.points;
        let source = self.network.source(value);
        *self.places.entry(value).or_insert_with(|| {
            let name = match value.output() {
                0 => source.name().to_owned(),
                output => format!("{}:{output}", source.name()),
            };
            points.push(Point {
                value,
                name,
                channels,
            });
            points.len() - 1
        })
    }
}
