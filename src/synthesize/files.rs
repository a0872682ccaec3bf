//! Safetensors files that are never in memory: a header of known length, then blocks that every core fills and writes where they
//! belong.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use super::tensor::Tensor;
use super::{Progress, SynthesizeError, SynthesizeOptions};
use crate::threads::share;

/// Values that a thread holds at a time: 1 MiB of f32, in a core's cache on the way.
const BLOCK_ELEMENTS: usize = 1 << 18;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 16-bit IEEE floats.
    F16,
    /// 32-bit floats.
    F32,
    /// 16-bit brain floats.
    Bf16,
}

impl Storage {
    /// Bytes of one weight.
    pub(super) fn bytes(self) -> u64 {
        self.width() as u64
    }

    fn width(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    /// As torch calls it.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            other => Err(format!("dtype '{other}' is not one of f16, f32, bf16")),
        }
    }
}

/// A component whose weights are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// The folder.
    pub(super) component: &'static str,
    pub(super) storage: Storage,
}

/// How transformers cut a text encoder's weights into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shards {
    /// Files.
    pub(super) count: usize,
    /// Bytes of a file, of [`Self::WHOLE_BYTES`]: the next tensor that would not fit begins another.
    pub(super) at_most_bytes: u64,
}

impl Shards {
    /// T5 v1.1 XXL's encoder in f32.
    const WHOLE_BYTES: u64 = 19_049_242_624;
}

/// A file of weights to be.
#[derive(Debug, Clone)]
pub(super) struct WeightsFile {
    stored: Stored,
    name: String,
    tensors: Vec<Tensor>,
}

impl WeightsFile {
    /// With the tensors by their names, as safetensors writes them.
    fn new(stored: Stored, name: String, mut tensors: Vec<Tensor>) -> Self {
        tensors.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            stored,
            name,
            tensors,
        }
    }

    pub(super) fn elements(&self) -> u64 {
        let elements: usize = self.tensors.iter().map(Tensor::elements).sum();
        elements as u64
    }

    /// Length of the whole file.
    pub(super) fn bytes(&self) -> u64 {
        self.header().len() as u64 + self.weights_bytes()
    }

    /// Length without the header.
    pub(super) fn weights_bytes(&self) -> u64 {
        self.elements() * self.stored.storage.bytes()
    }

    /// Length of the header, the header as JSON, and spaces up to a multiple of 8, as the format wants it.
    fn header(&self) -> Vec<u8> {
        let storage = self.stored.storage;
        let mut end = 0;
        let tensors = self.tensors.iter().map(|tensor| {
            let begin = end;
            end += tensor.elements() * storage.width();
            let info = TensorInfo {
                dtype: storage.dtype(),
                shape: tensor.shape.clone(),
                data_offsets: (begin, end),
            };
            (tensor.name.clone(), info)
        });
        // transformers refuses files that do not say for whom they are.
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let metadata = Metadata::new(Some(format), tensors.collect())
            .expect("tensors that follow each other leave no gap");
        let mut json = serde_json::to_vec(&metadata).expect("a header is plain data");
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.append(&mut json);
        header
    }
}

/// A component whose weights are one file, as diffusers stores them.
pub(super) fn single(stored: Stored, tensors: Vec<Tensor>) -> Vec<WeightsFile> {
    let name = "diffusion_pytorch_model.safetensors";
    vec![WeightsFile::new(stored, name.to_owned(), tensors)]
}

/// A component whose weights are several files, as transformers stores T5-XXL: of another width or depth, they are as many, and
/// each has its share.
pub(super) fn sharded(stored: Stored, shards: Shards, tensors: Vec<Tensor>) -> Vec<WeightsFile> {
    let Shards {
        count,
        at_most_bytes,
    } = shards;
    let all: usize = tensors.iter().map(Tensor::elements).sum();
    let most = all as u128 * u128::from(at_most_bytes) / u128::from(Shards::WHOLE_BYTES);
    let mut files = vec![Vec::new()];
    let (mut elements, mut left) = (0, tensors.len());
    for tensor in tensors {
        let full = elements > 0 && elements + tensor.elements() as u128 > most;
        // Every file has a tensor, even where the first alone is more than its share.
        let needed = left == count - files.len();
        if files.len() < count && (full || needed) {
            files.push(Vec::new());
            elements = 0;
        }
        elements += tensor.elements() as u128;
        left -= 1;
        files.last_mut().expect("there is one").push(tensor);
    }
    files
        .into_iter()
        .zip(1..)
        .map(|(tensors, number)| {
            let name = format!("model-{number:05}-of-{count:05}.safetensors");
            WeightsFile::new(stored, name, tensors)
        })
        .collect()
}

/// The page that says which shard has which tensor.
pub(super) fn index_page(files: &[WeightsFile]) -> Option<(String, Vec<u8>)> {
    let shards: Vec<&WeightsFile> = files
        .iter()
        .filter(|file| file.name.contains("-of-"))
        .collect();
    let component = shards.first()?.stored.component;
    let bytes: u64 = shards.iter().map(|file| file.weights_bytes()).sum();
    let map: serde_json::Map<String, serde_json::Value> = shards
        .iter()
        .flat_map(|file| {
            let entry = |tensor: &Tensor| (tensor.name.clone(), json!(file.name));
            file.tensors.iter().map(entry).collect::<Vec<_>>()
        })
        .collect();
    let page = json!({
        "metadata": {"total_size": bytes},
        "weight_map": map,
    });
    Some((
        format!("{component}/model.safetensors.index.json"),
        super::pages::bytes(&page),
    ))
}

/// A part of a tensor that one thread makes.
struct Block<'a> {
    tensor: &'a Tensor,
    start: usize,
    count: usize,
    /// Where it lies in the file.
    offset: u64,
}

/// Writes one file below `folder`, on every core.
pub(super) fn write_all(
    folder: &Path,
    file: &WeightsFile,
    options: &SynthesizeOptions,
    progress: &dyn Progress,
) -> Result<(), SynthesizeError> {
    let Stored { component, storage } = file.stored;
    let path = folder.join(component).join(&file.name);
    let failed = || SynthesizeError::write(&path);
    let header = file.header();
    let output = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| File::create_new(&path))
        .map_err(failed())?;
    output.write_all_at(&header, 0).map_err(failed())?;

    let blocks = blocks(file, header.len() as u64);
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let work = || {
        let mut values = vec![0.0; BLOCK_ELEMENTS];
        let mut bytes = Vec::new();
        while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) || progress.cancelled() {
                return;
            }
            let values = &mut values[..block.count];
            let tensor = block.tensor;
            tensor.fill(options.seed, component, block.start, values);
            encode(values, storage, &mut bytes);
            if let Err(error) = output.write_all_at(&bytes, block.offset) {
                stop.store(true, Ordering::Relaxed);
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
            progress.advance(bytes.len() as u64);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    share(threads, work);
    let failure = failure.into_inner();
    if let Some(error) = failure.unwrap_or_else(PoisonError::into_inner) {
        return Err(failed()(error));
    }
    if progress.cancelled() {
        return Err(SynthesizeError::Cancelled);
    }
    Ok(())
}

fn blocks(file: &WeightsFile, mut offset: u64) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for tensor in &file.tensors {
        for start in (0..tensor.elements()).step_by(BLOCK_ELEMENTS) {
            let count = BLOCK_ELEMENTS.min(tensor.elements() - start);
            blocks.push(Block {
                tensor,
                start,
                count,
                offset,
            });
            offset += count as u64 * file.stored.storage.bytes();
        }
    }
    blocks
}

/// Values as the file has them, little-endian.
fn encode(values: &[f32], storage: Storage, bytes: &mut Vec<u8>) {
    bytes.resize(values.len() * storage.width(), 0);
    match storage {
        Storage::F32 => {
            for (out, value) in bytes.chunks_exact_mut(4).zip(values) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        Storage::F16 => {
            let mut narrow = vec![f16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            for (out, value) in bytes.chunks_exact_mut(2).zip(narrow) {
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        Storage::Bf16 => {
            for (out, &value) in bytes.chunks_exact_mut(2).zip(values) {
                out.copy_from_slice(&bf16::from_f32(value).to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensor::Values;
    use super::*;

    fn tensors(lengths: &[usize]) -> Vec<Tensor> {
        lengths
            .iter()
            .zip(0..)
            .map(|(&length, number)| Tensor {
                name: format!("t{number}"),
                shape: vec![length],
                values: Values::Ones,
            })
            .collect()
    }

    const STORED: Stored = Stored {
        component: "text_encoder",
        storage: Storage::F16,
    };

    #[test]
    fn shards_are_filled_one_after_the_other_and_all_have_something() {
        for (lengths, count, expected) in [
            (&[4, 4, 4, 4][..], 2, &[2, 2][..]),
            (&[100, 1, 1], 2, &[1, 2]),
            (&[1, 1, 100], 2, &[2, 1]),
            (&[3, 2, 2, 2], 2, &[1, 3]),
            (&[3, 2, 2, 3], 2, &[2, 2]),
            (&[5, 5, 5, 5], 4, &[1, 1, 1, 1]),
            (&[100, 1, 1, 1, 1, 1], 4, &[1, 3, 1, 1]),
            (&[1, 1, 1, 100], 4, &[1, 1, 1, 1]),
        ] {
            let shards = Shards {
                count,
                at_most_bytes: 20_000_000_000 / count as u64,
            };
            let files = sharded(STORED, shards, tensors(lengths));
            let found: Vec<usize> = files.iter().map(|file| file.tensors.len()).collect();
            assert_eq!(found, expected, "{lengths:?}");
        }
    }

    #[test]
    fn a_tensor_longer_than_a_block_is_cut_without_a_gap() {
        let file = &single(STORED, tensors(&[3, 2 * BLOCK_ELEMENTS + 5]))[0];
        let blocks = blocks(file, 16);
        let cuts: Vec<_> = blocks
            .iter()
            .map(|block| (block.start, block.count, block.offset))
            .collect();
        let long = BLOCK_ELEMENTS as u64;
        assert_eq!(
            cuts,
            [
                (0, 3, 16),
                (0, BLOCK_ELEMENTS, 22),
                (BLOCK_ELEMENTS, BLOCK_ELEMENTS, 22 + 2 * long),
                (2 * BLOCK_ELEMENTS, 5, 22 + 4 * long),
            ]
        );
    }
}
