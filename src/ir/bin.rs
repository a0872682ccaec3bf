//! The `.bin` half of the IR: constants one after the other, each on a 64-byte boundary, hashed as they pass.
//!
//! Hashing runs on a thread of its own behind a bounded channel, so that it costs no time where a second core is free.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

/// Constants start on cache lines, so that a mapped file can be used where it lies.
const ALIGNMENT: u64 = 64;
/// Bytes that gather before they are written and hashed: small enough to stay in a core's cache on the way.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Blocks on their way to the hashing thread and back.
const BLOCKS: usize = 8;

/// Writes a `.bin` file from front to back, or counts what one would hold.
#[derive(Debug)]
pub struct BinWriter {
    position: u64,
    /// None where bytes are only counted.
    output: Option<Output>,
}

/// The file, and the thread that hashes what goes into it.
#[derive(Debug)]
struct Output {
    file: File,
    block: Block,
    full: SyncSender<Block>,
    empty: Receiver<Block>,
    hasher: JoinHandle<[u8; 32]>,
}

/// A buffer of [`BLOCK_BYTES`], filled from its front.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    filled: usize,
}

impl Block {
    fn new() -> Self {
        Self {
            bytes: vec![0; BLOCK_BYTES],
            filled: 0,
        }
    }

    fn content(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    fn room(&self) -> usize {
        BLOCK_BYTES - self.filled
    }

    /// The next `count` bytes, which count as filled from here on.
    fn take(&mut self, count: usize) -> &mut [u8] {
        let start = self.filled;
        self.filled += count;
        &mut self.bytes[start..self.filled]
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinSummary {
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

impl BinWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let (full, waiting) = sync_channel::<Block>(BLOCKS);
        let (emptied, empty) = sync_channel::<Block>(BLOCKS);
        for _ in 1..BLOCKS {
            // Room for all of them was just made.
            let _ = emptied.send(Block::new());
        }
        let hasher = std::thread::Builder::new()
            .name("sha256".to_owned())
            .spawn(move || {
                let mut digest = Sha256::new();
                for mut block in waiting {
                    digest.update(block.content());
                    block.filled = 0;
                    // A writer that has gone wants no blocks back.
                    let _ = emptied.send(block);
                }
                digest.finalize().into()
            })?;
        Ok(Self {
            position: 0,
            output: Some(Output {
                file,
                block: Block::new(),
                full,
                empty,
                hasher,
            }),
        })
    }

    /// Counts bytes and writes none: a graph over it is drawn without reading its constants.
    pub fn counting() -> Self {
        Self {
            position: 0,
            output: None,
        }
    }

    /// Has `fill` write `bytes` bytes, or counts them.
    pub(super) fn fill<E>(
        &mut self,
        bytes: usize,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.output.is_some() {
            return fill(self);
        }
        self.position += bytes as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(BLOCK_BYTES) {
            self.write_with(part.len(), |block| {
                block.copy_from_slice(part);
                Ok::<(), io::Error>(())
            })?;
        }
        Ok(())
    }

    /// Appends `count` bytes, at most [`BLOCK_BYTES`], which `fill` writes where they will lie.
    ///
    /// # Errors
    /// Those of `fill`, and when the disk is full or gone.
    pub(crate) fn write_with<E: From<io::Error>>(
        &mut self,
        count: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(output) = &mut self.output {
            if output.block.room() < count {
                output.flush_block()?;
            }
            fill(output.block.take(count))?;
        }
        self.position += count as u64;
        Ok(())
    }

    /// Appends zeros up to the next boundary and returns the position there.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub(super) fn align(&mut self) -> io::Result<u64> {
        const ZEROS: [u8; 64] = [0; 64];
        let padding = self.position.next_multiple_of(ALIGNMENT) - self.position;
        self.write(&ZEROS[..usize::try_from(padding).expect("less than 64")])?;
        Ok(self.position)
    }

    /// Hands what is left to the system, waits for the digest, and returns it with the length. Nothing is flushed to the disk
    /// here. Where bytes were only counted, the digest is of nothing.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn finish(self) -> io::Result<BinSummary> {
        let sha256 = match self.output {
            Some(output) => output.finish()?,
            None => Sha256::digest([]).into(),
        };
        Ok(BinSummary {
            bytes: self.position,
            sha256,
        })
    }
}

impl Output {
    fn finish(mut self) -> io::Result<[u8; 32]> {
        self.flush_block()?;
        drop(self.full);
        self.hasher
            .join()
            .map_err(|_| io::Error::other("the hashing thread stopped"))
    }

    fn flush_block(&mut self) -> io::Result<()> {
        self.file.write_all(self.block.content())?;
        let stopped = || io::Error::other("the hashing thread stopped");
        let next = self.empty.recv().map_err(|_| stopped())?;
        let block = std::mem::replace(&mut self.block, next);
        self.full.send(block).map_err(|_| stopped())
    }
}
