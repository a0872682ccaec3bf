//! The share of the processor that this process's control groups allow, and how many threads compute with it.
//!
//! OpenVINO counts cores and knows no quota: with 64 threads on four cores' worth of time they wait for each other. Linux has two
//! layouts of groups, and a container sees its own group as the root of either (see `machine.rs`).

use std::fs;
use std::path::{Path, PathBuf};

/// Fewest threads: with one, OpenVINO ends the process on processors with AMX (docs/adr/0019-one-thread-with-amx.md).
const FEWEST: u16 = 2;

/// The lowest quota of this process's control groups in cores; none where nothing limits it.
pub fn cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    quota_under(Path::new("/sys/fs/cgroup"), &groups)
}

/// Threads that compute when the settings say nothing: those of the quota, rounded up; none where there is no quota, or one that
/// allows all cores, so that the runtime takes its own number.
pub fn threads_of_quota() -> Option<u16> {
    threads(cpu_quota()?, cores())
}

/// Cores that the process may run on, whatever its quota is.
fn cores() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(usize::MAX, |cores| {
        usize::try_from(cores.count()).unwrap_or(usize::MAX)
    })
}

fn threads(quota: f64, cores: usize) -> Option<u16> {
    (FEWEST..=u16::MAX)
        .find(|&threads| f64::from(threads) >= quota)
        .filter(|&threads| usize::from(threads) < cores)
}

/// The lowest quota of the groups in `groups`, written as in `/proc/self/cgroup`, under `mount`.
fn quota_under(mount: &Path, groups: &str) -> Option<f64> {
    groups
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, group) = rest.split_once(':')?;
            if controllers.is_empty() {
                lowest(mount, group, quota_of_second)
            } else if controllers.split(',').any(|name| name == "cpu") {
                lowest(&mount.join("cpu"), group, quota_of_first)
            } else {
                None
            }
        })
        .min_by(f64::total_cmp)
}

/// The lowest quota of the group and of those above it.
fn lowest(root: &Path, group: &str, quota: fn(&Path) -> Option<f64>) -> Option<f64> {
    let own: PathBuf = root.join(group.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(quota)
        .min_by(f64::total_cmp)
}

/// `cpu.max` of the second layout: microseconds in each period, or `max`, and the period.
fn quota_of_second(folder: &Path) -> Option<f64> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let (time, period) = text.trim().split_once(' ')?;
    share(time, period)
}

/// The first layout has a file for each; -1 is no limit.
fn quota_of_first(folder: &Path) -> Option<f64> {
    let read = |name| fs::read_to_string(folder.join(name)).ok();
    share(
        read("cpu.cfs_quota_us")?.trim(),
        read("cpu.cfs_period_us")?.trim(),
    )
}

fn share(time: &str, period: &str) -> Option<f64> {
    let (time, period): (u32, u32) = (time.parse().ok()?, period.parse().ok()?);
    (time > 0 && period > 0).then(|| f64::from(time) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_lowest_quota_of_a_group_and_those_above_counts_in_either_layout() {
        let mount = mount(&[
            ("cpu.max", "max 100000\n"),
            ("a/cpu.max", "250000 100000\n"),
            ("a/b/cpu.max", "800000 100000\n"),
            ("c/cpu.max", "max 100000\n"),
            ("d/cpu.max", "50000 200000\n"),
            ("e/cpu.max", "nonsense\n"),
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu/f/cpu.cfs_quota_us", "400000\n"),
            ("cpu/f/cpu.cfs_period_us", "100000\n"),
        ]);
        for (groups, quota) in [
            ("0::/a/b\n", Some(2.5)),
            ("0::/c\n", None),
            ("0::/d\n", Some(0.25)),
            ("0::/e\n", None),
            ("0::/elsewhere/x\n", None),
            ("4:cpu,cpuacct:/f\n0::/\n", Some(4.0)),
            ("4:cpu,cpuacct:/f\n0::/d\n", Some(0.25)),
            ("4:cpu,cpuacct:/\n", None),
            ("4:cpuacct:/f\n", None),
            ("nonsense\n", None),
            ("", None),
        ] {
            assert_eq!(quota_under(mount.path(), groups), quota, "{groups:?}");
        }
    }

    #[test]
    fn a_container_finds_its_quota_where_it_sees_itself_as_the_root() {
        let two = mount(&[("cpu.max", "150000 100000\n")]);
        assert_eq!(quota_under(two.path(), "0::/docker/abc\n"), Some(1.5));
        let one = mount(&[
            ("cpu/cpu.cfs_quota_us", "300000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(
            quota_under(one.path(), "4:cpu,cpuacct:/docker/abc\n"),
            Some(3.0)
        );
    }

    #[test]
    fn threads_are_the_quota_rounded_up_and_at_least_two() {
        for (quota, cores, expected) in [
            (0.25, 64, Some(2)),
            (1.0, 64, Some(2)),
            (2.0, 64, Some(2)),
            (2.1, 64, Some(3)),
            (4.0, 64, Some(4)),
            // All cores: the runtime knows best which of them.
            (64.0, 64, None),
            (3.5, 4, None),
            (1.0, 2, None),
            (0.5, 1, None),
            (1e9, 64, None),
        ] {
            assert_eq!(threads(quota, cores), expected, "{quota} {cores}");
        }
    }
}
