//! `pixart pull` against a hub of the project's own: what it takes, how it goes on after every kind of failure, what it refuses.

mod binary;
mod cache;
mod checks;
mod converts;
mod failures;
mod home;
mod hub;
mod refuses;
mod takes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pixart::config::{Environment, HubSettings};
use pixart::pull::{Patience, Progress, PullError, PullOptions, Pulled, pull};
use tempfile::TempDir;

use crate::support::checkpoint;
use hub::{Hub, REPOSITORY};

/// A file of 91,880 bytes, with a digest, that things happen to.
const LARGE: &str = "text_encoder/model.safetensors";
/// Everything that comes of the checkpoint.
const TAKEN: [&str; 11] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/special_tokens_map.json",
    "tokenizer/spiece.model",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Short enough for tests, long enough for a machine that has other work.
const IMPATIENT: Patience = Patience {
    connect: Duration::from_secs(20),
    stall: Duration::from_secs(20),
    first_wait: Duration::from_millis(1),
    longest_wait: Duration::from_secs(5),
    attempts: 4,
};

/// A hub with a checkpoint, and a folder to pull it to.
struct Scene {
    hub: Hub,
    folder: TempDir,
    patience: Patience,
    token: &'static str,
    /// More of the environment.
    variables: Vec<(&'static str, String)>,
}

impl Scene {
    fn new() -> Self {
        Self::with(checkpoint("tests/golden/checkpoints/tiny-alpha").path())
    }

    /// With a repository of what lies in `folder`.
    fn with(folder: &Path) -> Self {
        Self {
            hub: Hub::of(folder),
            folder: tempfile::tempdir().unwrap(),
            patience: IMPATIENT,
            token: "",
            variables: Vec::new(),
        }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("checkpoint")
    }

    fn options(&self) -> PullOptions {
        let own = [
            ("HF_ENDPOINT", self.hub.address.clone()),
            ("HF_TOKEN", self.token.to_owned()),
        ];
        let variables = own.into_iter().chain(self.variables.clone());
        let environment =
            Environment::of(variables.map(|(name, value)| (name.into(), value.into())));
        PullOptions {
            repository: REPOSITORY.parse().unwrap(),
            output: self.output(),
            hub: HubSettings::of(&environment).unwrap(),
            patience: self.patience,
            inspected: None,
        }
    }

    fn pull(&self) -> Result<Pulled, PullError> {
        pull(&self.options(), &Watch::default())
    }

    /// Holds that a pull is refused with a message that has every one of `parts`.
    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let error = self.pull().unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "no '{part}' in: {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }

    /// Holds that everything that is needed lies there as the hub has it, and nothing else.
    #[track_caller]
    fn assert_whole(&self) {
        let there = self.files();
        let names: Vec<&str> = there.keys().map(String::as_str).collect();
        assert_eq!(names, TAKEN);
        for (name, bytes) in &there {
            assert!(*bytes == self.hub.file(name), "{name} differs");
        }
    }

    /// Every file of the output but the page that a pull keeps there.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        below(&self.output(), "", &mut files);
        files.remove(".pixart-pull.json");
        files
    }

    /// The partial of a file.
    fn partial(&self, file: &str) -> Option<(PathBuf, u64)> {
        let (name, bytes) = self
            .files()
            .into_iter()
            .find(|(name, _)| name.starts_with(file) && is_partial(name))?;
        Some((self.output().join(name), bytes.len() as u64))
    }
}

/// Whether a file's name says that it is not whole.
fn is_partial(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "part")
}

fn below(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            below(&entry.path(), &format!("{name}/"), files);
        } else {
            // Another run may have moved it meanwhile.
            let bytes = fs::read(entry.path()).unwrap_or_default();
            files.insert(name, bytes);
        }
    }
}

/// Waits for what another thread or process does, and not for ever.
#[track_caller]
fn until(happened: impl Fn() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::yield_now();
    }
}

/// Counts, and stops where a test says so.
#[derive(Default)]
struct Watch {
    stop_after: Option<u64>,
    total: AtomicU64,
    already: AtomicU64,
    came: AtomicU64,
    lost: AtomicU64,
    waited: AtomicBool,
    waits: Mutex<Vec<Duration>>,
}

impl Progress for Watch {
    fn waiting(&self, _folder: &Path) {
        self.waited.store(true, Ordering::SeqCst);
    }

    fn begin(&self, bytes: u64) {
        self.total.store(bytes, Ordering::SeqCst);
    }

    fn already(&self, bytes: u64) {
        self.already.fetch_add(bytes, Ordering::SeqCst);
    }

    fn advance(&self, bytes: u64) {
        self.came.fetch_add(bytes, Ordering::SeqCst);
    }

    fn lost(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::SeqCst);
    }

    fn again(&self, _what: &str, _why: &str, wait: Duration) {
        self.waits.lock().unwrap().push(wait);
    }

    fn cancelled(&self) -> bool {
        self.stop_after
            .is_some_and(|bytes| self.came.load(Ordering::SeqCst) >= bytes)
    }
}
