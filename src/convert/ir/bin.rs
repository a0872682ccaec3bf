//! The `.bin` half of the IR: constants one after the other, each on a 64-byte boundary, hashed as they pass.
//!
//! Hashing runs on a thread of its own behind a bounded channel, so that it costs no time where a second core is free.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

/// Constants start on cache lines, so that a mapped file can be used where it lies.
const ALIGNMENT: u64 = 64;
/// Bytes that gather before they are written and hashed.
const BLOCK_BYTES: usize = 4 << 20;
/// Blocks that may wait for the hashing thread.
const BLOCKS_WAITING: usize = 4;

/// Writes a `.bin` file from front to back.
#[derive(Debug)]
pub struct BinWriter {
    file: File,
    block: Vec<u8>,
    position: u64,
    blocks: SyncSender<Vec<u8>>,
    hasher: JoinHandle<[u8; 32]>,
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
        let (blocks, waiting) = sync_channel::<Vec<u8>>(BLOCKS_WAITING);
        let hasher = std::thread::Builder::new()
            .name("sha256".to_owned())
            .spawn(move || {
                let mut digest = Sha256::new();
                for block in waiting {
                    digest.update(&block);
                }
                digest.finalize().into()
            })?;
        Ok(Self {
            file,
            block: Vec::with_capacity(BLOCK_BYTES),
            position: 0,
            blocks,
            hasher,
        })
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
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

    /// Writes what is left, waits for the disk, and returns length and digest.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn finish(mut self) -> io::Result<BinSummary> {
        self.flush_block()?;
        drop(self.blocks);
        let sha256 = self
            .hasher
            .join()
            .map_err(|_| io::Error::other("the hashing thread stopped"))?;
        Ok(BinSummary {
            bytes: self.position,
            sha256,
        })
    }

    fn flush_block(&mut self) -> io::Result<()> {
        self.file.write_all(&self.block)?;
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        self.blocks
            .send(block)
            .map_err(|_| io::Error::other("the hashing thread stopped"))
    }
}
