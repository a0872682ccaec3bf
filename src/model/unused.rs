//! Tensors of a checkpoint that the architecture has no use for: left out of the model, and reported.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// What was left out of a component, beyond what published checkpoints are known to carry along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedTensors {
    /// How many there are.
    pub count: usize,
    /// The names of the first ones, in order.
    pub names: Vec<String>,
}

impl UnusedTensors {
    /// Names that are kept: enough to recognise what they are of.
    const MOST_NAMES: usize = 5;

    /// Of all names, in order; nothing where there are none.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut names = names.into_iter();
        let first: Vec<String> = names
            .by_ref()
            .take(Self::MOST_NAMES)
            .map(str::to_owned)
            .collect();
        let count = first.len() + names.count();
        (count > 0).then_some(Self {
            count,
            names: first,
        })
    }
}

impl fmt::Display for UnusedTensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} tensor{plural}: ", self.count)?;
        for (index, name) in self.names.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            // Names come out of somebody's file, and this goes to a terminal.
            write!(f, "{comma}{}", shown(name))?;
        }
        let more = self.count.saturating_sub(self.names.len());
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_five_are_named_and_all_are_counted() {
        assert_eq!(UnusedTensors::of([]), None);
        let one = UnusedTensors::of(["a\u{1b}[2J"]).unwrap();
        assert_eq!(one.to_string(), "1 tensor: a\\u{1b}[2J");
        let names: Vec<String> = (0..7).map(|number| format!("t{number}")).collect();
        let seven = UnusedTensors::of(names.iter().map(String::as_str)).unwrap();
        assert_eq!(
            seven.to_string(),
            "7 tensors: t0, t1, t2, t3, t4 and 2 more"
        );
    }
}
