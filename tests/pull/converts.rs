//! `pixart pull --convert`: the model that pulling and converting give, one component's weights on the disk at a time, and
//! nothing fetched or made twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pixart::app::pulled::{Conversion, Watches, pull_and_convert};
use pixart::convert::ComponentWeights;
use pixart::model::{ModelDirectory, WeightsFormat};
use pixart::pull;

use super::hub::{COMMIT, Hub, REPOSITORY, Trick};
use super::{LARGE, Scene, Watch, below};
use crate::support::{Silent, checkpoint, convert_to, names_in, outcome, runtime};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const WEIGHTS: [&str; 3] = [LARGE, TRANSFORMER, VAE];

impl Scene {
    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn converts(&self, watch: &dyn pull::Progress) -> anyhow::Result<ModelDirectory> {
        self.converts_to(WeightsFormat::F16, watch)
    }

    fn converts_to(
        &self,
        weights: WeightsFormat,
        watch: &dyn pull::Progress,
    ) -> anyhow::Result<ModelDirectory> {
        let mut options = self.options();
        options.output = self.model();
        let conversion = Conversion {
            name: None,
            weights: ComponentWeights::all(weights),
        };
        let watches = Watches {
            pull: watch,
            convert: &Silent,
        };
        let (_, model) = pull_and_convert(&options, &conversion, &mut runtime(), watches)?;
        Ok(model)
    }

    /// Holds that there is the model and nothing else, and that it is what converting the checkpoint gives.
    #[track_caller]
    fn assert_model(&self) {
        assert_eq!(names_in(self.folder.path()), ["model"]);
        let made = ModelDirectory::open(&self.model()).unwrap();
        let aside = tempfile::tempdir().unwrap();
        let expected = aside.path().join("model");
        let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
        convert_to(source.path(), &expected, WeightsFormat::F16);
        let expected = ModelDirectory::open(&expected).unwrap();
        assert_eq!(made.manifest().files, expected.manifest().files);
        assert_eq!(made.manifest().name, "tiny");
        assert_eq!(made.manifest().source, format!("{REPOSITORY}@{COMMIT}"));
    }

    fn requests_for_weights(&self) -> [usize; 3] {
        WEIGHTS.map(|file| self.hub.requests_for(file).len())
    }
}

/// Looks at the disk whenever something has come.
struct Disk {
    folder: PathBuf,
    most: AtomicU64,
    /// Components whose weights were seen together.
    together: Mutex<BTreeSet<Vec<String>>>,
}

impl pull::Progress for Disk {
    fn begin(&self, _bytes: u64) {}
    fn already(&self, _bytes: u64) {}

    fn advance(&self, _bytes: u64) {
        let mut files = std::collections::BTreeMap::new();
        below(&self.folder, "", &mut files);
        let bytes: usize = files.values().map(Vec::len).sum();
        self.most.fetch_max(bytes as u64, Ordering::SeqCst);
        let components = WEIGHTS.map(|file| file.split_once('/').unwrap().0);
        let there = components.into_iter().filter(|component| {
            let weights = format!("/{component}/");
            files
                .keys()
                .any(|name| name.contains(&weights) && name.contains(".safetensors"))
        });
        let there: Vec<String> = there.map(str::to_owned).collect();
        self.together.lock().unwrap().insert(there);
    }

    fn lost(&self, _bytes: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn the_model_is_what_pulling_and_converting_give_and_says_where_it_is_from() {
    let scene = Scene::new();
    let watch = Watch::default();
    scene.converts(&watch).unwrap();
    scene.assert_model();
    assert_eq!(
        watch.came.load(Ordering::SeqCst),
        watch.total.load(Ordering::SeqCst)
    );
}

#[test]
fn the_disk_holds_the_weights_of_one_component_at_a_time() {
    let scene = Scene::new();
    for file in WEIGHTS {
        let slow = Trick::Slow(10_000, Duration::from_millis(1));
        scene.hub.trick(&Hub::path(file), [slow]);
    }
    let disk = Disk {
        folder: scene.folder.path().to_owned(),
        most: AtomicU64::new(0),
        together: Mutex::default(),
    };
    scene.converts(&disk).unwrap();
    scene.assert_model();
    let seen = disk.together.into_inner().unwrap();
    for component in ["text_encoder", "transformer", "vae"] {
        assert!(seen.contains(&vec![component.to_owned()]), "{seen:?}");
    }
    assert!(seen.iter().all(|together| together.len() <= 1), "{seen:?}");
    let model = ModelDirectory::open(&scene.model()).unwrap();
    let ir: u64 = model.manifest().files.values().map(|file| file.bytes).sum();
    let shards = WEIGHTS.map(|file| scene.hub.file(file).len() as u64);
    // Beside the IR and the shards: notes, pages, configurations and the tokenizer.
    let small = 128 << 10;
    let bound = ir + shards.iter().max().unwrap() + small;
    let most = disk.most.into_inner();
    assert!(most <= bound, "{most} bytes of at most {bound}");
}

#[test]
fn what_is_converted_is_never_fetched_again() {
    let scene = Scene::new();
    let failures = || (0..4).map(|_| Trick::Status(500, Vec::new()));
    scene.hub.trick(&Hub::path(TRANSFORMER), failures());
    let error = scene.converts(&Watch::default()).unwrap_err();
    assert!(error.to_string().contains(TRANSFORMER), "{error}");
    assert!(!scene.model().exists());
    scene.hub.trick(&Hub::path(VAE), failures());
    let error = scene.converts(&Watch::default()).unwrap_err();
    assert!(error.to_string().contains(VAE), "{error}");
    scene.converts(&Watch::default()).unwrap();
    scene.assert_model();
    assert_eq!(scene.requests_for_weights(), [1, 5, 5]);
    // Nor of a model that is there.
    scene.converts(&Watch::default()).unwrap();
    scene.assert_model();
    assert_eq!(scene.requests_for_weights(), [1, 5, 5]);
}

#[test]
fn other_formats_and_damaged_files_are_made_anew() {
    let scene = Scene::new();
    scene
        .converts_to(WeightsFormat::F32, &Watch::default())
        .unwrap();
    scene.converts(&Watch::default()).unwrap();
    scene.assert_model();
    assert_eq!(scene.requests_for_weights(), [2, 2, 2]);
    let bin = scene.model().join("vae_decoder.bin");
    let mut bytes = fs::read(&bin).unwrap();
    bytes[0] ^= 1;
    fs::write(&bin, bytes).unwrap();
    scene.converts(&Watch::default()).unwrap();
    scene.assert_model();
    assert_eq!(scene.requests_for_weights(), [2, 2, 3]);
}

#[test]
fn one_that_is_stopped_anywhere_ends_whole_with_the_same_command() {
    let scene = Scene::new();
    let mut stopped = 0;
    loop {
        let watch = Watch {
            stop_after: Some(20_000),
            ..Watch::default()
        };
        match scene.converts(&watch) {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("same command"), "{error}"),
        }
        assert!(!scene.model().exists());
        stopped += 1;
        assert!(stopped < 100);
    }
    assert!(stopped > 2, "{stopped}");
    scene.assert_model();
}

/// As a mount point is, with what ext4 has at the top of a disk.
#[test]
fn a_folder_that_stays_is_filled_and_holds_what_is_on_its_way() {
    let scene = Scene::new();
    let found = scene.model().join("lost+found");
    fs::create_dir_all(&found).unwrap();
    scene
        .hub
        .trick(&Hub::path(VAE), [Trick::Status(404, Vec::new())]);
    scene.converts(&Watch::default()).unwrap_err();
    assert_eq!(names_in(scene.folder.path()), ["model"]);
    assert_eq!(names_in(&scene.model()), [".pixart.pulled", "lost+found"]);
    scene.converts(&Watch::default()).unwrap();
    assert_eq!(scene.requests_for_weights()[0], 1, "fetched once");
    fs::remove_dir(found).unwrap();
    scene.assert_model();
}

#[test]
fn a_place_with_something_else_in_it_is_told_before_the_hub_is_asked() {
    let scene = Scene::new();
    fs::create_dir(scene.model()).unwrap();
    fs::write(scene.model().join("mine.txt"), "mine").unwrap();
    let error = scene.converts(&Watch::default()).unwrap_err().to_string();
    assert!(error.contains("choose another --output"), "{error}");
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn the_command_says_what_was_made_and_wants_no_formats_without_convert() {
    let scene = Scene::new();
    let mut command = scene.command(&[REPOSITORY, "--weights", "int8"]);
    outcome(&mut command).refused(2, &["--weights", "--convert"]);
    assert!(scene.hub.requests().is_empty());
    let mut command = scene.command(&[REPOSITORY, "--convert", "--vae-decoder-weights", "f32"]);
    let done = outcome(&mut command).done();
    for part in ["checkpoint: ", "pixart generate", "--model checkpoint"] {
        assert!(done.stdout.contains(part), "{}", done.stdout);
    }
    let model = ModelDirectory::open(&scene.output()).unwrap();
    assert_eq!(model.manifest().vae_decoder.weights, WeightsFormat::F32);
    assert_eq!(model.manifest().transformer.weights, WeightsFormat::F16);
}

#[test]
fn killed_at_any_moment_the_same_command_ends_whole_with_its_conversion() {
    let scene = Scene::new();
    let mut killed = 0;
    let wait = |millis: u64| std::thread::sleep(Duration::from_millis(millis));
    for requests in 1..=18 {
        let before = scene.hub.requests().len();
        for file in WEIGHTS {
            let slow = Trick::Slow(9_000, Duration::from_millis(2));
            scene.hub.trick(&Hub::path(file), [slow]);
        }
        let mut child = scene
            .command(&[REPOSITORY, "--convert", "--quiet"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while scene.hub.requests().len() < before + requests && child.try_wait().unwrap().is_none()
        {
            std::thread::yield_now();
        }
        // Between requests, too, where it converts.
        wait(requests as u64 * 3);
        killed += usize::from(child.try_wait().unwrap().is_none());
        // One that has ended takes no signal.
        let _ = child.kill();
        child.wait().unwrap();
        assert!(!scene.output().exists() || ModelDirectory::open(&scene.output()).is_ok());
    }
    assert!(killed > 3, "{killed}");
    outcome(&mut scene.command(&[REPOSITORY, "--convert"])).done();
    ModelDirectory::open(Path::new(&scene.output())).unwrap();
    assert_eq!(names_in(scene.folder.path()), ["checkpoint"]);
}
