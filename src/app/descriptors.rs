//! How many files the service may have open at once, and how many connections that leaves.

use std::fs;

use anyhow::{Result, bail};
use rustix::process::{Resource, getrlimit};

use crate::http::server::RESERVED;

/// Files beside connections and those that are open at the start: the model's, held and mapped while it is loaded, those of the
/// runtime, and caches.
const OTHERS: u64 = 48;
/// Fewer connections for requests than these are no service.
const FEWEST: u64 = 8;

/// Connections for requests at each of `listeners`, of those that are `wanted`.
///
/// # Errors
/// When the process may open too few files for a service.
pub(super) fn connections(wanted: usize, listeners: usize) -> Result<usize> {
    let limit = getrlimit(Resource::Nofile).current;
    let Some(limit) = limit else {
        return Ok(wanted);
    };
    let open = open_files();
    let Some(found) = fitting(limit.saturating_sub(open), wanted, listeners) else {
        bail!(
            "this process may have {limit} files open at once, and a service needs {}: raise the limit (ulimit -n, LimitNOFILE= of \
             systemd, --ulimit nofile= of docker)",
            open + least(listeners)
        );
    };
    if found < wanted {
        tracing::warn!(
            limit,
            connections = found,
            wanted,
            "this process may have too few files open at once for server.max_connections, so it takes fewer connections: raise the \
             limit (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker)"
        );
    }
    Ok(found)
}

/// Files that are open now: a careless parent leaves its own to its children.
fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

/// Files that a service with `listeners` needs at least.
fn least(listeners: usize) -> u64 {
    OTHERS + listeners as u64 * (RESERVED as u64 + FEWEST)
}

/// Connections at each listener; none where `limit` is too small for a service.
fn fitting(limit: u64, wanted: usize, listeners: usize) -> Option<usize> {
    if limit < least(listeners) {
        return None;
    }
    let each = (limit - OTHERS) / listeners as u64 - RESERVED as u64;
    Some(usize::try_from(each).map_or(wanted, |each| wanted.min(each)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_files_allow_and_too_few_are_no_service() {
        assert_eq!(fitting(1 << 20, 512, 1), Some(512));
        assert_eq!(fitting(1024, 512, 2), Some(456));
        assert_eq!(fitting(88, 512, 1), Some(8));
        assert_eq!(fitting(87, 512, 1), None);
        assert_eq!(fitting(88, 512, 2), None);
        assert_eq!(fitting(88, 4, 1), Some(4));
    }
}
