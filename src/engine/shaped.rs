//! A network for one shape of an input, beside the same network for any.
//!
//! Kernels that know how many rows there are run a few per cent faster than those that are told (docs/adr/0015). So the shape
//! that most pictures have gets a network of its own; the other one is compiled when another shape comes, and stays.
//!
//! An inference that is stopped midway leaves a network of fixed shapes in no state to be used, and no small inference could
//! heal it: it is compiled anew at its next use.

use super::{EngineError, Graph, OnDemandGraph, Port, Tensor};

/// Two networks that compute the same.
pub struct ShapedGraph {
    input: &'static str,
    shape: Vec<usize>,
    shaped: OnDemandGraph,
    general: OnDemandGraph,
}

impl ShapedGraph {
    /// `shaped` takes an `input` of `shape` alone, `general` any.
    pub fn new(
        input: &'static str,
        shape: Vec<usize>,
        shaped: OnDemandGraph,
        general: OnDemandGraph,
    ) -> Self {
        Self {
            input,
            shape,
            shaped,
            general,
        }
    }
}

impl Graph for ShapedGraph {
    /// Gives back the one that takes any shape, whose memory grows with what is drawn.
    fn release(&mut self) -> bool {
        self.general.release()
    }

    fn input(&self, name: &str) -> Option<Port> {
        self.shaped.input(name).or_else(|| self.general.input(name))
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        let fits = inputs
            .iter()
            .any(|(name, tensor)| *name == self.input && tensor.shape() == self.shape);
        if !fits {
            return self.general.infer(inputs, cancelled);
        }
        let outcome = self.shaped.infer(inputs, cancelled);
        if matches!(outcome, Err(EngineError::Cancelled)) {
            self.shaped.release();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Tells of its compilations and inferences, and fails as it is told to.
    struct Fake {
        name: &'static str,
        log: Rc<RefCell<Vec<String>>>,
        stops: bool,
    }

    impl Graph for Fake {
        fn input(&self, _: &str) -> Option<Port> {
            None
        }

        fn infer(
            &mut self,
            inputs: &[(&str, &Tensor)],
            _: &dyn Fn() -> bool,
        ) -> Result<Tensor, EngineError> {
            self.log.borrow_mut().push(format!("{} ran", self.name));
            if self.stops {
                return Err(EngineError::Cancelled);
            }
            Ok(inputs[0].1.clone())
        }
    }

    fn graph(log: &Rc<RefCell<Vec<String>>>, stops: bool) -> ShapedGraph {
        let fake = |name: &'static str, stops: bool| {
            let log = Rc::clone(log);
            OnDemandGraph::new(move || {
                log.borrow_mut().push(format!("{name} compiled"));
                let log = Rc::clone(&log);
                Ok(Box::new(Fake { name, log, stops }))
            })
        };
        ShapedGraph::new(
            "x",
            vec![1, 2],
            fake("shaped", stops),
            fake("general", false),
        )
    }

    fn run(graph: &mut ShapedGraph, shape: [usize; 2]) -> Result<Tensor, EngineError> {
        let tensor = Tensor::f32(shape, vec![0.0; shape[0] * shape[1]]);
        graph.infer(&[("x", &tensor)], &|| false)
    }

    #[test]
    fn each_shape_runs_in_its_network_and_both_stay() {
        let log = Rc::default();
        let mut graph = graph(&log, false);
        for shape in [[1, 2], [1, 3], [1, 2], [2, 2]] {
            run(&mut graph, shape).unwrap();
        }
        assert_eq!(
            log.borrow().as_slice(),
            [
                "shaped compiled",
                "shaped ran",
                "general compiled",
                "general ran",
                "shaped ran",
                "general ran"
            ]
        );
    }

    #[test]
    fn a_network_of_one_shape_that_was_stopped_is_compiled_anew() {
        let log = Rc::default();
        let mut graph = graph(&log, true);
        for _ in 0..2 {
            assert!(matches!(
                run(&mut graph, [1, 2]),
                Err(EngineError::Cancelled)
            ));
        }
        assert_eq!(
            log.borrow().as_slice(),
            [
                "shaped compiled",
                "shaped ran",
                "shaped compiled",
                "shaped ran"
            ]
        );
    }
}
