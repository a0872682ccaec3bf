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

/// Other C libraries have their own ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_memory() {}
