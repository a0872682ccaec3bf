//! A limit of this process's own on what it may allocate: an image that needs more fails by itself, instead of the kernel ending the
//! process with everything that waits.
//!
//! The limit is `RLIMIT_DATA`, in two stages. OpenVINO is stopped at the first one: its allocation fails, it reports an error, and that
//! job ends with it. The service's own allocations are small, cannot report a failure, and would abort the process; [`ReserveAllocator`]
//! raises the limit to the second stage for them. [`restore_reserve`] lowers it again when the job has given its memory back.
//!
//! What it is not: a bound of resident memory. The kernel counts what was mapped, not what was touched; who sets the limit adds what is
//! mapped and never touched (stacks, the allocator's own reserves).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Both stages in bytes; 0 while there is no limit.
static FIRST: AtomicU64 = AtomicU64::new(0);
static SECOND: AtomicU64 = AtomicU64::new(0);
/// Whether the second stage is in force.
static RAISED: AtomicBool = AtomicBool::new(false);

/// Limits what this process may allocate to `bytes`, the last `reserve` of them for the service's own allocations alone. A limit that was
/// set from outside and is lower stays. Where the system has no such limit, nothing happens.
pub fn limit_data(bytes: u64, reserve: u64) {
    let Some(outside) = outside_limit() else {
        return;
    };
    let second = bytes.min(outside);
    FIRST.store(second.saturating_sub(reserve), Ordering::Relaxed);
    SECOND.store(second, Ordering::Relaxed);
    RAISED.store(false, Ordering::Relaxed);
    set(second.saturating_sub(reserve));
}

/// Takes the limit back, so that the one from outside is in force.
pub fn lift_data_limit() {
    if SECOND.swap(0, Ordering::Relaxed) > 0
        && let Some(outside) = outside_limit()
    {
        set(outside);
    }
}

/// Keeps the reserve for the service again. Returns whether it was touched since the last time.
pub fn restore_reserve() -> bool {
    let was_raised = RAISED.swap(false, Ordering::Relaxed);
    if was_raised {
        set(FIRST.load(Ordering::Relaxed));
    }
    was_raised
}

/// The allocator of the binary: the system's, with the reserve behind it.
pub struct ReserveAllocator;

impl ReserveAllocator {
    /// Whether there is a reserve that was not opened yet; it is opened then.
    fn open_reserve() -> bool {
        let second = SECOND.load(Ordering::Relaxed);
        if second == 0 || RAISED.swap(true, Ordering::Relaxed) {
            return false;
        }
        set(second)
    }

    /// Tries once more where the first attempt failed and the reserve could be opened; another thread may have opened it meanwhile.
    fn again(attempt: impl Fn() -> *mut u8) -> *mut u8 {
        let block = attempt();
        if !block.is_null() || SECOND.load(Ordering::Relaxed) == 0 {
            return block;
        }
        Self::open_reserve();
        attempt()
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: every block comes from `System` and goes back to it, by the layout that it came with; nothing here allocates.
unsafe impl GlobalAlloc for ReserveAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        Self::again(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::again(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above; where `System` fails the block is still the caller's, so that it can be tried again.
        Self::again(|| unsafe { System.realloc(block, layout, new_size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The limit that was in force before this process set one of its own: beyond all memory where there was none.
fn outside_limit() -> Option<u64> {
    static OUTSIDE: OnceLock<u64> = OnceLock::new();
    // Elsewhere it bounds something else: on macOS the old heap, which no allocator uses.
    cfg!(target_os = "linux")
        .then(|| *OUTSIDE.get_or_init(|| getrlimit(Resource::Data).current.unwrap_or(u64::MAX)))
}

/// Sets the soft limit. Makes system calls alone: it runs inside the allocator.
fn set(bytes: u64) -> bool {
    let limit = getrlimit(Resource::Data);
    let within = bytes.min(limit.maximum.unwrap_or(u64::MAX));
    let limit = Rlimit {
        // None is no limit.
        current: (within < u64::MAX).then_some(within),
        ..limit
    };
    setrlimit(Resource::Data, limit).is_ok()
}
