//! The model that the binary carries: converted into the cache at its first use, and checked there at every later one.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::App;
use crate::config::cache_folder;
use crate::convert::{ComponentWeights, ConvertError, ConvertOptions, Progress, REVISION, convert};
use crate::engine::Runtime;
use crate::files::writable_by_others;
use crate::model::{
    EMBEDDED_NAME, ModelDirectory, ModelError, WeightsFormat, embedded_digest, has_embedded_model,
    unpack_embedded_model,
};

impl App {
    /// The model that the binary carries, converted at its first use.
    ///
    /// # Errors
    /// When the binary has none, or it cannot be kept in the cache.
    pub(super) fn embedded_model(
        &self,
        runtime: &mut Runtime,
        progress: &dyn Progress,
    ) -> Result<ModelDirectory> {
        if !has_embedded_model() {
            bail!(
                "this binary was built without its embedded model: give a model directory with --model"
            );
        }
        let cache = cache_folder(&self.settings, &self.environment).context(
            "there is no cache folder for the embedded model: set HOME, or PIXART__MODEL__CACHE",
        )?;
        let digest = embedded_digest();
        let output = cache.join(format!(
            "{EMBEDDED_NAME}-{}-r{REVISION}-{}",
            env!("CARGO_PKG_VERSION"),
            &digest[..12]
        ));
        match ModelDirectory::open(&output) {
            Ok(model) => {
                warn_of_others(&output);
                return Ok(model);
            }
            Err(ModelError::Read { path, source })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Err(ModelError::Read { path, source }.into());
            }
            // A cache that does not check out is made again. Only the conversion touches it, under the folder's lock:
            // another process may have found the same and be done already.
            Err(_) => {}
        }
        let source = tempfile::tempdir()
            .map_err(|source| ConvertError::Write {
                path: tempfile::env::temp_dir(),
                source,
            })
            .context(
                "the embedded model needs 64 MB for temporary files: in a container mount a tmpfs at /tmp, or name a folder in \
                 TMPDIR that can be written to",
            )?;
        // The manifest keeps the source's name.
        let folder = source.path().join(EMBEDDED_NAME);
        unpack_embedded_model(&folder).map_err(|error| ConvertError::Write {
            path: folder.clone(),
            source: error,
        })?;
        let options = ConvertOptions {
            source: folder,
            output,
            name: Some(EMBEDDED_NAME.to_owned()),
            weights: ComponentWeights::all(WeightsFormat::F16),
            tiny_vae: None,
        };
        convert(&options, runtime, progress).map_err(|error| match error {
            ConvertError::Cancelled => error.into(),
            error => anyhow::Error::new(error).context(
                "cannot keep the embedded model; PIXART__MODEL__CACHE names another folder",
            ),
        })
    }
}

/// Says of the embedded model's folder in the cache that others could have put another model there. It is drawn with all the same:
/// images of containers are built by one user and run by another.
fn warn_of_others(folder: &Path) {
    let how = fs::metadata(folder)
        .ok()
        .as_ref()
        .and_then(writable_by_others);
    if let Some(how) = how {
        tracing::warn!(
            folder = %folder.display(),
            how,
            "another user could have put another model in the place of the embedded one: have this user or root own the folder, or name \
             another one in model.cache"
        );
    }
}
