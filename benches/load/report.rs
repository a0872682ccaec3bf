//! The table: printed row by row as it is found, and whether all of it holds.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Stdout, Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use crate::client::Outcome;
use crate::statistics::{longest, quantile};

/// Prints what is found, and remembers whether all of it holds.
pub struct Report {
    out: Stdout,
    failures: usize,
}

impl Report {
    /// Prints the table's head.
    pub fn begin() -> Self {
        let mut report = Self {
            out: stdout(),
            failures: 0,
        };
        report.row(["what", "asked for", "found", ""]);
        report.row(["---"; 4]);
        report
    }

    /// A new scenario begins.
    pub fn scenario(&mut self, name: &str) {
        self.row([&format!("**{name}**"), "", "", ""]);
    }

    /// A figure that must hold.
    pub fn hold(&mut self, what: &str, asked: &str, found: &str, holds: bool) {
        let verdict = if holds { "pass" } else { "**fail**" };
        self.row([what, asked, found, verdict]);
        self.failures += usize::from(!holds);
    }

    /// A figure that is worth knowing.
    pub fn tell(&mut self, what: &str, found: &str) {
        self.row([what, "", found, ""]);
    }

    fn row(&mut self, cells: [&str; 4]) {
        writeln!(self.out, "| {} |", cells.join(" | ")).unwrap();
    }

    /// What the process exits with.
    pub fn end(&self) -> ExitCode {
        ExitCode::from(u8::from(self.failures > 0))
    }
}

/// How often each answer came, as in `9 × 200, 491 × 429`.
#[derive(Default)]
pub struct Tally(BTreeMap<String, usize>);

impl Tally {
    /// Counts outcomes by status, or by the way in which an answer was lost.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            tally.add(&match outcome {
                Ok(answer) => answer.status.to_string(),
                Err(lost) => lost.to_string(),
            });
        }
        tally
    }

    /// Counts one more.
    pub fn add(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    /// How many there are of these.
    pub fn count(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Whether there is nothing but these.
    pub fn is_only(&self, these: &[&str]) -> bool {
        self.0.keys().all(|what| these.contains(&what.as_str()))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "none");
        }
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(what, count)| format!("{count} × {what}"))
            .collect();
        write!(f, "{}", parts.join(", "))
    }
}

/// Median, tail and the longest of many times.
pub fn spread(times: &[Duration]) -> String {
    format!(
        "p50 {}, p99 {}, longest {}",
        milliseconds(quantile(times, 0.5)),
        milliseconds(quantile(times, 0.99)),
        milliseconds(longest(times))
    )
}

/// Median and the longest of a few times.
pub fn middle_and_longest(times: &[Duration]) -> String {
    format!(
        "median {}, longest {}",
        milliseconds(quantile(times, 0.5)),
        milliseconds(longest(times))
    )
}

/// Milliseconds for people.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// MiB for people.
pub fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1_048_576.0)
}
