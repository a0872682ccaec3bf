//! What memory this process takes now, and took at most: as Linux has it in `/proc/self/status`.
//!
//! Anonymous pages are what the process needs of the machine; file-backed ones (mapped weights) are the page cache's, which the
//! system takes back when others need it. Elsewhere there is nothing to read.

use std::fs;

/// One reading, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Anonymous pages (`RssAnon`).
    pub anonymous_bytes: u64,
    /// File-backed pages (`RssFile`).
    pub file_backed_bytes: u64,
    /// What was mapped to be written to, touched or not (`VmData`): what a data limit bounds.
    pub data_bytes: u64,
    /// The most that was resident at once since the start (`VmHWM`).
    pub peak_bytes: u64,
}

impl ProcessMemory {
    /// That of this process; none where the system shows nothing.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            anonymous_bytes: field("RssAnon:")?,
            file_backed_bytes: field("RssFile:")?,
            data_bytes: field("VmData:")?,
            peak_bytes: field("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_one_without_the_fields_is_none() {
        let status =
            "Name:\tpixart\nVmHWM:\t 9 kB\nVmData:\t7 kB\nRssAnon:\t    2048 kB\nRssFile:\t1 kB\n";
        let expected = ProcessMemory {
            anonymous_bytes: 2 << 20,
            file_backed_bytes: 1024,
            data_bytes: 7 * 1024,
            peak_bytes: 9 * 1024,
        };
        assert_eq!(ProcessMemory::parse(status), Some(expected));
        assert_eq!(ProcessMemory::parse("Name:\tpixart\n"), None);
    }
}
