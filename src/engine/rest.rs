//! How a network that was stopped midway comes to rest.
//!
//! OpenVINO's CPU plugin (seen with 2026.4.1) lets each node take the shapes of an inference when it comes to that node,
//! and skips nodes whose input shapes are those of last time. Stopped midway, the nodes behind that point keep the former
//! shapes; an inference of the former shapes then finds nothing to do in the nodes before it, and fails, or gives numbers
//! that are wrong without a word (36 and 4 of 40 trials with sketchbook's transformer). One whole inference in which every
//! free dimension is a third one, neither the former nor the stopped one, makes every node take shapes again (0 of 40).

use std::collections::BTreeMap;

use super::{Port, Tensor};

/// The shape of each input, by its name.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// Sizes that a free dimension is given: small, of one kind that patches of 2, 4 and 8 tile, and one more than there are
/// to stay away from.
const SIZES: [usize; 3] = [8, 16, 24];

/// Zeros in shapes that differ in every free dimension from `former` and from `stopped`. Dimensions that are equal in both
/// stay equal, so that what belongs together (the batch of all inputs) still does. None where a port's rank is unknown.
pub(super) fn resting_inputs<'a>(
    ports: impl Fn(&str) -> Option<&'a Port>,
    former: &Shapes,
    stopped: &Shapes,
) -> Option<Vec<(String, Tensor)>> {
    stopped
        .iter()
        .map(|(name, shape)| {
            let port = ports(name)?;
            if port.dims.len() != shape.len() {
                return None;
            }
            let before = former.get(name);
            let shape: Vec<usize> = (0..shape.len())
                .map(|axis| {
                    let before = before.and_then(|shape| shape.get(axis)).copied();
                    port.dims[axis].unwrap_or_else(|| third(before, shape[axis]))
                })
                .collect();
            let count = shape.iter().product();
            let zeros = if port.element.starts_with('i') {
                Tensor::i64(shape, vec![0; count])
            } else {
                Tensor::f32(shape, vec![0.0; count])
            };
            Some((name.clone(), zeros))
        })
        .collect()
}

/// A size that is neither: the same for the same two.
fn third(former: Option<usize>, stopped: usize) -> usize {
    SIZES
        .into_iter()
        .find(|&size| Some(size) != former && size != stopped)
        .expect("two of three sizes are taken at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(entries: &[(&str, &[usize])]) -> Shapes {
        entries
            .iter()
            .map(|&(name, shape)| (name.to_owned(), shape.to_vec()))
            .collect()
    }

    fn rest(former: &Shapes, stopped: &Shapes) -> Option<Vec<(String, Vec<usize>)>> {
        let latents = Port {
            element: "f32".to_owned(),
            dims: vec![None, Some(4), None, None],
        };
        let text = Port {
            element: "i64".to_owned(),
            dims: vec![None, None],
        };
        let unknown = Port {
            element: "f32".to_owned(),
            dims: Vec::new(),
        };
        let port = |name: &str| match name {
            "latents" => Some(&latents),
            "text" => Some(&text),
            "unknown" => Some(&unknown),
            _ => None,
        };
        let inputs = resting_inputs(port, former, stopped)?;
        Some(
            inputs
                .into_iter()
                .map(|(name, tensor)| (name, tensor.shape().to_vec()))
                .collect(),
        )
    }

    #[test]
    fn every_free_dimension_is_a_third_one_and_equal_ones_stay_equal() {
        let former = shapes(&[("latents", &[1, 4, 16, 8]), ("text", &[1, 9])]);
        let stopped = shapes(&[("latents", &[2, 4, 8, 16]), ("text", &[2, 8])]);
        let rested = rest(&former, &stopped).unwrap();
        assert_eq!(
            rested,
            [
                ("latents".to_owned(), vec![8, 4, 24, 24]),
                ("text".to_owned(), vec![8, 16])
            ]
        );
    }

    #[test]
    fn a_network_that_never_ran_to_its_end_rests_as_well() {
        let stopped = shapes(&[("text", &[8, 8])]);
        let rested = rest(&Shapes::new(), &stopped).unwrap();
        assert_eq!(rested, [("text".to_owned(), vec![16, 16])]);
    }

    #[test]
    fn where_a_rank_is_unknown_nothing_is_known() {
        let stopped = shapes(&[("unknown", &[1, 2])]);
        assert_eq!(rest(&Shapes::new(), &stopped), None);
    }
}
