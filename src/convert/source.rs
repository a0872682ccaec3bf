//! The weights of one component of a diffusers directory: safetensors, single or sharded, read block by block.
//!
//! A header is trusted only after the `safetensors` crate has checked that its tensors tile the file exactly. Data is
//! read by position, never mapped, so that a checkpoint of any size takes one block of memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};

use super::tensor_names::{OTHER_ARCHITECTURES, current_name, without_numbers};
use super::{ConvertError, missing};
use crate::files;
use crate::model::{
    Disguise, FIRST_BYTES, ModelError, Stamp, UnusedTensors, WEIGHTS_VARIANTS, from_python,
    read_text, sample,
};

/// Longest header taken; the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The weights of one component.
#[derive(Debug)]
pub struct WeightsSource {
    component: String,
    /// Each with its content, where more is here than its header.
    files: Vec<(PathBuf, Option<File>)>,
    tensors: BTreeMap<String, TensorInfo>,
    used: Mutex<BTreeSet<String>>,
    fingerprint: Sha256,
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone)]
struct TensorInfo {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
}

/// The header of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the file is called, for messages.
    pub path: PathBuf,
    /// The header's JSON, without its length in front.
    pub json: Vec<u8>,
    /// Length of the whole file, where it is known.
    pub file_bytes: Option<u64>,
}

/// Element types of weights that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    Bf16,
}

impl SourceType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl WeightsSource {
    /// Opens `directory` (such as `…/transformer`), whose weights are called `stem` (such as
    /// `diffusion_pytorch_model`), and checks every header. A variant (`fp16`) is taken where the plain files are missing.
    ///
    /// # Errors
    /// When files are missing, not whole, or pickles.
    pub fn open(directory: &Path, stem: &str) -> Result<Self, ConvertError> {
        let mut source = Self::empty(directory);
        for variant in WEIGHTS_VARIANTS {
            let index = directory.join(format!("{stem}.safetensors.index{variant}.json"));
            let single = directory.join(format!("{stem}{variant}.safetensors"));
            missing::check_link(&index)?;
            missing::check_link(&single)?;
            if index.exists() {
                source.open_shards(directory, &index)?;
                return Ok(source);
            }
            if single.exists() {
                source.open_file(single)?;
                return Ok(source);
            }
        }
        Err(missing::weights(directory, stem))
    }

    /// The weights of the component in `directory` as far as the headers of all of its files tell: everything but values. The files
    /// are elsewhere; an index of shards is in the directory.
    ///
    /// # Errors
    /// As [`Self::open`], but for what is missing.
    pub fn of_headers(
        directory: &Path,
        stem: &str,
        headers: &[Header],
    ) -> Result<Self, ConvertError> {
        let mut source = Self::empty(directory);
        for header in headers {
            source.add_file(None, header)?;
        }
        let index = directory.join(format!("{stem}.safetensors.index.json"));
        if index.exists() {
            source.check_index(&index, &weight_map(&index)?)?;
        }
        Ok(source)
    }

    /// Of the component that has its folder's name.
    fn empty(directory: &Path) -> Self {
        let component = directory
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self {
            component,
            files: Vec::new(),
            tensors: BTreeMap::new(),
            used: Mutex::default(),
            fingerprint: Sha256::new(),
        }
    }

    fn open_shards(&mut self, directory: &Path, index: &Path) -> Result<(), ConvertError> {
        let bad = |detail: String| ConvertError::BadIndex {
            path: index.to_owned(),
            detail,
        };
        let weight_map = weight_map(index)?;
        let shards: BTreeSet<&String> = weight_map.values().collect();
        for shard in shards {
            if Path::new(shard).file_name() != Some(shard.as_ref()) {
                return Err(bad(format!("the shard '{shard}' is not a plain file name")));
            }
            if Path::new(shard)
                .extension()
                .is_none_or(|ending| ending != "safetensors")
            {
                return Err(bad(format!(
                    "the shard '{shard}' is not a safetensors file"
                )));
            }
            let path = directory.join(shard);
            missing::check_link(&path)?;
            if !path.exists() {
                return Err(bad(format!(
                    "it names the shard '{shard}', which is not there"
                )));
            }
            self.open_file(path)?;
        }
        self.check_index(index, &weight_map)
    }

    /// Holds that every tensor is where the index says.
    fn check_index(
        &self,
        index: &Path,
        weight_map: &BTreeMap<String, String>,
    ) -> Result<(), ConvertError> {
        let bad = |detail: String| ConvertError::BadIndex {
            path: index.to_owned(),
            detail,
        };
        for (tensor, shard) in weight_map {
            let there = self
                .tensors
                .get(&current_name(tensor))
                .is_some_and(|info| self.files[info.file].0.ends_with(shard));
            if !there {
                return Err(bad(format!(
                    "it says that '{shard}' has the tensor '{tensor}', which it has not"
                )));
            }
        }
        Ok(())
    }

    fn open_file(&mut self, path: PathBuf) -> Result<(), ConvertError> {
        let bad = |detail: String| ConvertError::BadWeights {
            path: path.clone(),
            detail,
        };
        let read = |source| ConvertError::Read {
            path: path.clone(),
            source,
        };
        let mut file = files::open(&path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let length = metadata.len();
        let mut first = Vec::new();
        (&file)
            .take(FIRST_BYTES as u64)
            .read_to_end(&mut first)
            .map_err(read)?;
        if let Some(disguise) = Disguise::of(&first) {
            return Err(ModelError::Disguised { path, disguise }.into());
        }
        file.rewind().map_err(read)?;
        let mut header = vec![0; 8];
        file.read_exact(&mut header)
            .map_err(|_| bad("it is shorter than 8 bytes".to_owned()))?;
        let header_bytes = u64::from_le_bytes([
            header[0], header[1], header[2], header[3], header[4], header[5], header[6], header[7],
        ]);
        if header_bytes > MAX_HEADER_BYTES || header_bytes > length - 8 {
            return Err(bad(format!(
                "its header claims {header_bytes} bytes in a file of {length}"
            )));
        }
        (&file)
            .take(header_bytes)
            .read_to_end(&mut header)
            .map_err(read)?;
        // Fine-tunes of one model have equal headers and lengths, and often equal times.
        self.fingerprint.update(&header);
        self.fingerprint.update(Stamp::of(&metadata).to_bytes());
        self.fingerprint
            .update(sample(&file, 8 + header_bytes, length).map_err(read)?);
        let json = header.split_off(8);
        let header = Header {
            path,
            json,
            file_bytes: Some(length),
        };
        self.add_file(Some(file), &header)
    }

    /// Adds the tensors of a file, whose content may be elsewhere.
    fn add_file(&mut self, file: Option<File>, header: &Header) -> Result<(), ConvertError> {
        let bad = |detail: String| ConvertError::BadWeights {
            path: header.path.clone(),
            detail,
        };
        let parsed = parse_header(&header.json).map_err(|error| bad(format!("header: {error}")))?;
        let data_offset = 8 + header.json.len() as u64;
        let expected = data_offset + parsed.data_len() as u64;
        if let Some(length) = header.file_bytes.filter(|&length| length != expected) {
            return Err(bad(format!(
                "{length} bytes long where its header says {expected}"
            )));
        }
        let index = self.files.len();
        for (name, info) in parsed.tensors() {
            let name = current_name(&name);
            let entry = TensorInfo {
                file: index,
                dtype: info.dtype,
                shape: info.shape.clone(),
                offset: data_offset + info.data_offsets.0 as u64,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(bad(format!("the tensor '{name}' is also in another shard")));
            }
        }
        self.files.push((header.path.clone(), file));
        Ok(())
    }

    /// Digest of what the files are: headers, identities, times and a sample of the values. Another one may still be of the same
    /// values, in a copy of the files.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint.clone().finalize().into()
    }

    /// Length of the tensors that were used, for progress.
    pub fn used_bytes(&self) -> u64 {
        let used = self.used();
        let used = used.iter().filter_map(|name| self.tensors.get(name));
        used.map(|info| (info.shape.iter().product::<usize>() * info.dtype.bitsize() / 8) as u64)
            .sum()
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor, checked against the shape that the configuration implies.
    ///
    /// # Errors
    /// When it is missing, of another shape, or of a type that is not taken.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<SourceTensor<'_>, ConvertError> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| ConvertError::MissingTensor {
                component: self.component.clone(),
                tensor: name.to_owned(),
            })?;
        // Linear layers were once stored as 1×1 convolutions: the same numbers with two more axes of 1.
        let squeezed: Vec<usize> = match info.shape.as_slice() {
            [rows, columns, 1, 1] if shape.len() == 2 => vec![*rows, *columns],
            plain => plain.to_vec(),
        };
        if squeezed != shape {
            return Err(ConvertError::TensorShape {
                component: self.component.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                got: info.shape.clone(),
            });
        }
        let dtype = match info.dtype {
            Dtype::F32 => SourceType::F32,
            Dtype::F16 => SourceType::F16,
            Dtype::BF16 => SourceType::Bf16,
            other => {
                return Err(ConvertError::TensorType {
                    component: self.component.clone(),
                    tensor: name.to_owned(),
                    got: format!("{other:?}"),
                });
            }
        };
        self.used().insert(name.to_owned());
        let (path, file) = &self.files[info.file];
        Ok(SourceTensor {
            component: &self.component,
            name: name.to_owned(),
            shape: shape.to_vec(),
            dtype,
            path,
            file: file.as_ref(),
            offset: info.offset,
        })
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set of names is whole whatever happened to its last holder.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tensors that were not used, but for those whose names begin with one of `leftovers`.
    ///
    /// # Errors
    /// When one of them belongs to something that changes what is computed: the images would be wrong without it.
    pub fn unused(&self, leftovers: &[&str]) -> Result<Option<UnusedTensors>, ConvertError> {
        let used = self.used();
        let unused: Vec<&str> = self
            .tensors
            .keys()
            .map(String::as_str)
            .filter(|name| !used.contains(*name))
            .filter(|name| !leftovers.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        // A layer like those that are used, and beyond the number that the configuration gives.
        let known: BTreeSet<String> = used.iter().map(|name| without_numbers(name)).collect();
        let more = unused
            .iter()
            .copied()
            .filter(|name| known.contains(&without_numbers(name)));
        if let Some(tensors) = UnusedTensors::of(more) {
            return Err(ConvertError::MoreLayers {
                component: self.component.clone(),
                tensors,
            });
        }
        for (mark, what) in OTHER_ARCHITECTURES {
            let of_it = unused.iter().copied().filter(|name| name.contains(mark));
            if let Some(tensors) = UnusedTensors::of(of_it) {
                return Err(ConvertError::OtherArchitecture {
                    component: self.component.clone(),
                    what,
                    tensors,
                });
            }
        }
        Ok(UnusedTensors::of(unused))
    }
}

/// Which shard has which tensor, by an index.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>, ConvertError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_text(index)?;
    let parsed = from_python::<Index>(&text);
    parsed
        .map(|index| index.weight_map)
        .map_err(|error| ConvertError::BadIndex {
            path: index.to_owned(),
            detail: error.to_string(),
        })
}

/// Reads the JSON header of a safetensors file. What it returns tiles the data part from its first byte on without a gap;
/// whether the file is as long is for the caller to check.
///
/// # Errors
/// When it is not such a header.
pub fn parse_header(header: &[u8]) -> Result<Metadata, serde_json::Error> {
    serde_json::from_slice(header)
}

/// One tensor of a source.
#[derive(Debug)]
pub struct SourceTensor<'source> {
    component: &'source str,
    name: String,
    shape: Vec<usize>,
    dtype: SourceType,
    path: &'source Path,
    file: Option<&'source File>,
    offset: u64,
}

impl SourceTensor<'_> {
    /// Element type in the file.
    pub fn dtype(&self) -> SourceType {
        self.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Reads elements from `start` on as raw little-endian bytes, as many as fill `buffer`.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter.
    pub fn read_raw(&self, start: usize, buffer: &mut [u8]) -> Result<(), ConvertError> {
        let offset = self.offset + (start * self.dtype.bytes()) as u64;
        self.file
            .ok_or_else(|| io::Error::other("only its header is here"))
            .and_then(|file| file.read_exact_at(buffer, offset))
            .map_err(|source| ConvertError::Read {
                path: self.path.to_owned(),
                source,
            })
    }

    /// The refusal of a value of this tensor.
    pub fn not_finite(
        &self,
        format: Option<&'static str>,
        value: f32,
        index: usize,
    ) -> ConvertError {
        ConvertError::NotFinite {
            component: self.component.to_owned(),
            tensor: self.name.clone(),
            format: format.filter(|_| value.is_finite()),
            value,
            index,
            advice: if value.is_finite() {
                "choose --weights f32"
            } else {
                "the checkpoint is damaged, fetch it again"
            },
        }
    }
}
