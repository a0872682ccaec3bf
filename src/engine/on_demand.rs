//! A network that is in memory only while it is needed: compiled at its first use, given back, and compiled again.
//!
//! What it is not: it knows no clock. Who uses it says when it may go.

use std::time::{Duration, Instant};

use super::{EngineError, Graph, Port, Tensor, give_back_memory};

/// Reads and compiles the network, each time anew.
type Compile = dyn FnMut() -> Result<Box<dyn Graph>, EngineError>;

/// A network that is compiled when it is needed.
pub struct OnDemandGraph {
    compile: Box<Compile>,
    graph: Option<Box<dyn Graph>>,
}

impl OnDemandGraph {
    /// Not in memory yet.
    pub fn new(compile: impl FnMut() -> Result<Box<dyn Graph>, EngineError> + 'static) -> Self {
        Self {
            compile: Box::new(compile),
            graph: None,
        }
    }

    /// In memory already, as `graph`.
    pub fn there(
        graph: Box<dyn Graph>,
        compile: impl FnMut() -> Result<Box<dyn Graph>, EngineError> + 'static,
    ) -> Self {
        Self {
            graph: Some(graph),
            ..Self::new(compile)
        }
    }
}

impl Graph for OnDemandGraph {
    fn input(&self, name: &str) -> Option<Port> {
        self.graph.as_ref()?.input(name)
    }

    fn load(&mut self) -> Result<Option<Duration>, EngineError> {
        if self.graph.is_some() {
            return Ok(None);
        }
        let start = Instant::now();
        self.graph = Some((self.compile)()?);
        Ok(Some(start.elapsed()))
    }

    fn release(&mut self) -> bool {
        let was_there = self.graph.take().is_some();
        if was_there {
            // The C library would keep what the network's buffers took.
            give_back_memory();
        }
        was_there
    }

    fn is_resident(&self) -> bool {
        self.graph.is_some()
    }

    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        self.load()?;
        let graph = self.graph.as_mut().expect("loaded just above");
        graph.infer(inputs, cancelled)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Answers with its number.
    struct Numbered(f32);

    impl Graph for Numbered {
        fn input(&self, _name: &str) -> Option<Port> {
            Some(Port {
                element: "i64".to_owned(),
                dims: vec![None],
            })
        }

        fn infer(
            &mut self,
            _inputs: &[(&str, &Tensor)],
            _cancelled: &dyn Fn() -> bool,
        ) -> Result<Tensor, EngineError> {
            Ok(Tensor::f32([1], vec![self.0]))
        }
    }

    /// Each compilation gives a network of the next number, but the ones in `broken` none.
    fn numbered(broken: &'static [usize]) -> (OnDemandGraph, Rc<Cell<usize>>) {
        let compilations = Rc::new(Cell::new(0));
        let count = Rc::clone(&compilations);
        let graph = OnDemandGraph::new(move || {
            count.set(count.get() + 1);
            if broken.contains(&count.get()) {
                return Err(EngineError::Runtime("no memory".to_owned()));
            }
            Ok(Box::new(Numbered(count.get() as f32)) as Box<dyn Graph>)
        });
        (graph, compilations)
    }

    #[test]
    fn it_is_compiled_at_its_first_use_and_after_each_release() {
        let (mut graph, compilations) = numbered(&[]);
        assert!(!graph.is_resident() && graph.input("input_ids").is_none());
        assert!(!graph.release());
        assert_eq!(compilations.get(), 0);

        assert!(graph.load().unwrap().is_some());
        assert!(graph.is_resident() && graph.input("input_ids").is_some());
        assert!(graph.load().unwrap().is_none());
        let answer = |graph: &mut OnDemandGraph| graph.infer(&[], &|| false).unwrap();
        assert_eq!(answer(&mut graph), Tensor::f32([1], vec![1.0]));
        assert_eq!(compilations.get(), 1);

        assert!(graph.release());
        assert!(!graph.is_resident() && graph.input("input_ids").is_none());
        assert!(!graph.release());
        assert_eq!(answer(&mut graph), Tensor::f32([1], vec![2.0]));
    }

    #[test]
    fn a_compilation_that_fails_is_told_and_tried_again() {
        let (mut graph, compilations) = numbered(&[1]);
        assert!(graph.load().is_err());
        assert!(!graph.is_resident());
        assert!(graph.load().unwrap().is_some());
        assert_eq!(compilations.get(), 2);
    }
}
