//! `pixart pull` as people run it: what it says, how it ends, Ctrl-C, and being killed at any moment.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::hub::{COMMIT, Hub, REPOSITORY, Trick};
use super::{LARGE, Scene, is_partial};
use crate::support::{outcome, pixart, project};

impl Scene {
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = pixart();
        command
            .current_dir(self.folder.path())
            .env("HF_ENDPOINT", &self.hub.address)
            .env("HF_TOKEN", "hf_hush")
            .args(["pull", "--output", "checkpoint"])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Waits until something has come of [`LARGE`] and no more will.
    fn wait_for_partial(&self, child: &mut Child, bytes: u64) {
        while self.partial(LARGE).is_none_or(|(_, there)| there < bytes) {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            std::thread::yield_now();
        }
    }
}

#[test]
fn it_says_what_came_and_what_to_do_with_it() {
    let scene = Scene::new();
    let done = outcome(&mut scene.command(&[REPOSITORY])).done();
    for part in [
        "checkpoint: ",
        "11 files",
        COMMIT,
        "pixart convert checkpoint",
    ] {
        assert!(done.stdout.contains(part), "{}", done.stdout);
    }
    assert_eq!(done.stderr, "");
    scene.assert_whole();
}

#[test]
fn a_tiny_autoencoder_alone_comes_as_it_is_and_is_no_model() {
    let scene = Scene::with(&project("models/sketchbook/tiny_vae"));
    let done = outcome(&mut scene.command(&[REPOSITORY])).done();
    for part in ["2 files", "give it to a model: pixart convert checkpoint"] {
        assert!(done.stdout.contains(part), "{}", done.stdout);
    }
    let scene = Scene::with(&project("models/sketchbook/tiny_vae"));
    let words = [REPOSITORY, "--convert"];
    outcome(&mut scene.command(&words))
        .refused(3, &["tiny autoencoder alone", "without --convert"]);
}

#[test]
fn a_retry_is_told_unless_it_is_to_be_quiet_and_the_token_never_is() {
    for (words, told) in [(&[REPOSITORY][..], true), (&[REPOSITORY, "-q"], false)] {
        let scene = Scene::new();
        let headers = vec![("retry-after", "0".to_owned())];
        scene
            .hub
            .trick(&Hub::listing_path(), [Trick::Status(429, headers)]);
        let done = outcome(&mut scene.command(words)).done();
        assert_eq!(done.stderr.contains("429"), told, "{}", done.stderr);
        assert!(!done.stderr.contains("hush") && !done.stdout.contains("hush"));
        assert_eq!(scene.hub.requests()[0].token(), Some("Bearer hf_hush"));
    }
}

#[test]
fn each_kind_of_failure_has_its_code() {
    let scene = Scene::new();
    outcome(&mut scene.command(&["a/b/c"])).refused(2, &["a/b/c", "OWNER/NAME"]);
    outcome(
        scene
            .command(&[REPOSITORY])
            .env("HF_ENDPOINT", "hub.example"),
    )
    .refused(2, &["HF_ENDPOINT", "https://"]);
    outcome(&mut scene.command(&["someone/else"])).refused(3, &["someone/else@main"]);
    let headers = vec![("retry-after", "3600".to_owned())];
    scene
        .hub
        .trick(&Hub::listing_path(), [Trick::Status(429, headers)]);
    outcome(&mut scene.command(&[REPOSITORY])).refused(7, &["3600"]);
    assert!(!scene.output().exists(), "nothing has come");
    fs::write(scene.output(), "").unwrap();
    outcome(&mut scene.command(&[REPOSITORY])).refused(5, &["checkpoint"]);
}

#[test]
fn ctrl_c_stops_a_transfer_at_once_and_the_same_command_goes_on() {
    let scene = Scene::new();
    scene.hub.trick(&Hub::path(LARGE), [Trick::Stall(50_000)]);
    let mut child = scene.command(&[REPOSITORY]).spawn().unwrap();
    scene.wait_for_partial(&mut child, 50_000);
    let sent = Instant::now();
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    // A third of what a stalled transfer is waited for.
    assert!(sent.elapsed() < Duration::from_secs(10));
    assert_eq!(
        said,
        "pixart: stopped: what has come is kept, the same command goes on from there\n"
    );
    outcome(&mut scene.command(&[REPOSITORY])).done();
    scene.assert_whole();
    assert_eq!(
        scene.hub.requests_for(LARGE)[1].range(),
        Some("bytes=50000-")
    );
}

#[test]
fn killed_at_any_moment_the_same_command_ends_whole() {
    let scene = Scene::new();
    let mut killed = 0;
    for requests in 1..=14 {
        // By what has been asked for, a moment further with each run; then the rest of a second.
        let before = scene.hub.requests().len();
        scene.hub.trick(
            &Hub::path(LARGE),
            [Trick::Slow(9_000, Duration::from_millis(5))],
        );
        let mut child = scene.command(&[REPOSITORY]).spawn().unwrap();
        while scene.hub.requests().len() < before + requests && child.try_wait().unwrap().is_none()
        {
            std::thread::yield_now();
        }
        killed += usize::from(child.try_wait().unwrap().is_none());
        // One that has ended takes no signal.
        let _ = child.kill();
        child.wait().unwrap();
        for (name, bytes) in scene.files() {
            if !is_partial(&name) {
                assert!(bytes == scene.hub.file(&name), "{name}");
            }
        }
    }
    assert!(killed > 3, "{killed}");
    outcome(&mut scene.command(&[REPOSITORY])).done();
    scene.assert_whole();
}
