//! The end of a process that has OpenVINO in it.
//!
//! About one run of `pixart generate` in a thousand ended by a segmentation fault inside the CPU plugin, on the main thread,
//! while it took itself down: after the picture was written, and yet a failure to whoever looked at the exit code. What the
//! system takes back anyway is therefore left to it.

/// Ends the process with this exit code, at once: no destructor and no exit handler of a library runs any more. What is to
/// be written must have been.
#[cfg(unix)]
pub fn end_process(code: u8) -> ! {
    #[expect(
        unsafe_code,
        reason = "the standard library ends processes by their exit handlers alone"
    )]
    // SAFETY: _exit(2) may be called at any time and does not return.
    unsafe {
        libc::_exit(i32::from(code))
    }
}

/// Other systems have their own ways.
#[cfg(not(unix))]
pub fn end_process(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
