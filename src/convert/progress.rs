//! How a conversion tells where it is and learns that it should stop.

/// The caller's side of a running conversion.
pub trait Progress {
    /// A component begins; `bytes` of weights will be read.
    fn begin(&self, component: &str, bytes: u64);
    /// `bytes` more were read.
    fn advance(&self, bytes: u64);
    /// The component stands as it was and is not made again.
    fn unchanged(&self, component: &str);
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}
