//! The ports that a written IR must have, against those that the runtime finds in it.

use std::collections::BTreeMap;

use crate::engine::Port;

/// Name, element type by OpenVINO's name, and number of axes.
pub(super) type ExpectedPort = (&'static str, &'static str, usize);

/// What differs, in words; nothing when the ports are those that are expected, in whatever order.
pub(super) fn differences(expected: &[ExpectedPort], found: &[(String, Port)]) -> Vec<String> {
    let by_name: BTreeMap<&str, &Port> = found
        .iter()
        .map(|(name, port)| (name.as_str(), port))
        .collect();
    let mut differences: Vec<String> = expected
        .iter()
        .filter_map(|&(name, element, rank)| match by_name.get(name) {
            None => Some(format!("'{name}' is missing")),
            Some(port) if port.element != element || port.dims.len() != rank => Some(format!(
                "'{name}' is {} of {} axes and should be {element} of {rank}",
                port.element,
                port.dims.len()
            )),
            Some(_) => None,
        })
        .collect();
    differences.extend(
        found
            .iter()
            .filter(|(name, _)| expected.iter().all(|(wanted, ..)| wanted != name))
            .map(|(name, _)| format!("'{name}' should not be there")),
    );
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [ExpectedPort; 2] = [("input_ids", "i64", 2), ("last_hidden_state", "f32", 3)];

    fn found(ports: &[ExpectedPort]) -> Vec<(String, Port)> {
        ports
            .iter()
            .map(|&(name, element, rank)| {
                let port = Port {
                    element: element.to_owned(),
                    dims: vec![None; rank],
                };
                (name.to_owned(), port)
            })
            .collect()
    }

    #[test]
    fn the_same_ports_in_any_order_do_not_differ() {
        let [ids, hidden] = EXPECTED;
        assert_eq!(differences(&EXPECTED, &found(&[hidden, ids])), [""; 0]);
    }

    #[test]
    fn another_name_element_type_or_rank_is_told() {
        let [ids, hidden] = EXPECTED;
        for (ports, told) in [
            (
                [("input_ids", "i32", 2), hidden],
                vec!["'input_ids' is i32 of 2 axes and should be i64 of 2"],
            ),
            (
                [ids, ("last_hidden_state", "f32", 2)],
                vec!["'last_hidden_state' is f32 of 2 axes and should be f32 of 3"],
            ),
            (
                [("ids", "i64", 2), hidden],
                vec!["'input_ids' is missing", "'ids' should not be there"],
            ),
        ] {
            assert_eq!(differences(&EXPECTED, &found(&ports)), told);
        }
    }
}
