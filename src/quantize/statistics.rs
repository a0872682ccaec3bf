//! What calibration keeps of every point: its extremes, in every sense that a rule may ask for, and those of its channels.
//!
//! Statistics are folded in one inference after the other. Their file is written whole or not at all, and says of which model
//! and which pictures it is; a run that was interrupted goes on from it and ends with the same numbers as one that was not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::plan::Observed;
use super::sketch::Sketch;
use crate::files;
use crate::model::{CalibrationEntry, hex, parent_of, resolved};

/// Longest statistics file taken; that of a published model has 4 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Which range of what was seen counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RangeRule {
    /// From the least value to the greatest.
    MinMax,
    /// From the mean of the inferences' least values to the mean of their greatest.
    MeanMinMax,
    /// The range that holds so many per cent of the extremes of the rows (the last axis).
    Percentile(f64),
}

impl fmt::Display for RangeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.write_str("min-max"),
            Self::MeanMinMax => f.write_str("mean-min-max"),
            Self::Percentile(per_cent) => write!(f, "percentile:{per_cent}"),
        }
    }
}

impl FromStr for RangeRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "min-max" => return Ok(Self::MinMax),
            "mean-min-max" => return Ok(Self::MeanMinMax),
            _ => {}
        }
        text.strip_prefix("percentile:")
            .and_then(|per_cent| per_cent.parse::<f64>().ok())
            .filter(|per_cent| (50.0..=100.0).contains(per_cent))
            .map(Self::Percentile)
            .ok_or_else(|| {
                "a range is min-max, mean-min-max, or percentile:P with P from 50 to 100".to_owned()
            })
    }
}

/// Why statistics cannot be used.
#[derive(Debug, Error)]
pub enum StatisticsError {
    /// A point was zero, infinite or not a number throughout.
    #[error(
        "calibration saw {what} at {point} of the {component}: keep what takes it in floats (--in-float {takers}), or take other captions"
    )]
    Range {
        /// The component.
        component: String,
        /// The point.
        point: String,
        /// What was seen.
        what: &'static str,
        /// The operations that take it, with the flag between their names.
        takers: String,
    },
    /// A file that is damaged, or is none of ours.
    #[error("{path} holds no calibration of pixart's ({detail}): remove it, or name another file with --statistics", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A file of other pictures.
    #[error("{path} is of another {what}: remove it, or name another file with --statistics", path = path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The file cannot be read or written.
    #[error("cannot keep the calibration in {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What decides the numbers: two runs with the same key see the same pictures in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticsKey {
    /// Digest of the model that is watched.
    pub model_digest: String,
    /// Digest of the captions.
    pub captions_digest: String,
    /// Denoising steps of a picture.
    pub steps: u32,
    /// Its size, such as `512x512`.
    pub size: String,
    /// Whether it was drawn in that size although the model has an aspect bin near it: earlier versions, whose files have no such
    /// field, drew in the bin and called it by the size that was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_asked: bool,
    /// Seed of the first picture.
    pub seed: u64,
    /// Arithmetic of the device.
    pub precision: String,
}

/// The file: statistics, and their digest, which no number of them can change without.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<Seen> {
    digest: String,
    statistics: Seen,
}

/// What was seen, and of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    schema: u32,
    key: StatisticsKey,
    /// Pictures that are in it.
    samples: u32,
    components: BTreeMap<String, Vec<PointStatistics>>,
}

/// What was seen of one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PointStatistics {
    name: String,
    inferences: u64,
    min: f32,
    max: f32,
    /// Sums over inferences.
    sum_of_min: f64,
    sum_of_max: f64,
    /// Rows by the bin of their least value, and of their greatest.
    rows_min: Sketch,
    rows_max: Sketch,
    /// Largest magnitude of each channel.
    channels: Vec<f32>,
    /// Values that were not finite.
    not_finite: u64,
}

/// A reduction of a point, as the observed network gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    /// The least value of each row.
    RowsMin,
    /// The greatest value of each row.
    RowsMax,
    /// The largest magnitude of each channel.
    ChannelsMax,
}

impl PointStatistics {
    fn new(name: String) -> Self {
        Self {
            name,
            inferences: 0,
            min: 0.0,
            max: 0.0,
            sum_of_min: 0.0,
            sum_of_max: 0.0,
            rows_min: Sketch::default(),
            rows_max: Sketch::default(),
            channels: Vec::new(),
            not_finite: 0,
        }
    }

    fn fold(&mut self, reduction: Reduction, values: &[f32]) {
        let finite: Vec<f32> = values
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .collect();
        self.not_finite += (values.len() - finite.len()) as u64;
        let is_first = self.inferences == 0;
        match reduction {
            Reduction::RowsMin => {
                let least = finite.iter().copied().reduce(f32::min).unwrap_or(0.0);
                self.min = if is_first { least } else { self.min.min(least) };
                self.sum_of_min += f64::from(least);
                self.rows_min.add(&finite);
            }
            // The last of the two, which every point has: it counts the inference.
            Reduction::RowsMax => {
                let greatest = finite.iter().copied().reduce(f32::max).unwrap_or(0.0);
                self.max = if is_first {
                    greatest
                } else {
                    self.max.max(greatest)
                };
                self.sum_of_max += f64::from(greatest);
                self.rows_max.add(&finite);
                self.inferences += 1;
            }
            Reduction::ChannelsMax => {
                self.channels.resize(values.len(), 0.0);
                for (largest, &value) in self.channels.iter_mut().zip(values) {
                    // What is not finite has been counted, and no number of a JSON file.
                    if value.is_finite() {
                        *largest = largest.max(value);
                    }
                }
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a mean of f32 is no larger than they are"
    )]
    fn range(&self, rule: RangeRule) -> (f32, f32) {
        let inferences = self.inferences.max(1) as f64;
        match rule {
            RangeRule::MinMax => (self.min, self.max),
            RangeRule::MeanMinMax => (
                (self.sum_of_min / inferences) as f32,
                (self.sum_of_max / inferences) as f32,
            ),
            RangeRule::Percentile(per_cent) => (
                self.within(self.rows_min.quantile(1.0 - per_cent / 100.0)),
                self.within(self.rows_max.quantile(per_cent / 100.0)),
            ),
        }
    }

    /// The middle of a bin may lie beyond the values in it.
    fn within(&self, value: f32) -> f32 {
        value.max(self.min).min(self.max)
    }

    /// What is known of the point. `takers` are the operations that need its range, by name: where there are none, it may have
    /// been anything.
    fn observed(
        &self,
        component: &str,
        rule: RangeRule,
        takers: &[String],
    ) -> Result<Observed, StatisticsError> {
        let refused = |what| {
            Err(StatisticsError::Range {
                component: component.to_owned(),
                point: self.name.clone(),
                what,
                takers: takers.join(" --in-float "),
            })
        };
        let (low, high) = self.range(rule);
        let largest = |low: f32, high: f32| low.abs().max(high.abs());
        let (counts, extreme) = (largest(low, high), largest(self.min, self.max));
        if !takers.is_empty() && self.not_finite > 0 {
            return refused("numbers that are not finite");
        }
        if !takers.is_empty() && counts <= 0.0 {
            return refused("nothing but zeros");
        }
        Ok(Observed {
            low,
            high,
            share: counts / extreme,
            channels: self.channels.clone(),
        })
    }
}

impl Statistics {
    const SCHEMA: u32 = 2;

    /// Nothing seen yet. `components` have the names of their points, in order.
    pub fn new(key: StatisticsKey, components: &[(String, Vec<String>)]) -> Self {
        Self {
            schema: Self::SCHEMA,
            key,
            samples: 0,
            components: components
                .iter()
                .map(|(component, points)| {
                    let points = points.iter().cloned().map(PointStatistics::new).collect();
                    (component.clone(), points)
                })
                .collect(),
        }
    }

    /// What is kept in `path`, where there is something and it is of this key and these points; `new` otherwise.
    ///
    /// # Errors
    /// When the file is damaged, or of another model or other pictures.
    pub fn kept(path: &Path, new: Self) -> Result<Self, StatisticsError> {
        let file = |source| StatisticsError::File {
            path: path.to_owned(),
            source,
        };
        let damaged = |detail: String| StatisticsError::Damaged {
            path: path.to_owned(),
            detail,
        };
        let bytes = match files::read(path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(new),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(damaged(format!("longer than {MAX_BYTES} bytes")));
            }
            Err(error) => return Err(file(error)),
        };
        let Sealed {
            digest,
            statistics: kept,
        } = serde_json::from_slice::<Sealed<Self>>(&bytes)
            .map_err(|error| damaged(error.to_string()))?;
        if kept.schema != Self::SCHEMA {
            return Err(damaged(format!("its schema is {}", kept.schema)));
        }
        if kept.digest() != digest {
            return Err(damaged("its numbers do not have its digest".to_owned()));
        }
        let other = |what| {
            Err(StatisticsError::Other {
                path: path.to_owned(),
                what,
            })
        };
        if kept.key.model_digest != new.key.model_digest {
            return other("model");
        }
        if kept.key.captions_digest != new.key.captions_digest {
            return other("list of captions");
        }
        if kept.key != new.key {
            return other("choice of steps, size, seed or precision");
        }
        let names = |statistics: &Self| -> Vec<(String, Vec<String>)> {
            statistics
                .components
                .iter()
                .map(|(component, points)| {
                    let names = points.iter().map(|point| point.name.clone()).collect();
                    (component.clone(), names)
                })
                .collect()
        };
        if names(&kept) != names(&new) {
            return other("choice of components");
        }
        Ok(kept)
    }

    /// How many images the file at `path` has seen, of whatever they are; none where it is not there or cannot be read.
    pub fn samples_in(path: &Path) -> Option<u32> {
        let is_read = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
        let bytes = is_read.then(|| fs::read(path).ok()).flatten()?;
        let sealed: Sealed<Self> = serde_json::from_slice(&bytes).ok()?;
        Some(sealed.statistics.samples)
    }

    /// Pictures that are in it.
    pub fn samples(&self) -> u32 {
        self.samples
    }

    /// Another picture is in it.
    pub(super) fn sampled(&mut self) {
        self.samples += 1;
    }

    /// Folds in one reduction of one point of one inference.
    pub(super) fn fold(
        &mut self,
        component: &str,
        point: usize,
        reduction: Reduction,
        values: &[f32],
    ) {
        if let Some(point) = self
            .components
            .get_mut(component)
            .and_then(|points| points.get_mut(point))
        {
            point.fold(reduction, values);
        }
    }

    /// What is known of a component's points, by a rule. `takers` has the names of the operations that need each point's range.
    ///
    /// # Errors
    /// When a point whose range is needed was zero or not finite.
    pub fn observed(
        &self,
        component: &str,
        rule: RangeRule,
        takers: &[Vec<String>],
    ) -> Result<Vec<Observed>, StatisticsError> {
        self.points_of(component)
            .iter()
            .zip(takers)
            .map(|(point, takers)| point.observed(component, rule, takers))
            .collect()
    }

    /// How many points of a component are watched.
    pub(super) fn points(&self, component: &str) -> usize {
        self.points_of(component).len()
    }

    fn points_of(&self, component: &str) -> &[PointStatistics] {
        self.components
            .get(component)
            .map_or(&[], |points| points.as_slice())
    }

    /// What a manifest says of it.
    pub fn entry(&self, rule: RangeRule) -> CalibrationEntry {
        CalibrationEntry {
            digest: self.digest(),
            model_digest: self.key.model_digest.clone(),
            samples: self.samples,
            steps: self.key.steps,
            size: self.key.size.clone(),
            seed: self.key.seed,
            range: rule.to_string(),
        }
    }

    /// Writes it to `path`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StatisticsError> {
        let sealed = Sealed {
            digest: self.digest(),
            statistics: self,
        };
        let written = (|| {
            // A link stays one.
            let place = resolved(path)?;
            let mut file = tempfile::Builder::new()
                .permissions(fs::Permissions::from_mode(0o644))
                .tempfile_in(parent_of(&place))?;
            file.write_all(&to_json(&sealed))?;
            file.persist(&place).map_err(|error| error.error)?;
            Ok(())
        })();
        written.map_err(|source| StatisticsError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// SHA-256 of all of it.
    fn digest(&self) -> String {
        hex(&Sha256::digest(to_json(self)))
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and names are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> StatisticsKey {
        StatisticsKey {
            model_digest: "model".to_owned(),
            captions_digest: "captions".to_owned(),
            steps: 4,
            size: "256x256".to_owned(),
            as_asked: false,
            seed: 1,
            precision: "f32".to_owned(),
        }
    }

    fn empty() -> Statistics {
        let points = vec!["block/Add_1".to_owned(), "block/Add_2".to_owned()];
        Statistics::new(key(), &[("transformer".to_owned(), points)])
    }

    fn inference(statistics: &mut Statistics, rows_min: &[f32], rows_max: &[f32]) {
        for point in 0..2 {
            statistics.fold("transformer", point, Reduction::RowsMin, rows_min);
            statistics.fold("transformer", point, Reduction::RowsMax, rows_max);
            statistics.fold("transformer", point, Reduction::ChannelsMax, rows_max);
        }
    }

    /// Both points are needed by an operation each.
    fn takers() -> [Vec<String>; 2] {
        ["block/MatMul_3", "block/MatMul_4"].map(|name| vec![name.to_owned()])
    }

    fn first(statistics: &Statistics, rule: RangeRule) -> Observed {
        let observed = statistics.observed("transformer", rule, &takers());
        observed.unwrap().remove(0)
    }

    #[test]
    fn every_rule_has_its_range() {
        let mut statistics = empty();
        inference(&mut statistics, &[-1.0, -3.0], &[2.0, 4.0]);
        inference(&mut statistics, &[-1.0, -2.0], &[8.0, 1.0]);
        let extremes = first(&statistics, RangeRule::MinMax);
        assert_eq!((extremes.low, extremes.high), (-3.0, 8.0));
        assert_eq!(extremes.channels, [8.0, 4.0]);
        let means = first(&statistics, RangeRule::MeanMinMax);
        assert_eq!((means.low, means.high), (-2.5, 6.0));
        assert!((means.share - 6.0 / 8.0).abs() < 1e-6);
        let most = first(&statistics, RangeRule::Percentile(75.0));
        assert!((most.high / 4.0 - 1.0).abs() < 0.01, "{}", most.high);
        let all = first(&statistics, RangeRule::Percentile(100.0));
        assert!((-3.0..=-2.97).contains(&all.low), "{}", all.low);
        assert!((7.92..=8.0).contains(&all.high), "{}", all.high);
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        for text in ["min-max", "mean-min-max", "percentile:99.9"] {
            assert_eq!(text.parse::<RangeRule>().unwrap().to_string(), text);
        }
        for text in ["percentile:20", "percentile:", "max", "percentile:101"] {
            assert!(
                text.parse::<RangeRule>()
                    .unwrap_err()
                    .contains("percentile:P")
            );
        }
    }

    #[test]
    fn points_that_are_zero_or_not_finite_are_refused_by_name() {
        let mut zero = empty();
        inference(&mut zero, &[0.0], &[0.0]);
        let mut broken = empty();
        inference(&mut broken, &[-1.0, f32::NAN], &[f32::INFINITY, 1.0]);
        for (statistics, what) in [(&zero, "zeros"), (&broken, "not finite")] {
            let error = statistics
                .observed("transformer", RangeRule::MinMax, &takers())
                .unwrap_err()
                .to_string();
            for part in [what, "block/Add_1", "--in-float block/MatMul_3"] {
                assert!(error.contains(part), "{error}");
            }
            // Kept in floats, they may be anything.
            let observed = statistics.observed("transformer", RangeRule::MinMax, &[vec![], vec![]]);
            assert_eq!(observed.unwrap().len(), 2);
        }
        // And their numbers are kept like others.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        broken.save(&path).unwrap();
        assert_eq!(Statistics::kept(&path, empty()).unwrap(), broken);
    }

    #[test]
    fn what_is_kept_goes_on_to_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        let (mut whole, mut part) = (empty(), empty());
        for statistics in [&mut whole, &mut part] {
            inference(statistics, &[-0.1, -0.7], &[0.3, 1.0 / 3.0]);
            statistics.sampled();
        }
        part.save(&path).unwrap();
        let mut part = Statistics::kept(&path, empty()).unwrap();
        for statistics in [&mut whole, &mut part] {
            inference(statistics, &[-0.2, -1e-9], &[0.9, 7e7]);
            statistics.sampled();
        }
        assert_eq!(part, whole);
        assert_eq!(
            part.entry(RangeRule::MinMax),
            whole.entry(RangeRule::MinMax)
        );
    }

    #[test]
    fn what_is_of_another_model_or_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        empty().save(&path).unwrap();
        let mut other = empty();
        other.key.model_digest = "another".to_owned();
        let error = Statistics::kept(&path, other).unwrap_err();
        assert!(error.to_string().contains("another model"), "{error}");
        let mut other = empty();
        other.key.steps = 20;
        let error = Statistics::kept(&path, other).unwrap_err();
        assert!(error.to_string().contains("steps"), "{error}");
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in [
            whole[..whole.len() / 2].to_owned(),
            whole.replace("\"samples\":0", "\"samples\":9"),
            whole.replace("\"schema\":2", "\"schema\":3"),
            String::new(),
        ] {
            fs::write(&path, damaged).unwrap();
            let error = Statistics::kept(&path, empty()).unwrap_err();
            assert!(matches!(error, StatisticsError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let error = empty()
            .save(&folder.path().join("no/statistics.json"))
            .unwrap_err();
        assert!(error.to_string().contains("no/statistics.json"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn any_numbers_are_kept_to_the_last_bit(
            inferences in proptest::collection::vec(proptest::collection::vec(any::<f32>(), 1..6), 0..4),
        ) {
            let mut statistics = empty();
            for values in &inferences {
                inference(&mut statistics, values, values);
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("statistics.json");
            statistics.save(&path).unwrap();
            let kept = Statistics::kept(&path, empty()).unwrap();
            prop_assert_eq!(&kept, &statistics);
            prop_assert_eq!(kept.digest(), statistics.digest());
        }

        #[test]
        fn a_range_by_any_rule_lies_within_the_extremes(
            inferences in proptest::collection::vec(proptest::collection::vec(-1e30_f32..1e30, 1..6), 1..4),
            per_cent in 50.0_f64..=100.0,
        ) {
            let mut statistics = empty();
            for values in &inferences {
                inference(&mut statistics, values, values);
            }
            let seen = |rule| {
                let observed = statistics.observed("transformer", rule, &[vec![], vec![]]);
                observed.unwrap().remove(0)
            };
            let extremes = seen(RangeRule::MinMax);
            for rule in [RangeRule::MeanMinMax, RangeRule::Percentile(per_cent)] {
                let range = seen(rule);
                prop_assert!(extremes.low <= range.low && range.high <= extremes.high, "{rule}: {range:?}");
                prop_assert!(range.low <= range.high, "{rule}: {range:?}");
            }
        }
    }
}
