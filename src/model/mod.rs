//! What a model directory is: the shapes that its configurations declare, its files, its manifest.
//!
//! Nothing here knows OpenVINO. Every number that comes from a file is checked once, here, before anything is sized by it.

mod activations;
mod added_tokens;
mod bins;
pub mod charsmap;
mod choice;
mod config_json;
mod digest;
mod digests;
mod directory;
mod disguise;
mod disk;
mod embedded;
mod foreign;
mod held;
mod index;
mod instruction_set;
mod manifest;
mod manifest_checksum;
mod measurement;
mod part;
mod place;
mod python_json;
mod quantization;
pub mod scheduler_config;
pub mod sentencepiece;
mod shapes;
mod spec;
mod stamp;
pub mod tokenizer_json;
mod unused;

pub use activations::value_bytes;
pub use added_tokens::{AddedToken, AddedTokens, AddedTokensError, BaseVocabulary};
pub use bins::Bins;
pub use choice::{Choice, Circumstances, Standing, VARIANTS, variants};
pub use config_json::ConfigError;
pub use digest::{file_sha256, hex};
pub use digests::Digests;
pub use directory::{ModelDirectory, ModelError};
pub(crate) use directory::{read_bytes, read_text};
pub use disguise::Disguise;
pub(crate) use disguise::FIRST_BYTES;
pub use disk::NoSpace;
pub(crate) use disk::{bytes_below, check_free_space, free_bytes, size_in_words};
pub(crate) use embedded::embedded_file;
pub use embedded::{EMBEDDED_NAME, embedded_digest, has_embedded_model, unpack_embedded_model};
pub use foreign::{ForeignModel, NotebookFiles};
pub use held::{HeldFiles, Placed};
pub use index::{ModelIndex, PipelineClass};
pub(crate) use index::{PICKLE_ENDINGS, WEIGHTS_VARIANTS};
pub use instruction_set::{has_amx_bf16, instruction_set};
pub use manifest::{ComponentEntry, Defaults, FileEntry, Manifest, WeightsFormat};
pub use measurement::Measurement;
pub use part::Part;
pub(crate) use place::{
    Filling, OWN_PREFIX, files_below, is_beside_content, is_filled, parent_of, resolved,
};
pub(crate) use python_json::from_python;
pub use quantization::{CalibrationEntry, Quantization, QuantizationMode};
pub use scheduler_config::{SchedulerConfig, SchedulerConfigError};
pub use sentencepiece::{SentencePieceError, SentencePieceModel};
#[cfg(test)]
pub(crate) use shapes::tests::published;
pub use shapes::{ModelShapes, StageFlops};
pub use spec::{TextEncoderSpec, TinyVaeSpec, TransformerSpec, VaeSpec};
pub(crate) use stamp::{Stamp, sample};
pub use unused::UnusedTensors;
