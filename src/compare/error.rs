//! Why two models cannot be compared.

use std::path::PathBuf;

use thiserror::Error;

use super::Pair;

/// Why two models cannot be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// Foreign IR, which no manifest tells the sizes of.
    #[error("{path} has networks that pixart did not convert, and no manifest to compare by: 'pixart bench --against' times it", path = path.display())]
    Foreign {
        /// The model's folder.
        path: PathBuf,
    },
    /// A measurement on a device that qualities do not choose for.
    #[error(
        "--record keeps what processors measure, and the device is {device}: leave --record out, or measure on the CPU"
    )]
    RecordElsewhere {
        /// The device.
        device: String,
    },
    /// Pictures of two sizes, or drawn in different numbers of steps.
    #[error("a draws {} and b {}: give --size and --steps for both", drawn.a, drawn.b)]
    DifferentPictures {
        /// Size and steps of both, such as `256x256 in 4 steps`.
        drawn: Pair<String>,
    },
    /// A VAE whose output is no picture.
    #[error("a model decoded something that is no picture: it is damaged, convert it again")]
    NoPicture,
}
