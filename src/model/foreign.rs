//! IR that pixart did not make: the folder that the PixArt OpenVINO notebook leaves.
//!
//! Such a folder has the networks alone. Tokenizer, scheduler and the numbers that the pipeline needs come from the
//! diffusers directory that the notebook started from.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::digest::{file_sha256, hex};
use super::digests::Digests;
use super::directory::{ModelError, read_text};
use super::index::ModelIndex;
use super::spec::{TextEncoderSpec, TransformerSpec, VaeSpec};
use super::{ConfigError, ModelDirectory};
use crate::files;

/// An opened folder of foreign IR.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignModel {
    /// IR of the text encoder.
    pub text_encoder: PathBuf,
    /// IR of the transformer.
    pub transformer: PathBuf,
    /// IR of the VAE decoder.
    pub vae_decoder: PathBuf,
    /// The diffusers directory.
    pub checkpoint: PathBuf,
    /// What that directory says of itself.
    pub index: ModelIndex,
    /// Shapes of the text encoder.
    pub text_encoder_spec: TextEncoderSpec,
    /// Shapes of the transformer.
    pub transformer_spec: TransformerSpec,
    /// Shapes of the VAE.
    pub vae_spec: VaeSpec,
    /// Rows and columns of image tokens that the transformer was traced for, where it has kept its position table.
    pub frozen_grid: Option<(usize, usize)>,
    /// Where the digests of its files come from.
    digests: Digests,
}

/// Which of the notebook's files to take where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotebookFiles {
    /// Those without a suffix first.
    Plain,
    /// `_int8` and `_int4` first.
    Quantised,
}

/// The configurations of a diffusers directory that numbers of the model come from.
const CONFIGURATIONS: [&str; 4] = [
    "model_index.json",
    "text_encoder/config.json",
    "transformer/config.json",
    "vae/config.json",
];

impl ForeignModel {
    /// Whether `folder` looks like one: a transformer by the notebook's name and no manifest of ours.
    pub fn is_one(folder: &Path) -> bool {
        !folder.join(super::Manifest::FILE_NAME).exists()
            && find(folder, "transformer_ir", NotebookFiles::Plain).is_some()
    }

    /// Opens `folder`; `checkpoint` is the diffusers directory, which may be `folder` itself.
    ///
    /// # Errors
    /// When a network or a file of the diffusers directory is missing or makes no sense.
    pub fn open(
        folder: &Path,
        checkpoint: &Path,
        notebook_files: NotebookFiles,
        digests: Digests,
    ) -> Result<Self, ModelError> {
        let network = |stem: &str, missing: &'static str| {
            find(folder, stem, notebook_files).ok_or_else(|| ModelError::NotAModel {
                path: folder.to_owned(),
                missing,
            })
        };
        let text_encoder = network("text_encoder", "text_encoder.xml")?;
        let transformer = network("transformer_ir", "transformer_ir.xml")?;
        let vae_decoder = network("vae_decoder", "vae_decoder.xml")?;
        let index_path = checkpoint.join("model_index.json");
        if !index_path.exists() {
            return Err(ModelError::NoCheckpoint {
                model: folder.to_owned(),
                checkpoint: checkpoint.to_owned(),
            });
        }
        let config_error =
            |path: PathBuf| move |source: ConfigError| ModelError::Config { path, source };
        let index =
            ModelIndex::from_json(&read_text(&index_path)?).map_err(config_error(index_path))?;
        let path = checkpoint.join("text_encoder/config.json");
        let text_encoder_spec =
            TextEncoderSpec::from_json(&read_text(&path)?).map_err(config_error(path))?;
        let path = checkpoint.join("transformer/config.json");
        let transformer_spec =
            TransformerSpec::from_json(&read_text(&path)?).map_err(config_error(path))?;
        let path = checkpoint.join("vae/config.json");
        let vae_spec = VaeSpec::from_json(&read_text(&path)?).map_err(config_error(path))?;
        Ok(Self {
            frozen_grid: frozen_grid(&transformer, transformer_spec.inner_dim())?,
            text_encoder,
            transformer,
            vae_decoder,
            checkpoint: checkpoint.to_owned(),
            index,
            text_encoder_spec,
            transformer_spec,
            vae_spec,
            digests,
        })
    }

    /// One digest for the three networks and the pages of the diffusers directory that decide an image.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn digest(&self) -> Result<String, ModelError> {
        let folder = self.transformer.parent().unwrap_or(Path::new("."));
        let files: Vec<PathBuf> = self.files().collect();
        let names: Vec<&str> = files
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        let mut found = self
            .digests
            .of(folder, &names)
            .map_err(|(path, source)| ModelError::Read { path, source })?;
        let pages = CONFIGURATIONS
            .iter()
            .map(|name| self.checkpoint.join(name))
            .chain([
                self.checkpoint.join(ModelDirectory::SCHEDULER),
                self.tokenizer()?,
            ]);
        for path in pages {
            match file_sha256(&path) {
                Ok((_, sha256)) => found.push(sha256),
                Err(source) => return Err(ModelError::Read { path, source }),
            }
        }
        Ok(hex(&Sha256::digest(found.concat())))
    }

    /// The files of the three networks.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        [&self.text_encoder, &self.transformer, &self.vae_decoder]
            .into_iter()
            .flat_map(|xml| [xml.clone(), xml.with_extension("bin")])
    }

    /// The tokenizer's file in the diffusers directory: `tokenizer.json` where there is one, `spiece.model` otherwise.
    ///
    /// # Errors
    /// When there is none.
    pub fn tokenizer(&self) -> Result<PathBuf, ModelError> {
        [
            ModelDirectory::TOKENIZER_JSON,
            ModelDirectory::SENTENCEPIECE,
        ]
        .map(|name| self.checkpoint.join(name))
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| ModelError::NoTokenizer {
            path: self.checkpoint.clone(),
        })
    }
}

/// `stem.xml`, `stem_int8.xml` or `stem_int4.xml`, in the order that `notebook_files` asks for.
fn find(folder: &Path, stem: &str, notebook_files: NotebookFiles) -> Option<PathBuf> {
    let suffixes = match notebook_files {
        NotebookFiles::Plain => ["", "_int8", "_int4"],
        NotebookFiles::Quantised => ["_int8", "_int4", ""],
    };
    suffixes
        .map(|suffix| folder.join(format!("{stem}{suffix}.xml")))
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file()))
}

/// Rows and columns of the position table `[1, tokens, width]` that tracing at the native size leaves in a
/// transformer's IR. With such a table every other size fails, or, with as many tokens, is drawn wrong.
fn frozen_grid(xml: &Path, width: usize) -> Result<Option<(usize, usize)>, ModelError> {
    let Some(table) = position_table(&read_text(xml)?, width) else {
        return Ok(None);
    };
    let bin = xml.with_extension("bin");
    let read = || -> io::Result<Vec<u8>> {
        let file = files::open(&bin)?;
        let bytes = table.tokens * table.token_bytes;
        // Nothing is sized by the .xml's word alone.
        if bytes as u64 > file.metadata()?.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; bytes];
        file.read_exact_at(&mut bytes, table.offset)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| ModelError::Read {
        path: bin.clone(),
        source,
    })?;
    // Tokens lie row after row, and the second half of a token's channels encodes its row alone.
    let row_of = |token: usize| {
        &bytes[token * table.token_bytes..][table.token_bytes / 2..table.token_bytes]
    };
    let columns = (1..table.tokens)
        .find(|&token| row_of(token) != row_of(0))
        .unwrap_or(table.tokens);
    Ok(Some((table.tokens / columns, columns)))
}

/// The shift and scale tables of the blocks have the same form with 6 rows, that of the output with 2.
const MODULATION_ROWS: usize = 6;

/// A constant `[1, tokens, width]` in an `.xml`.
#[derive(Debug, PartialEq, Eq)]
struct PositionTable {
    tokens: usize,
    token_bytes: usize,
    offset: u64,
}

fn position_table(xml: &str, width: usize) -> Option<PositionTable> {
    xml.split("<data ")
        .skip(1)
        .filter_map(|rest| rest.split('>').next())
        .find_map(|data| {
            let attribute =
                |name: &str| data.split_once(&format!("{name}=\""))?.1.split('"').next();
            let dims: Vec<usize> = attribute("shape")?
                .split(',')
                .map_while(|dim| dim.trim().parse().ok())
                .collect();
            let [1, tokens, last] = dims[..] else {
                return None;
            };
            let size: usize = attribute("size")?.parse().ok()?;
            // A whole table of f32 or f16: nothing else of this shape is that long.
            let element_bytes = size / tokens.max(1) / width.max(1);
            (last == width
                && tokens > MODULATION_ROWS
                && (element_bytes == 4 || element_bytes == 2)
                && tokens.checked_mul(width * element_bytes) == Some(size))
            .then_some(PositionTable {
                tokens,
                token_bytes: width * element_bytes,
                offset: attribute("offset")?.parse().ok()?,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_table_tells_the_rows_and_columns_that_were_traced() {
        let folder = tempfile::tempdir().unwrap();
        let xml = folder.path().join("transformer_ir.xml");
        fs::write(
            &xml,
            r#"<data element_type="f32" shape="1, 6, 4" offset="0" size="96"/><data element_type="f32" shape="1, 12, 4" offset="96" size="192"/>"#,
        )
        .unwrap();
        let mut table = vec![0.0_f32; 24];
        for token in 0..12_u8 {
            let (row, column) = (f32::from(token / 3), f32::from(token % 3));
            table.extend([column, column, row, row]);
        }
        fs::write(
            xml.with_extension("bin"),
            bytemuck::cast_slice::<f32, u8>(&table),
        )
        .unwrap();
        assert_eq!(frozen_grid(&xml, 4).unwrap(), Some((4, 3)));
        assert_eq!(frozen_grid(&xml, 8).unwrap(), None);
    }

    #[test]
    fn quantised_networks_are_taken_when_asked_for_or_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "transformer_ir.xml",
            "transformer_ir_int8.xml",
            "vae_decoder_int4.xml",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let name = |stem, files| {
            let path = find(folder.path(), stem, files).unwrap();
            path.file_name().unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(
            name("transformer_ir", NotebookFiles::Plain),
            "transformer_ir.xml"
        );
        assert_eq!(
            name("transformer_ir", NotebookFiles::Quantised),
            "transformer_ir_int8.xml"
        );
        assert_eq!(
            name("vae_decoder", NotebookFiles::Plain),
            "vae_decoder_int4.xml"
        );
        assert!(ForeignModel::is_one(folder.path()));
    }
}
