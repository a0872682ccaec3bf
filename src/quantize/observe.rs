//! A network that is watched: it computes what the pipeline wants of it, and folds what it shows of its points into statistics.

use std::cell::RefCell;
use std::rc::Rc;

use super::statistics::{Reduction, Statistics};
use crate::engine::{CompiledGraph, Elements, EngineError, Graph, Port, Tensor};

/// What the outputs of points are called, in front of their numbers.
const PREFIX: &str = "observe/";

/// An observed network (`observed.rs`) behind the pipeline's seam.
pub struct ObservedGraph {
    component: &'static str,
    graph: CompiledGraph,
    statistics: Rc<RefCell<Statistics>>,
}

impl ObservedGraph {
    /// Watches `graph`, which is of `component`.
    pub fn new(
        component: &'static str,
        graph: CompiledGraph,
        statistics: Rc<RefCell<Statistics>>,
    ) -> Self {
        Self {
            component,
            graph,
            statistics,
        }
    }
}

impl Graph for ObservedGraph {
    fn input(&self, name: &str) -> Option<Port> {
        self.graph.input(name)
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        let mut own = None;
        // All that a point shows of one inference is folded in together, the extremes of its rows in this order.
        let mut seen = Vec::new();
        for (name, tensor) in self.graph.infer_all(inputs, cancelled)? {
            match read_name(&name) {
                Some((point, reduction)) => seen.push((point, reduction, tensor)),
                None => own = own.or(Some(tensor)),
            }
        }
        seen.sort_by_key(|&(point, reduction, _)| (point, reduction == Reduction::RowsMax));
        let mut statistics = self.statistics.borrow_mut();
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
