//! `/metrics` as whole numbers: counts and states, which is all that the scenarios look at.

use std::collections::HashMap;

/// One scrape.
pub struct Samples(HashMap<String, i64>);

impl Samples {
    /// Reads Prometheus' text format.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .filter_map(|line| {
                    let (series, value) = line.rsplit_once(' ')?;
                    // What is not whole is a time.
                    Some((series.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// A series by its name and labels, without the prefix `pixart_`.
    pub fn of(&self, series: &str) -> i64 {
        self.0[&format!("pixart_{series}")]
    }

    /// All series of a name, whatever their labels.
    pub fn sum(&self, name: &str) -> i64 {
        let prefix = format!("pixart_{name}{{");
        self.0
            .iter()
            .filter(|(series, _)| series.starts_with(&prefix))
            .map(|(_, value)| value)
            .sum()
    }

    /// How much a series has grown since.
    pub fn since(&self, earlier: &Self, series: &str) -> i64 {
        self.of(series) - earlier.of(series)
    }

    /// `accepted = finished + running + waiting`, in words, and whether it is true.
    pub fn conservation(&self) -> (String, bool) {
        let accepted = self.of("jobs_accepted_total");
        let finished = self.sum("jobs_finished_total");
        let (running, waiting) = (self.of("requests_running"), self.of("requests_waiting"));
        let words = format!("{accepted} = {finished} + {running} + {waiting}");
        (words, accepted == finished + running + waiting)
    }
}
