//! Memory that was freed, back to the system.
//!
//! The C library keeps freed memory for the next time: OpenVINO's own, that of pictures, and what hundreds of connections
//! needed while they were there (about 27 KiB each). Asked to, it gives whole free pages back.

/// Gives free memory back to the system. Takes about a millisecond, in which other threads may wait for memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back_memory() {
    #[expect(unsafe_code, reason = "the C library has no safe face for it")]
    // SAFETY: malloc_trim(3) may be called from any thread at any time and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the C library give every freed block of this size or more back to the system at once. By itself it keeps what is below a bound that
/// it raises up to 32 MiB: with sketchbook at 1024×1024 that was 140 MB at the peak which nobody used.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK_BYTES: i32 = 1 << 20;

/// Sets that bound, once and early.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back_large_blocks() {
    #[expect(unsafe_code, reason = "the C library has no safe face for it")]
    // SAFETY: mallopt(3) may be called at any time and changes what is allocated from then on.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
    }
}

/// Other C libraries have their own ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_large_blocks() {}

/// Other C libraries have their own ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_memory() {}
