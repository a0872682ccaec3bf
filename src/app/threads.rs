//! How many threads compute: the setting, or else those of the container's quota.

use crate::config::OpenvinoSettings;
use crate::telemetry::threads_of_quota;

/// What the runtime is asked for; none leaves the number to it.
pub fn threads(openvino: &OpenvinoSettings) -> Option<u16> {
    match openvino.threads {
        0 => threads_of_quota(),
        threads => Some(threads),
    }
}
