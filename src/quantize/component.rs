//! One network's way: read, watched by calibration, planned, written.

use std::collections::BTreeSet;
use std::path::Path;

use super::observed::write_observed;
use super::plan::{Choice, Observed, Treatment, WeightsChoice, plan};
use super::points::{Kind, Points};
use super::rewrite::{column_maxima, rewrite, table_group};
use super::trial::write_trial;
use super::{Progress, QuantizeError};
use crate::ir::{BinSummary, BinWriter, Graph, Network};
use crate::model::{Quantization, QuantizationMode, WeightsFormat};

/// How one network is quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentOptions {
    /// How far.
    pub mode: QuantizationMode,
    /// How weights are stored; what is computed in integers has 8 bits whatever this says.
    pub weights: WeightsChoice,
    /// How the rows of a table of embeddings are stored; 8 bits where its groups do not fit.
    pub embeddings: WeightsChoice,
    /// SmoothQuant's exponent; none leaves channels as they are.
    pub smoothing: Option<f32>,
    /// Operations that stay in floats.
    pub in_float: BTreeSet<String>,
}

impl ComponentOptions {
    /// Whether ranges of activations are needed.
    pub fn needs_calibration(&self) -> bool {
        self.mode != QuantizationMode::Weights
    }

    /// As manifests have it.
    pub fn stored(&self) -> WeightsFormat {
        match self.mode {
            QuantizationMode::Full => WeightsFormat::Int8,
            _ => self.weights.stored(),
        }
    }

    fn choice(&self) -> Choice {
        let full = self.mode == QuantizationMode::Full;
        let in_integers = self.needs_calibration();
        Choice {
            linear: if full {
                WeightsChoice::Int8
            } else {
                self.weights
            },
            convolution: if in_integers {
                WeightsChoice::Int8
            } else {
                self.weights
            },
            embedding: self.embeddings,
            linear_activations: full,
            convolution_activations: in_integers,
            attention: in_integers,
            smoothing: self.smoothing,
            in_float: self.in_float.clone(),
        }
    }
}

/// A network that was read and searched.
pub struct Component {
    network: Network,
    points: Points,
}

impl Component {
    /// Reads the network at `xml`.
    ///
    /// # Errors
    /// When it cannot be read, or is quantised already.
    pub fn open(xml: &Path) -> Result<Self, QuantizeError> {
        let network = Network::open(xml)?;
        let points = Points::of(&network)?;
        Ok(Self { network, points })
    }

    /// The points that calibration looks at, by name.
    pub fn point_names(&self) -> Vec<String> {
        self.points
            .points
            .iter()
            .map(|point| point.name.clone())
            .collect()
    }

    /// The operations that can be computed in integers, by name.
    pub fn operation_names(&self) -> Vec<&str> {
        self.points
            .operations
            .iter()
            .map(|operation| operation.name.as_str())
            .collect()
    }

    /// Operations that can be computed in integers and stay in floats unless that is asked for: the convolutions that take an input
    /// of the network, which are the transformer's that cuts latents into patches, and the VAE's first.
    ///
    /// They take the latents themselves, whose least differences count and whose range is another in each step, and everything
    /// behind them takes their error; and they are a thousandth of a network's arithmetic at most. ADR 21 has the figures.
    pub fn in_float_by_default(&self) -> Vec<String> {
        let is_input = |point: usize| {
            let value = self.points.points[point].value;
            self.network.source(value).kind() == "Parameter"
        };
        self.points
            .operations
            .iter()
            .filter(|operation| operation.kind == Kind::Convolution)
            .filter(|operation| operation.activations.iter().any(|it| is_input(it.point)))
            .map(|operation| operation.name.clone())
            .collect()
    }

    /// Of each point, the operations that are to be computed in integers with it, by name: they need to know its range.
    pub fn takers(&self, options: &ComponentOptions) -> Vec<Vec<String>> {
        let choice = options.choice();
        let mut takers = vec![Vec::new(); self.points.points.len()];
        for operation in &self.points.operations {
            if choice.computes_in_integers(operation) {
                for activation in &operation.activations {
                    takers[activation.point].push(operation.name.clone());
                }
            }
        }
        takers
    }

    /// Writes the network that calibration runs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_observed(&self, xml: &Path) -> Result<(), QuantizeError> {
        write_observed(&self.network, &self.points, xml)
    }

    /// Writes the network that tries every operation in integers beside the exact one.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_trial(
        &self,
        options: &ComponentOptions,
        observed: &[Observed],
        xml: &Path,
        progress: &dyn Progress,
    ) -> Result<(), QuantizeError> {
        let treatments = self.plan(options, observed)?;
        write_trial(&self.network, &self.points, &treatments, xml, progress)
    }

    fn plan(
        &self,
        options: &ComponentOptions,
        observed: &[Observed],
    ) -> Result<Vec<Treatment>, QuantizeError> {
        plan(&self.points, observed, &options.choice(), |operation| {
            column_maxima(&self.network, operation)
        })
    }

    /// Writes the quantised network's `.bin` to `bin`. Returns its `.xml` text, what was written, and what the manifest says of
    /// it. `observed` has what calibration knows of each point; it is not looked at for weights alone.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write(
        &self,
        options: &ComponentOptions,
        observed: &[Observed],
        bin: &Path,
        progress: &dyn Progress,
    ) -> Result<Written, QuantizeError> {
        let treatments = self.plan(options, observed)?;
        let writer = BinWriter::create(bin)?;
        let mut graph = Graph::new(self.network.name().to_owned(), writer);
        progress.begin(self.network.name(), self.weight_elements());
        rewrite(
            &self.network,
            &self.points,
            &treatments,
            &mut graph,
            progress,
        )?;
        let (xml, writer) = graph.finish();
        Ok(Written {
            xml,
            bin: writer.finish()?,
            in_integers: self.in_integers(&treatments),
            quantization: Quantization {
                mode: options.mode,
                smoothing: options
                    .smoothing
                    .filter(|_| options.mode == QuantizationMode::Full),
                group: match options.mode {
                    QuantizationMode::Full => None,
                    _ => options.weights.group(),
                },
                embeddings: self.stored_table(options.embeddings),
                operations: treatments
                    .iter()
                    .filter(|treatment| treatment.in_integers())
                    .count(),
                in_float: options.in_float.iter().cloned().collect(),
            },
        })
    }

    /// Length of the network's `.bin`.
    pub fn bytes(&self) -> u64 {
        self.network.bin_bytes()
    }

    /// Length of the quantised `.bin`, or a little less.
    pub fn quantized_bytes(&self, options: &ComponentOptions) -> u64 {
        let float: u64 = self
            .points
            .operations
            .iter()
            .filter_map(|operation| operation.weights.as_ref())
            .map(|weights| weights.constant.element.bytes(weights.elements()) as u64)
            .sum();
        let elements = self.weight_elements();
        let stored = match options.stored() {
            WeightsFormat::Int4 => elements / 2,
            _ => elements,
        };
        self.bytes().saturating_sub(float) + stored
    }

    /// How the rows of the table of embeddings are stored, where there is one.
    fn stored_table(&self, choice: WeightsChoice) -> Option<WeightsFormat> {
        let mut operations = self.points.operations.iter();
        let table = operations.find(|operation| operation.kind == Kind::Embedding)?;
        let group = table_group(table.weights.as_ref()?, choice);
        Some(group.map_or(WeightsFormat::Int8, |_| WeightsFormat::Int4))
    }

    fn weight_elements(&self) -> u64 {
        self.points
            .operations
            .iter()
            .filter_map(|operation| operation.weights.as_ref())
            .map(|weights| weights.elements() as u64)
            .sum()
    }

    /// The operations that should have an integer kernel, by all the names that each may have in a profile.
    fn in_integers(&self, treatments: &[Treatment]) -> Vec<Vec<String>> {
        self.points
            .operations
            .iter()
            .zip(treatments)
            .filter(|(_, treatment)| treatment.in_integers())
            .map(|(operation, _)| operation.fused.clone())
            .collect()
    }
}

/// A quantised network as it was written, but for the `.xml`.
pub struct Written {
    /// Text of the `.xml`.
    pub xml: String,
    /// The `.bin`.
    pub bin: BinSummary,
    /// Operations that should have an integer kernel, by all the names that each may have in a profile.
    pub in_integers: Vec<Vec<String>>,
    /// What the manifest says.
    pub quantization: Quantization,
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::ir::ElementType;

    /// Two linear layers that take the same value, by their names.
    fn two_layers(folder: &Path) -> (Component, [String; 2]) {
        let xml = folder.join("transformer.xml");
        let bin = BinWriter::create(&xml.with_extension("bin")).unwrap();
        let mut graph = Graph::new("transformer", bin);
        let value = graph.parameter("hidden_states", ElementType::F32, &[1, -1, 8]);
        for name in ["one", "other"] {
            let product = graph.scoped(name, |graph| {
                let weights = graph.floats(&[2, 8], &[0.5; 16])?;
                Ok::<_, io::Error>(graph.matmul_transposed(value, weights))
            });
            graph.result(name, product.unwrap());
        }
        let (text, bin) = graph.finish();
        bin.finish().unwrap();
        std::fs::write(&xml, text).unwrap();
        let component = Component::open(&xml).unwrap();
        let names = [0, 1].map(|index| component.operation_names()[index].to_owned());
        (component, names)
    }

    #[test]
    fn what_is_watched_is_reduced_before_the_network_goes_on_to_its_own_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let (component, _) = two_layers(folder.path());
        let xml = folder.path().join("observed.xml");
        component.write_observed(&xml).unwrap();
        let observed = Network::open(&xml).unwrap();
        let results = observed.layers().iter();
        let results: Vec<&str> = results
            .filter(|layer| layer.kind() == "Result")
            .map(|layer| observed.source(layer.inputs()[0]).name())
            .collect();
        let (points, own) = results.split_at(3);
        assert!(
            points.iter().all(|name| name.starts_with("observe/0/")),
            "{results:?}"
        );
        assert!(
            own.iter()
                .zip(["one/", "other/"])
                .all(|(name, scope)| name.starts_with(scope)),
            "{results:?}"
        );
        assert_eq!(own.len(), 2);
    }

    #[test]
    fn only_what_is_computed_in_integers_needs_the_range_of_what_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let (component, [one, other]) = two_layers(folder.path());
        assert_eq!(component.point_names().len(), 1);
        let takers = |mode, in_float: &[&String]| {
            component.takers(&ComponentOptions {
                mode,
                weights: WeightsChoice::Int8,
                embeddings: WeightsChoice::Int8,
                smoothing: None,
                in_float: in_float.iter().map(|&name| name.clone()).collect(),
            })
        };
        let full = takers(QuantizationMode::Full, &[]);
        assert_eq!(full, [vec![one.clone(), other.clone()]]);
        let partly = takers(QuantizationMode::Full, &[&one]);
        assert_eq!(partly, [vec![other.clone()]]);
        // Linear layers are computed in floats there.
        let nothing: [Vec<String>; 1] = [Vec::new()];
        assert_eq!(takers(QuantizationMode::Hybrid, &[]), nothing);
        assert_eq!(takers(QuantizationMode::Full, &[&one, &other]), nothing);
    }
}
