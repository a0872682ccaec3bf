//! How much each operation suffers from integers: the network computes as ever, and beside every operation that is to be computed
//! in integers a twin computes it so, on the same inputs.
//!
//! What is told of an operation is the error of its output by its size, both root mean squares over all rows, steps and pictures.
//! Errors do not add up from one operation to the next here: each is told by itself, so that one can be chosen to stay in floats.
//!
//! Outputs are called `trial/<operation>/error` and `trial/<operation>/size`: squares, their mean over the last axis.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::observe::Shown;
use super::observed::write_telling;
use super::plan::Treatment;
use super::points::Points;
use super::twins::{Twin, twins};
use super::{Progress, QuantizeError};
use crate::engine::{Elements, EngineError, Graph as Running, Port, Tensor};
use crate::ir::{Graph, Network};

const PREFIX: &str = "trial/";

/// Writes the network that tells it to `xml` and its `.bin`.
pub(super) fn write_trial(
    network: &Network,
    points: &Points,
    treatments: &[Treatment],
    xml: &Path,
    progress: &dyn Progress,
) -> Result<(), QuantizeError> {
    write_telling(network, xml, |graph, values| {
        for twin in twins(
            network,
            points,
            treatments,
            graph,
            values,
            &Unseen(progress),
        )? {
            tell(graph, &twin)?;
        }
        Ok(())
    })
}

/// A progress that shows nothing: these weights are quantised for a trial alone.
struct Unseen<'a>(&'a dyn Progress);

impl Progress for Unseen<'_> {
    fn begin(&self, _component: &str, _weights: u64) {}
    fn advance(&self, _weights: u64) {}
    fn unchanged(&self, _component: &str) {}
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

fn tell(graph: &mut Graph, twin: &Twin) -> std::io::Result<()> {
    let scope = format!("{PREFIX}{}", twin.operation);
    graph.scoped(scope.clone(), |graph| {
        let error = graph.subtract(twin.treated, twin.exact);
        for (what, value) in [("error", error), ("size", twin.exact)] {
            let squares = graph.multiply(value, value);
            let mean = graph.reduce_mean(squares)?;
            graph.result(format!("{scope}/{what}"), mean);
        }
        Ok(())
    })
}

/// Sums of squares, by component and operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial(BTreeMap<(&'static str, usize), Squares>);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Squares {
    error: f64,
    size: f64,
}

impl Trial {
    /// Relative errors of the operations of a component that were tried, by their places.
    pub fn errors(&self, component: &str) -> BTreeMap<usize, f64> {
        self.0
            .iter()
            .filter(|((of, _), _)| *of == component)
            .map(|(&(_, operation), squares)| {
                let error = (squares.error / squares.size.max(f64::MIN_POSITIVE)).sqrt();
                // What is not finite is as wrong as can be.
                let error = if error.is_finite() {
                    error
                } else {
                    f64::INFINITY
                };
                (operation, error)
            })
            .collect()
    }

    fn add(&mut self, component: &'static str, operation: usize, what: &str, values: &[f32]) {
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        let squares = self.0.entry((component, operation)).or_default();
        match what {
            "error" => squares.error += sum,
            _ => squares.size += sum,
        }
    }
}

/// A network with twins, behind the pipeline's seam.
pub struct TrialGraph<Network> {
    component: &'static str,
    network: Network,
    trial: Rc<RefCell<Trial>>,
}

impl<Network: Shown> TrialGraph<Network> {
    /// Has `network`, which is of `component`, tell `trial`.
    pub fn new(component: &'static str, network: Network, trial: Rc<RefCell<Trial>>) -> Self {
        Self {
            component,
            network,
            trial,
        }
    }
}

impl<Network: Shown> Running for TrialGraph<Network> {
    fn input(&self, name: &str) -> Option<Port> {
        self.network.input(name)
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        let mut own = None;
        let mut trial = self.trial.borrow_mut();
        for (name, tensor) in self.network.infer_all(inputs, cancelled)? {
            match (read_name(&name), tensor.elements()) {
                (Some((operation, what)), Elements::F32(values)) => {
                    trial.add(self.component, operation, what, values);
                }
                _ => own = own.or(Some(tensor)),
            }
        }
        own.ok_or_else(|| EngineError::Runtime("a network on trial without output".to_owned()))
    }
}

/// Which operation an output tells of, and what; nothing for an output of the network's own.
fn read_name(name: &str) -> Option<(usize, &str)> {
    let (operation, what) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let known = matches!(what, "error" | "size");
    Some((operation.parse().ok().filter(|_| known)?, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_the_size_of_what_it_is_an_error_of() {
        let mut trial = Trial::default();
        for _ in 0..2 {
            trial.add("transformer", 3, "error", &[0.01, 0.03]);
            trial.add("transformer", 3, "size", &[1.0, 3.0]);
        }
        trial.add("transformer", 4, "error", &[f32::NAN]);
        trial.add("transformer", 4, "size", &[1.0]);
        trial.add("vae_decoder", 3, "size", &[1.0]);
        let errors = trial.errors("transformer");
        assert_eq!(errors.len(), 2);
        assert!((errors[&3] - 0.1).abs() < 1e-6, "{errors:?}");
        assert!(errors[&4].is_infinite());
        assert_eq!(trial.errors("vae_decoder"), BTreeMap::from([(3, 0.0)]));
    }

    #[test]
    fn outputs_of_twins_are_told_from_the_networks_own() {
        assert_eq!(read_name("trial/17/error"), Some((17, "error")));
        assert_eq!(read_name("trial/0/size"), Some((0, "size")));
        for name in ["noise_pred", "trial/x/error", "trial/1/mean", "trial/1"] {
            assert_eq!(read_name(name), None, "{name}");
        }
    }
}
