//! A network that is watched: it computes what the pipeline wants of it, and folds what it shows of its points into statistics.

use std::cell::RefCell;
use std::rc::Rc;

use super::statistics::{Reduction, Statistics};
use crate::engine::{CompiledGraph, Elements, EngineError, Graph, Port, Tensor};

/// What the outputs of points are called, in front of their numbers.
const PREFIX: &str = "observe/";

/// A network all of whose outputs can be had.
pub trait Shown: Graph {
    /// Runs the network as [`Graph::infer`] does and returns all of its outputs, by name.
    ///
    /// # Errors
    /// Those of [`Graph::infer`].
    fn infer_all(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, Tensor)>, EngineError>;
}

impl Shown for CompiledGraph {
    fn infer_all(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, Tensor)>, EngineError> {
        Self::infer_all(self, inputs, cancelled)
    }
}

/// An observed network (`observed.rs`) behind the pipeline's seam.
pub struct ObservedGraph<Network> {
    component: &'static str,
    network: Network,
    statistics: Rc<RefCell<Statistics>>,
}

impl<Network: Shown> ObservedGraph<Network> {
    /// Watches `network`, which is of `component`.
    pub fn new(
        component: &'static str,
        network: Network,
        statistics: Rc<RefCell<Statistics>>,
    ) -> Self {
        Self {
            component,
            network,
            statistics,
        }
    }
}

impl<Network: Shown> Graph for ObservedGraph<Network> {
    fn input(&self, name: &str) -> Option<Port> {
        self.network.input(name)
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        let mut own = None;
        // All that a point shows of one inference is folded in together, the extremes of its rows in this order.
        let mut seen = Vec::new();
        for (name, tensor) in self.network.infer_all(inputs, cancelled)? {
            match read_name(&name) {
                Some((point, reduction)) => seen.push((point, reduction, tensor)),
                None => own = own.or(Some(tensor)),
            }
        }
        seen.sort_by_key(|&(point, reduction, _)| (point, reduction == Reduction::RowsMax));
        let mut statistics = self.statistics.borrow_mut();
        // A range without one of its ends would be wrong without a word.
        for reduction in [Reduction::RowsMin, Reduction::RowsMax] {
            let shown = seen.iter().filter(|&&(_, of, _)| of == reduction);
            let shown = shown.map(|&(point, ..)| point);
            if !shown.eq(0..statistics.points(self.component)) {
                return Err(EngineError::Runtime(format!(
                    "the {} that is watched does not show every point once",
                    self.component
                )));
            }
        }
        for (point, reduction, tensor) in &seen {
            if let Elements::F32(values) = tensor.elements() {
                statistics.fold(self.component, *point, *reduction, values);
            }
        }
        own.ok_or_else(|| EngineError::Runtime("an observed network without output".to_owned()))
    }
}

/// Which point an output shows, and how; nothing for an output of the network's own.
fn read_name(name: &str) -> Option<(usize, Reduction)> {
    let (point, reduction) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let reduction = match reduction {
        "rows_min" => Reduction::RowsMin,
        "rows_max" => Reduction::RowsMax,
        "channels_max" => Reduction::ChannelsMax,
        _ => return None,
    };
    Some((point.parse().ok()?, reduction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::{RangeRule, StatisticsKey};

    type Outputs = Vec<(&'static str, Vec<f32>)>;

    /// A network with the outputs of these names and numbers.
    struct Showing(Outputs);

    impl Graph for Showing {
        fn input(&self, _name: &str) -> Option<Port> {
            None
        }

        fn infer(
            &mut self,
            _inputs: &[(&str, &Tensor)],
            _cancelled: &dyn Fn() -> bool,
        ) -> Result<Tensor, EngineError> {
            panic!("all of its outputs are asked for")
        }
    }

    impl Shown for Showing {
        fn infer_all(
            &mut self,
            _inputs: &[(&str, &Tensor)],
            cancelled: &dyn Fn() -> bool,
        ) -> Result<Vec<(String, Tensor)>, EngineError> {
            if cancelled() {
                return Err(EngineError::Cancelled);
            }
            let output = |(name, values): &(&'static str, Vec<f32>)| {
                let tensor = Tensor::f32([values.len()], values.clone());
                ((*name).to_owned(), tensor)
            };
            Ok(self.0.iter().map(output).collect())
        }
    }

    fn statistics() -> Rc<RefCell<Statistics>> {
        let key = StatisticsKey {
            model_digest: "model".to_owned(),
            captions_digest: "captions".to_owned(),
            steps: 1,
            size: "8x8".to_owned(),
            as_asked: false,
            seed: 0,
            precision: "f32".to_owned(),
        };
        let points = vec!["a".to_owned(), "b".to_owned()];
        let statistics = Statistics::new(key, &[("transformer".to_owned(), points)]);
        Rc::new(RefCell::new(statistics))
    }

    /// What every inference of two points has, in another order than they are folded in.
    fn whole() -> Outputs {
        vec![
            ("observe/1/rows_max", vec![7.0, 2.0]),
            ("observe/0/rows_max", vec![3.0]),
            ("noise_pred", vec![0.5]),
            ("observe/0/channels_max", vec![3.0, 2.0]),
            ("observe/1/rows_min", vec![-1.0, 0.0]),
            ("observe/0/rows_min", vec![-2.0]),
        ]
    }

    #[test]
    fn the_networks_own_output_comes_back_and_the_others_are_folded_in() {
        let statistics = statistics();
        let mut graph = ObservedGraph::new("transformer", Showing(whole()), Rc::clone(&statistics));
        for _ in 0..2 {
            let own = graph.infer(&[], &|| false).unwrap();
            assert_eq!(own, Tensor::f32([1], vec![0.5]));
        }
        let takers = ["x", "y"].map(|name| vec![name.to_owned()]);
        let statistics = statistics.borrow();
        let seen = statistics.observed("transformer", RangeRule::MinMax, &takers);
        let seen = seen.unwrap();
        assert_eq!((seen[0].low, seen[0].high), (-2.0, 3.0));
        assert_eq!((seen[1].low, seen[1].high), (-1.0, 7.0));
        assert_eq!(seen[0].channels, [3.0, 2.0]);
        assert!(seen[1].channels.is_empty());
    }

    #[test]
    fn a_cancelled_inference_leaves_the_statistics_alone() {
        let statistics = statistics();
        let before = statistics.borrow().clone();
        let mut graph = ObservedGraph::new("transformer", Showing(whole()), Rc::clone(&statistics));
        let stopped = graph.infer(&[], &|| true);
        assert!(matches!(stopped, Err(EngineError::Cancelled)));
        assert_eq!(*statistics.borrow(), before);
    }

    #[test]
    fn a_network_that_hides_a_point_or_shows_one_twice_is_refused() {
        let changes: [fn(&mut Outputs); 4] = [
            |outputs| outputs.retain(|(name, _)| *name != "observe/1/rows_min"),
            |outputs| outputs.retain(|(name, _)| !name.ends_with("rows_max")),
            |outputs| outputs.push(("observe/2/rows_min", vec![0.0])),
            |outputs| outputs.push(("observe/0/rows_max", vec![9.0])),
        ];
        for change in changes {
            let mut outputs = whole();
            change(&mut outputs);
            let statistics = statistics();
            let before = statistics.borrow().clone();
            let mut graph =
                ObservedGraph::new("transformer", Showing(outputs), Rc::clone(&statistics));
            let error = graph.infer(&[], &|| false).unwrap_err().to_string();
            assert!(error.contains("every point once"), "{error}");
            assert_eq!(*statistics.borrow(), before);
        }
    }

    #[test]
    fn outputs_of_points_are_told_from_the_networks_own() {
        assert_eq!(
            read_name("observe/17/rows_max"),
            Some((17, Reduction::RowsMax))
        );
        assert_eq!(
            read_name("observe/0/channels_max"),
            Some((0, Reduction::ChannelsMax))
        );
        for name in [
            "noise_pred",
            "observe/x/rows_min",
            "observe/1/mean",
            "observe/1",
        ] {
            assert_eq!(read_name(name), None, "{name}");
        }
    }
}
