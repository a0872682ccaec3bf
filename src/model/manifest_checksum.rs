//! The checksum that a manifest has of itself. It lists those of all other files, and numbers that decide an image stand in it
//! alone, such as the factor that latents are divided by.
//!
//! It is the SHA-256 of everything else in the manifest as JSON without white space, the keys of every object in order: so it says
//! nothing of how the text is laid out, and fields of later versions are part of it.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::config_json::ConfigError;
use super::digest::hex;
use super::manifest::Manifest;

/// Its key.
const KEY: &str = "sha256";

/// A manifest as it is stored.
#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    sha256: String,
}

/// The text of a manifest with its checksum.
///
/// # Errors
/// Never in practice: every field is plain data.
pub(super) fn sealed(manifest: &Manifest) -> Result<String, serde_json::Error> {
    // By way of its text, as whoever reads it has nothing else.
    let page: Value = serde_json::from_str(&serde_json::to_string(manifest)?)?;
    let sha256 = digest(page);
    serde_json::to_string_pretty(&Sealed { manifest, sha256 }).map(|text| text + "\n")
}

/// The checksum that the text of a manifest has of itself, where it has one: manifests of before it was kept have none.
///
/// # Errors
/// When it is not the checksum of the rest.
pub(super) fn checked(text: &str) -> Result<Option<String>, ConfigError> {
    let mut page: Value = serde_json::from_str(text)?;
    let Some(stated) = page.as_object_mut().and_then(|page| page.remove(KEY)) else {
        return Ok(None);
    };
    let expected = digest(page);
    if stated.as_str() == Some(&expected) {
        return Ok(Some(expected));
    }
    Err(ConfigError::invalid(
        KEY,
        stated,
        format!("{expected}, the checksum of everything else in it: something in it was changed"),
    ))
}

fn digest(mut page: Value) -> String {
    page.sort_all_objects();
    hex(&Sha256::digest(page.to_string()))
}
