//! No core dumps, unless they are asked for: a dump holds the memory of the process, prompts, images and keys among it.

use std::fs;
use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// The limit by which the kernel makes no dump at all. With 0 it writes no file, and still hands everything to a program that
/// `core_pattern` names behind a `|`; with 1 it does neither: a file of one byte is none, and for programs 1 is the value that
/// stops them (Linux 6.12, `fs/coredump.c`, `do_coredump`; core(5)).
const NO_DUMP: u64 = 1;

/// Sees to it that the kernel makes no dump of this process. `server.core_dumps` leaves everything as it was found.
///
/// The limit alone is changed where that does: a process that is not dumpable (prctl(2), `PR_SET_DUMPABLE`) cannot be looked at in
/// `/proc` by the user that runs it, who then cannot count its descriptors or trace it either.
///
/// # Errors
/// When the system refuses both.
pub fn forbid_core_dumps() -> io::Result<()> {
    let limit = getrlimit(Resource::Core);
    let has_room = limit.maximum.is_none_or(|most| most >= NO_DUMP);
    let maximum = if has_room {
        limit.maximum
    } else {
        Some(NO_DUMP)
    };
    let new = Rlimit {
        current: Some(NO_DUMP),
        maximum,
    };
    if setrlimit(Resource::Core, new).is_ok() {
        return Ok(());
    }
    // The limit is 0 and may not be raised: enough, unless dumps go to a program.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}
