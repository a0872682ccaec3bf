//! Outputs that are links or cannot be replaced as a whole, and checkpoints that only their content tells apart.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pixart::convert::{ConvertError, ConvertOptions, convert};
use pixart::model::{ModelDirectory, WeightsFormat};

use super::output::Notes;
use super::{Attempt, TRANSFORMER, contents};
use crate::support::{Silent, names_in, runtime};

fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Gives every file below `folder` one time, as reproducible images and archives do.
fn set_times(folder: &Path) {
    for (name, _) in contents(folder) {
        let file = fs::File::options()
            .append(true)
            .open(folder.join(name))
            .unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
}

/// Halves the values of a component, as another fine-tune of the same model has other ones.
fn change_values(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    for value in bytes[8 + header..].chunks_exact_mut(4) {
        let number = f32::from_le_bytes(value.try_into().unwrap());
        value.copy_from_slice(&(number / 2.0).to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

// Which weights ---------------------------------------------------------------------------------------------------

#[test]
fn checkpoints_of_equal_lengths_and_times_are_told_apart() {
    let (one, other) = (Attempt::new(), Attempt::new());
    change_values(&other.file(TRANSFORMER));
    set_times(one.source.path());
    set_times(other.source.path());
    one.converted();
    let options = ConvertOptions {
        output: one.output(),
        ..other.options()
    };
    let over = convert(&options, &mut runtime(), &Silent).unwrap();
    assert_eq!(over.manifest().files, other.converted().files);
    ModelDirectory::open(&one.output()).unwrap();
}

#[test]
fn a_file_that_was_written_over_with_its_time_set_back_is_made_again() {
    let attempt = Attempt::new();
    set_times(attempt.source.path());
    attempt.converted();
    change_values(&attempt.file(TRANSFORMER));
    set_times(attempt.source.path());
    let over = attempt.converted();
    fs::remove_dir_all(attempt.output()).unwrap();
    assert_eq!(over.files, attempt.converted().files);
}

#[test]
fn a_copy_of_the_same_checkpoint_leaves_the_models_files_where_they_lie() {
    let one = Attempt::new();
    // Called the same, as on another machine.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere
        .path()
        .join(one.source.path().file_name().unwrap());
    for (name, bytes) in contents(one.source.path()) {
        let path = copy.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let first = one.converted();
    let before = [".", "transformer.bin"].map(|name| inode(one.output().join(name)));
    let options = ConvertOptions {
        source: copy,
        ..one.options()
    };
    let second = convert(&options, &mut runtime(), &Silent).unwrap();
    assert_eq!(second.manifest().files, first.files);
    let after = [".", "transformer.bin"].map(|name| inode(one.output().join(name)));
    assert_eq!(after, before, "someone may be reading it");
    let notes = Notes::default();
    convert(&options, &mut runtime(), &notes).unwrap();
    assert!(notes.made().is_empty(), "it is known by its new files now");
}

// Links -----------------------------------------------------------------------------------------------------------

#[test]
fn a_link_stays_one_and_what_it_leads_to_is_the_model() {
    let attempt = Attempt::new();
    let plain = attempt.converted();
    fs::remove_dir_all(attempt.output()).unwrap();
    let disk = attempt.outputs.path().join("disk");

    // To nothing, to an empty folder, to a model.
    symlink("disk/model", attempt.output()).unwrap();
    assert_eq!(attempt.converted().files, plain.files);
    fs::remove_dir_all(disk.join("model")).unwrap();
    fs::create_dir(disk.join("model")).unwrap();
    assert_eq!(attempt.converted().files, plain.files);
    let mut attempt = attempt;
    attempt.weights.transformer = WeightsFormat::Int8;
    attempt.converted();
    assert!(attempt.output().is_symlink());
    assert_eq!(names_in(&disk), ["model"]);
    assert_eq!(names_in(attempt.outputs.path()), ["disk", "model"]);
    ModelDirectory::open(&attempt.output()).unwrap();
}

#[test]
fn a_link_to_itself_is_refused() {
    let attempt = Attempt::new();
    symlink("model", attempt.output()).unwrap();
    let error = attempt.watched(&Silent).unwrap_err();
    assert!(matches!(error, ConvertError::Write { .. }), "{error}");
}

// Folders that are filled -----------------------------------------------------------------------------------------

/// An output that is filled, as a mount point is: with what ext4 has at the top of a disk.
fn disk() -> Attempt {
    let attempt = Attempt::new();
    fs::create_dir_all(attempt.output().join("lost+found")).unwrap();
    attempt
}

fn own(attempt: &Attempt) -> PathBuf {
    attempt.output().join(".pixart.partial-old")
}

#[test]
fn a_folder_that_stays_is_filled_and_filled_again() {
    let plain = Attempt::new().converted();
    let mut attempt = disk();
    let before = inode(attempt.output());
    assert_eq!(attempt.converted().files, plain.files);
    let files = [
        "lost+found",
        "manifest.json",
        "scheduler",
        "text_encoder.bin",
        "text_encoder.xml",
        "tokenizer",
        "transformer.bin",
        "transformer.xml",
        "vae_decoder.bin",
        "vae_decoder.xml",
    ];
    assert_eq!(names_in(&attempt.output()), files);

    // Nothing is made twice, and a model that is served keeps what it was read from.
    let notes = Notes::default();
    attempt.watched(&notes).unwrap();
    assert!(notes.made().is_empty());
    let variant = attempt.output().join("variants/small/manifest.json");
    fs::create_dir_all(variant.parent().unwrap()).unwrap();
    fs::write(&variant, "a variant's").unwrap();
    let served = ModelDirectory::open(&attempt.output()).unwrap();
    attempt.weights.transformer = WeightsFormat::Int8;
    let made = attempt.converted();
    assert_ne!(
        made.files["transformer.bin"],
        plain.files["transformer.bin"]
    );
    served.held().check().unwrap();
    ModelDirectory::open(&attempt.output()).unwrap();
    assert!(variant.exists());
    assert_eq!(inode(attempt.output()), before);
}

#[test]
fn a_folder_that_is_filled_and_has_something_else_in_it_is_left_as_it_is() {
    let attempt = disk();
    fs::write(attempt.output().join("letter.txt"), "dear").unwrap();
    let error = attempt.watched(&Silent).unwrap_err();
    assert!(
        matches!(error, ConvertError::OutputInTheWay { .. }),
        "{error}"
    );
    assert_eq!(names_in(&attempt.output()), ["letter.txt", "lost+found"]);
}

#[test]
fn a_filling_that_is_stopped_leaves_the_folder_as_it_was() {
    let attempt = disk();
    let stops = Notes::stopping_after(1);
    attempt.watched(&stops).unwrap_err();
    assert_eq!(names_in(&attempt.output()), ["lost+found"]);
    attempt.converted();
    let before = contents(&attempt.output());
    change_values(&attempt.file(TRANSFORMER));
    attempt.watched(&Notes::stopping_after(1)).unwrap_err();
    assert!(contents(&attempt.output()) == before);
}

#[test]
fn a_filling_killed_in_the_middle_is_no_model_and_the_next_loses_nothing() {
    let attempt = disk();
    attempt.converted();
    let before = contents(&attempt.output());
    // The old model has begun to go: its manifest first.
    fs::create_dir(own(&attempt)).unwrap();
    for name in ["manifest.json", "transformer.bin"] {
        fs::rename(attempt.output().join(name), own(&attempt).join(name)).unwrap();
    }
    fs::write(attempt.output().join("transformer.bin"), "the new one's").unwrap();
    fs::write(attempt.output().join("tiny_vae_decoder.bin"), "too").unwrap();
    ModelDirectory::open(&attempt.output()).unwrap_err();
    let notes = Notes::default();
    attempt.watched(&notes).unwrap();
    assert!(notes.made().is_empty());
    assert!(contents(&attempt.output()) == before);

    // The new one was whole, and the old one not yet removed.
    fs::create_dir(own(&attempt)).unwrap();
    fs::write(own(&attempt).join("manifest.json"), "{}").unwrap();
    attempt.converted();
    assert!(contents(&attempt.output()) == before);
}
