//! What this process may use of its machine: the memory that its control group allows, and its cores.
//!
//! A container's limit is that of the group it runs in or of one above. Linux has two layouts of groups, and a container sees
//! its own group as the root of either; what is no limit is written as `max` or as a number beyond all memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// What the first layout writes where nothing is limited: the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

/// The lowest memory limit of this process' control groups in bytes; none where nothing limits it.
pub fn memory_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_under(Path::new("/sys/fs/cgroup"), &groups)
}

/// Cores that this process may use, its affinity and its quota considered.
pub fn cpus() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// The lowest limit of the groups in `groups`, written as in `/proc/self/cgroup`, under `mount`.
fn limit_under(mount: &Path, groups: &str) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, group) = rest.split_once(':')?;
            let (root, file) = if controllers.is_empty() {
                (mount.to_owned(), "memory.max")
            } else if controllers.split(',').any(|name| name == "memory") {
                (mount.join("memory"), "memory.limit_in_bytes")
            } else {
                return None;
            };
            lowest(&root, group, file)
        })
        .min()
}

/// The lowest limit in `file` of the group and of those above it.
fn lowest(root: &Path, group: &str, file: &str) -> Option<u64> {
    let own: PathBuf = root.join(group.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| {
            fs::read_to_string(folder.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .filter(|&bytes| bytes < UNLIMITED)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = mount.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        mount
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_those_above_counts_in_either_layout() {
        let files = [
            ("memory.max", "max\n"),
            ("a/memory.max", "4194304\n"),
            ("a/b/memory.max", "8388608\n"),
            ("c/memory.max", "max\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/d/memory.limit_in_bytes", "2097152\n"),
        ];
        let mount = mount(&files);
        for (groups, limit) in [
            ("0::/a/b\n", Some(4 * MIB)),
            ("0::/c\n", None),
            // A group that is not to be seen from inside a container: what is to be seen is its own.
            ("0::/elsewhere/a\n", None),
            ("3:cpu:/\n4:memory:/d\n0::/\n", Some(2 * MIB)),
            ("4:cpu,memory:/d\n", Some(2 * MIB)),
            ("4:memory:/\n", None),
            ("5:freezer:/a\n", None),
            ("nonsense\n", None),
            ("", None),
        ] {
            assert_eq!(limit_under(mount.path(), groups), limit, "{groups:?}");
        }
    }

    #[test]
    fn a_container_finds_its_limit_where_it_sees_itself_as_the_root() {
        let two = mount(&[("memory.max", "1048576\n")]);
        assert_eq!(limit_under(two.path(), "0::/docker/abc\n"), Some(MIB));
        let one = mount(&[("memory/memory.limit_in_bytes", "1048576\n")]);
        assert_eq!(limit_under(one.path(), "4:memory:/docker/abc\n"), Some(MIB));
    }
}
