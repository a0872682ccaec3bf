//! Which files of a repository a PixArt checkpoint needs: those that `pixart convert` reads, and the tokenizer's own. A repository of
//! a tiny autoencoder alone has two.
//!
//! Of weights: the index and its shards where there is an index, else the single file, as conversion prefers them. A variant
//! (`fp16`, `bf16`) is taken only where the files without suffix are missing, and under their names. Pickles never.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::PullError;
use super::listing::{Listed, Listing, is_plain_path};
use crate::model::{ModelDirectory, ModelIndex, PICKLE_ENDINGS, TinyVaeSpec, WEIGHTS_VARIANTS};

/// What a diffusers directory says of itself. It comes last: a folder that has it is whole.
pub(super) const MODEL_INDEX: &str = ModelIndex::FILE_NAME;
/// What a component says of itself: of a tiny autoencoder alone, it comes last.
const CONFIG: &str = "config.json";

/// Components with weights, and what their weights are called.
pub(super) const COMPONENTS: [(&str, &str); 3] = [
    ("text_encoder", "model"),
    ("transformer", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
];
/// What a whole pipeline has.
const FOLDERS: [&str; 5] = [
    "tokenizer",
    "text_encoder",
    "transformer",
    "vae",
    "scheduler",
];

/// A file to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its name on the hub.
    pub(super) remote: String,
    /// Its name here.
    pub(super) local: String,
    /// What the hub says of it.
    pub(super) listed: Listed,
    /// Of weights that were looked at before: how long the first part is that has their header, and its SHA-256.
    pub(super) header: Option<(u64, [u8; 32])>,
}

impl Item {
    /// Whether it says that the folder is whole.
    pub(super) fn comes_last(&self) -> bool {
        self.local == MODEL_INDEX || self.local == CONFIG
    }

    /// Whether it belongs to `component`.
    pub(super) fn is_of(&self, component: &str) -> bool {
        self.local
            .strip_prefix(component)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether it is a safetensors file.
    pub(super) fn holds_tensors(&self) -> bool {
        ends_in(&self.local, "safetensors")
    }

    /// Whether it holds weights, or says which shard has which.
    pub(super) fn is_of_weights(&self) -> bool {
        self.holds_tensors() || self.local.ends_with(".safetensors.index.json")
    }
}

/// Chooses. `read` fetches a small file whole.
pub(super) fn select(
    listing: &Listing,
    repository: &str,
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>, PullError>,
) -> Result<Vec<Item>, PullError> {
    let mut selection = Selection {
        listing,
        repository,
        items: Vec::new(),
    };
    selection.check_folders()?;
    if listing.file(MODEL_INDEX).is_none() {
        selection.tiny_vae(read)?;
        return Ok(selection.items);
    }
    let index = read(MODEL_INDEX)?;
    ModelIndex::from_json(&String::from_utf8_lossy(&index)).map_err(|source| {
        PullError::OtherFamily {
            repository: repository.to_owned(),
            source,
        }
    })?;
    for (component, stem) in COMPONENTS {
        selection.require(&format!("{component}/config.json"))?;
        selection.weights(component, stem, read)?;
    }
    selection.require(ModelDirectory::SCHEDULER)?;
    selection.tokenizer()?;
    if listing.file("pixart.json").is_some() {
        selection.require("pixart.json")?;
    }
    selection.require(MODEL_INDEX)?;
    Ok(selection.items)
}

struct Selection<'a> {
    listing: &'a Listing,
    repository: &'a str,
    items: Vec<Item>,
}

impl Selection<'_> {
    fn missing(&self, file: &str) -> PullError {
        PullError::MissingFile {
            repository: self.repository.to_owned(),
            file: file.to_owned(),
        }
    }

    /// Refuses a part of a pipeline, such as a transformer alone.
    fn check_folders(&self) -> Result<(), PullError> {
        let (has, lacks): (Vec<&str>, Vec<&str>) = FOLDERS.into_iter().partition(|folder| {
            let mut names = self.listing.names();
            names.any(|name| name.starts_with(&format!("{folder}/")))
        });
        if has.is_empty() || lacks.is_empty() {
            return Ok(());
        }
        Err(PullError::Incomplete {
            repository: self.repository.to_owned(),
            has: has.join(", "),
            lacks: lacks.join(", "),
        })
    }

    /// A tiny autoencoder alone; nothing else is pulled without a pipeline's index.
    fn tiny_vae(
        &mut self,
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>, PullError>,
    ) -> Result<(), PullError> {
        if self.listing.file(CONFIG).is_none() {
            return Err(self.missing(MODEL_INDEX));
        }
        let config = read(CONFIG)?;
        let config = String::from_utf8_lossy(&config);
        if !TinyVaeSpec::is_declared(&config) {
            return Err(self.missing(MODEL_INDEX));
        }
        TinyVaeSpec::from_json(&config).map_err(|source| PullError::OtherFamily {
            repository: self.repository.to_owned(),
            source,
        })?;
        self.weights("", "diffusion_pytorch_model", read)?;
        self.require(CONFIG)
    }

    fn require(&mut self, name: &str) -> Result<(), PullError> {
        self.take(name, name)
    }

    fn take(&mut self, remote: &str, local: &str) -> Result<(), PullError> {
        let listed = self
            .listing
            .file(remote)
            .ok_or_else(|| self.missing(remote))?
            .clone();
        self.items.push(Item {
            remote: remote.to_owned(),
            local: local.to_owned(),
            listed,
            header: None,
        });
        Ok(())
    }

    /// `spiece.model` and every JSON file of the tokenizer's directory.
    fn tokenizer(&mut self) -> Result<(), PullError> {
        let named = [
            ModelDirectory::SENTENCEPIECE,
            ModelDirectory::TOKENIZER_JSON,
        ];
        if !named.iter().any(|name| self.listing.file(name).is_some()) {
            return Err(self.missing(ModelDirectory::SENTENCEPIECE));
        }
        let names: Vec<String> = self
            .listing
            .names()
            .filter(|name| {
                let inside = name.strip_prefix("tokenizer/");
                *name == ModelDirectory::SENTENCEPIECE
                    || inside.is_some_and(|inside| !inside.contains('/') && ends_in(inside, "json"))
            })
            .map(str::to_owned)
            .collect();
        names.iter().try_for_each(|name| self.require(name))
    }

    fn weights(
        &mut self,
        component: &str,
        stem: &str,
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>, PullError>,
    ) -> Result<(), PullError> {
        for infix in WEIGHTS_VARIANTS {
            let index = within(component, &format!("{stem}.safetensors.index{infix}.json"));
            let single = within(component, &format!("{stem}{infix}.safetensors"));
            if self.listing.file(&index).is_some() {
                for shard in self.shards(&index, &read(&index)?)? {
                    self.require(&within(component, &shard))?;
                }
                // After its shards, as conversion looks for it first.
                let local = within(component, &format!("{stem}.safetensors.index.json"));
                return self.take(&index, &local);
            }
            if self.listing.file(&single).is_some() {
                let local = within(component, &format!("{stem}.safetensors"));
                return self.take(&single, &local);
            }
        }
        let pickle = self.listing.names().find(|name| {
            name.starts_with(&within(component, ""))
                && PICKLE_ENDINGS.iter().any(|ending| ends_in(name, ending))
        });
        Err(match pickle {
            Some(pickle) => PullError::NoSafetensors {
                repository: self.repository.to_owned(),
                component: component.to_owned(),
                pickle: pickle.to_owned(),
            },
            None => self.missing(&within(component, &format!("{stem}.safetensors"))),
        })
    }

    /// The shards that an index names: plain names of safetensors files beside it.
    fn shards(&self, index: &str, json: &[u8]) -> Result<BTreeSet<String>, PullError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let bad = |detail: String| PullError::BadIndex {
            repository: self.repository.to_owned(),
            file: index.to_owned(),
            detail,
        };
        let shards: BTreeSet<String> = serde_json::from_slice::<Index>(json)
            .map_err(|error| bad(error.to_string()))?
            .weight_map
            .into_values()
            .collect();
        if shards.is_empty() {
            return Err(bad("it names no shard".to_owned()));
        }
        for shard in &shards {
            if !is_plain_path(shard) || shard.contains('/') || !ends_in(shard, "safetensors") {
                return Err(bad(format!(
                    "the shard '{}' is no plain name of a safetensors file",
                    shard.escape_debug()
                )));
            }
        }
        Ok(shards)
    }
}

/// `component/name`, or the name alone at the top.
fn within(component: &str, name: &str) -> String {
    if component.is_empty() {
        name.to_owned()
    } else {
        format!("{component}/{name}")
    }
}

fn ends_in(name: &str, ending: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [&str; 7] = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/spiece.model",
        "tokenizer/tokenizer_config.json",
        "transformer/config.json",
        "vae/config.json",
    ];

    fn chosen(weights: &[&str]) -> Result<Vec<(String, String)>, PullError> {
        let siblings: Vec<_> = SMALL
            .iter()
            .chain(weights)
            .map(|name| serde_json::json!({"rfilename": name}))
            .collect();
        let json = serde_json::json!({"sha": "c", "siblings": siblings}).to_string();
        let listing = Listing::parse(json.as_bytes(), "main").unwrap();
        let mut read = |name: &str| {
            Ok(if name == MODEL_INDEX {
                br#"{"_class_name": "PixArtAlphaPipeline"}"#.to_vec()
            } else {
                br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#.to_vec()
            })
        };
        let items = select(&listing, "a/b@main", &mut read)?;
        Ok(items
            .into_iter()
            .map(|item| (item.remote, item.local))
            .filter(|(remote, _)| !SMALL.contains(&remote.as_str()))
            .collect())
    }

    fn same(name: &str) -> (String, String) {
        (name.to_owned(), name.to_owned())
    }

    #[test]
    fn the_file_without_suffix_is_taken_and_nothing_beside_it() {
        let taken = chosen(&[
            "README.md",
            "pixart.ckpt",
            "text_encoder/model.safetensors",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin",
            "transformer/diffusion_pytorch_model.safetensors",
            "transformer/diffusion_pytorch_model.bin",
            "vae/diffusion_pytorch_model.safetensors",
            "tokenizer/vocab.txt",
            "other/model.safetensors",
        ])
        .unwrap();
        assert_eq!(
            taken,
            [
                same("text_encoder/model.safetensors"),
                same("transformer/diffusion_pytorch_model.safetensors"),
                same("vae/diffusion_pytorch_model.safetensors"),
            ]
        );
    }

    #[test]
    fn an_index_is_preferred_to_a_single_file_as_conversion_does() {
        let taken = chosen(&[
            "text_encoder/model.safetensors",
            "text_encoder/model.safetensors.index.json",
            "text_encoder/m-1.safetensors",
            "text_encoder/m-2.safetensors",
            "text_encoder/m-3.safetensors",
            "transformer/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        ])
        .unwrap();
        assert_eq!(
            taken[..3],
            [
                same("text_encoder/m-1.safetensors"),
                same("text_encoder/m-2.safetensors"),
                same("text_encoder/model.safetensors.index.json"),
            ]
        );
        assert_eq!(taken.len(), 5);
    }

    #[test]
    fn a_variant_that_stands_alone_takes_the_plain_name() {
        let taken = chosen(&[
            "text_encoder/model.safetensors.index.fp16.json",
            "text_encoder/m-1.safetensors",
            "text_encoder/m-2.safetensors",
            "transformer/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.bf16.safetensors",
        ])
        .unwrap();
        let locals: Vec<&str> = taken.iter().map(|(_, local)| local.as_str()).collect();
        assert_eq!(
            locals,
            [
                "text_encoder/m-1.safetensors",
                "text_encoder/m-2.safetensors",
                "text_encoder/model.safetensors.index.json",
                "transformer/diffusion_pytorch_model.safetensors",
                "vae/diffusion_pytorch_model.safetensors",
            ]
        );
    }

    #[test]
    fn a_tiny_autoencoder_alone_is_two_files_and_anything_else_alone_is_none() {
        let chosen = |config: &str| {
            let names = [
                "config.json",
                "diffusion_pytorch_model.safetensors",
                "taesd.pth",
            ];
            let siblings = names.map(|name| serde_json::json!({"rfilename": name}));
            let json = serde_json::json!({"sha": "c", "siblings": siblings}).to_string();
            let listing = Listing::parse(json.as_bytes(), "main").unwrap();
            let mut read = |_: &str| Ok(config.as_bytes().to_vec());
            let items =
                select(&listing, "a/b@main", &mut read).map_err(|error| error.to_string())?;
            Ok::<_, String>(items.into_iter().map(|item| item.local).collect::<Vec<_>>())
        };
        let tiny = r#"{"_class_name": "AutoencoderTiny", "decoder_block_out_channels": [64, 64, 64, 64],
            "num_decoder_blocks": [3, 3, 3, 1], "latent_channels": 4, "out_channels": 3}"#;
        let expected = ["diffusion_pytorch_model.safetensors", "config.json"];
        assert_eq!(chosen(tiny).unwrap(), expected);
        let other = tiny.replace("AutoencoderTiny", "AutoencoderKL");
        assert!(chosen(&other).unwrap_err().contains(MODEL_INDEX));
        let silu = tiny.replace('{', r#"{"act_fn": "silu","#);
        assert!(chosen(&silu).unwrap_err().contains("act_fn"));
    }

    #[test]
    fn a_shard_that_is_listed_nowhere_is_missed_by_name() {
        let error = chosen(&[
            "text_encoder/model.safetensors.index.json",
            "text_encoder/m-1.safetensors",
        ])
        .unwrap_err();
        assert!(
            error.to_string().contains("text_encoder/m-2.safetensors"),
            "{error}"
        );
    }
}
