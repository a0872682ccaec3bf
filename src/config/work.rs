//! `[queue]`, `[jobs]`, `[limits]` and `[worker]`: how much work is taken on, and how long it may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::range::{DAY_SECONDS, within};
use crate::domain::{ImageSize, Steps};

/// `[queue]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// Jobs that may wait beside the running one.
    pub capacity: usize,
    /// Deadline of requests that name none; 0 is none.
    pub deadline_seconds: u64,
}

/// `[jobs]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsSettings {
    /// How long a finished job and its pictures are kept.
    pub ttl_seconds: u64,
    /// What kept pictures may take; the oldest go first.
    pub max_memory_mib: usize,
    /// How many finished jobs are kept; the oldest go first.
    pub max_kept: usize,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSettings {
    /// Pictures of one request.
    pub max_images: u32,
    /// Longest side of a picture.
    pub max_side_px: u32,
    /// Steps of one picture.
    pub max_steps: u32,
    /// Pictures · width · height · steps / 10^6 of one request; guidance above 1 counts twice.
    pub max_megapixel_steps: u32,
    /// Memory that the process may take; 0 is what its control group allows, or what the machine has left.
    pub memory_mib: u64,
}

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// A running job without progress for so long makes `/healthz` 503.
    pub stall_seconds: u64,
    /// Draw a picture before saying ready.
    pub warm_up: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            capacity: 8,
            deadline_seconds: 0,
        }
    }
}

impl Default for JobsSettings {
    fn default() -> Self {
        Self {
            ttl_seconds: 600,
            max_memory_mib: 256,
            max_kept: 256,
        }
    }
}

impl Default for LimitsSettings {
    fn default() -> Self {
        Self {
            max_images: 10,
            max_side_px: 2048,
            max_steps: 100,
            max_megapixel_steps: 200,
            memory_mib: 0,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            stall_seconds: 600,
            warm_up: true,
        }
    }
}

impl QueueSettings {
    /// Deadline of requests that name none.
    pub fn deadline(&self) -> Option<Duration> {
        (self.deadline_seconds > 0).then(|| Duration::from_secs(self.deadline_seconds))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within("queue.capacity", self.capacity, 0..=1000, "waiting jobs")?;
        within(
            "queue.deadline_seconds",
            self.deadline_seconds,
            0..=DAY_SECONDS,
            "seconds; 0 is no deadline",
        )
    }
}

impl JobsSettings {
    /// What kept pictures may take in bytes.
    pub fn max_memory_bytes(&self) -> usize {
        self.max_memory_mib.saturating_mul(1024 * 1024)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within(
            "jobs.ttl_seconds",
            self.ttl_seconds,
            1..=DAY_SECONDS,
            "seconds",
        )?;
        within(
            "jobs.max_memory_mib",
            self.max_memory_mib,
            1..=65_536,
            "MiB",
        )?;
        within("jobs.max_kept", self.max_kept, 1..=100_000, "finished jobs")
    }
}

/// 16 TiB: no machine has more.
const MOST_MEMORY_MIB: u64 = 16 << 20;

impl LimitsSettings {
    /// The memory limit of the settings, where they have one.
    pub fn memory_bytes(&self) -> Option<u64> {
        (self.memory_mib > 0).then_some(self.memory_mib << 20)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within("limits.max_images", self.max_images, 1..=100, "pictures")?;
        within(
            "limits.max_side_px",
            self.max_side_px,
            64..=ImageSize::MAX_SIDE_PX,
            "pixels",
        )?;
        within("limits.max_steps", self.max_steps, 1..=Steps::MAX, "steps")?;
        within(
            "limits.max_megapixel_steps",
            self.max_megapixel_steps,
            1..=1_000_000,
            "megapixels times steps",
        )?;
        within(
            "limits.memory_mib",
            self.memory_mib,
            0..=MOST_MEMORY_MIB,
            "MiB; 0 is found out",
        )
    }
}

impl WorkerSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        within(
            "worker.stall_seconds",
            self.stall_seconds,
            1..=DAY_SECONDS,
            "seconds",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_zero_is_none() {
        let mut settings = QueueSettings::default();
        assert_eq!(settings.deadline(), None);
        settings.deadline_seconds = 90;
        assert_eq!(settings.deadline(), Some(Duration::from_secs(90)));
    }
}
