//! SHA-256 of files, and digests as text.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::files;

/// A digest in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that are read at once: as fast as with larger ones.
const BLOCK_BYTES: usize = 256 << 10;

/// Length and SHA-256 of a file, read in blocks.
///
/// # Errors
/// When it cannot be read, or is no regular file.
pub fn file_sha256(path: &Path) -> io::Result<(u64, String)> {
    let mut file = files::open(path)?;
    let mut digest = Sha256::new();
    let mut block = Vec::new();
    // Several files are read at once: too little memory for that is an error, and no abort.
    block.try_reserve_exact(BLOCK_BYTES)?;
    block.resize(BLOCK_BYTES, 0);
    let mut bytes = 0;
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok((bytes, hex(&digest.finalize())));
        }
        digest.update(&block[..count]);
        bytes += count as u64;
    }
}
