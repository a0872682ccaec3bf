//! What goes wrong on the way and is mended: cut, slow and stalled connections, busy hubs, wrong ranges, partials.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pixart::pull::{PullError, pull};
use proptest::prelude::*;

use super::hub::{Hub, Trick};
use super::{LARGE, Scene, Watch, is_partial};

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let scene = Scene::new();
    scene
        .hub
        .trick(&Hub::path(LARGE), [Trick::Cut(50_000), Trick::Cut(20_000)]);
    let watch = Watch::default();
    let pulled = pull(&scene.options(), &watch).unwrap();
    scene.assert_whole();
    let ranges: Vec<Option<String>> = scene
        .hub
        .requests_for(LARGE)
        .iter()
        .map(|request| request.range().map(str::to_owned))
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=50000-".to_owned()),
            Some("bytes=70000-".to_owned())
        ]
    );
    assert_eq!(
        watch.came.load(Ordering::SeqCst),
        pulled.bytes,
        "nothing came twice"
    );
}

#[test]
fn more_cuts_than_attempts_are_no_failure_while_something_comes() {
    let scene = Scene::new();
    scene
        .hub
        .trick(&Hub::path(LARGE), (0..20).map(|_| Trick::Cut(4_000)));
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_hub_that_ignores_ranges_sends_the_file_from_its_beginning() {
    let scene = Scene::new();
    scene
        .hub
        .trick(&Hub::path(LARGE), [Trick::Cut(50_000), Trick::IgnoreRange]);
    let watch = Watch::default();
    pull(&scene.options(), &watch).unwrap();
    scene.assert_whole();
    assert_eq!(watch.lost.load(Ordering::SeqCst), 50_000);
}

#[test]
fn another_range_than_was_asked_for_is_not_appended() {
    let scene = Scene::new();
    scene
        .hub
        .trick(&Hub::path(LARGE), [Trick::Cut(50_000), Trick::OtherRange]);
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_stalled_transfer_is_given_up_and_goes_on() {
    let mut scene = Scene::new();
    scene.patience.stall = Duration::from_millis(500);
    scene.hub.trick(&Hub::path(LARGE), [Trick::Stall(50_000)]);
    scene.pull().unwrap();
    scene.assert_whole();
    assert_eq!(
        scene.hub.requests_for(LARGE)[1].range(),
        Some("bytes=50000-")
    );
}

#[test]
fn a_slow_transfer_is_not_a_stalled_one() {
    let mut scene = Scene::new();
    scene.patience.stall = Duration::from_secs(2);
    // 3 s altogether, and never 2 s without a byte.
    scene.hub.trick(
        &Hub::path(LARGE),
        [Trick::Slow(3_100, Duration::from_millis(100))],
    );
    let begin = Instant::now();
    scene.pull().unwrap();
    assert!(begin.elapsed() > Duration::from_secs(2));
    scene.assert_whole();
    assert_eq!(scene.hub.requests_for(LARGE).len(), 1);
}

#[test]
fn a_hub_that_is_busy_is_asked_again_when_it_says() {
    let scene = Scene::new();
    let after = |seconds: &str| vec![("retry-after", seconds.to_owned())];
    scene
        .hub
        .trick(&Hub::listing_path(), [Trick::Status(429, after("1"))]);
    scene
        .hub
        .trick(&Hub::path(LARGE), [Trick::Status(503, after("2"))]);
    let watch = Watch::default();
    let begin = Instant::now();
    pull(&scene.options(), &watch).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(3));
    let waits = watch.waits.lock().unwrap().clone();
    assert_eq!(waits, [Duration::from_secs(1), Duration::from_secs(2)]);
    scene.assert_whole();
}

#[test]
fn waits_double_while_nothing_comes() {
    let mut scene = Scene::new();
    scene.patience.first_wait = Duration::from_millis(20);
    scene.hub.trick(
        &Hub::listing_path(),
        (0..3).map(|_| Trick::Status(502, Vec::new())),
    );
    let watch = Watch::default();
    pull(&scene.options(), &watch).unwrap();
    let waits: Vec<u128> = watch
        .waits
        .lock()
        .unwrap()
        .iter()
        .map(Duration::as_millis)
        .collect();
    assert_eq!(waits, [20, 40, 80]);
}

#[test]
fn a_storage_whose_signature_ran_out_is_asked_with_a_new_one() {
    let scene = Scene::new();
    let storage = Hub::of(scene.folder.path());
    storage.put(LARGE, &scene.hub.file(LARGE));
    let there = format!("{}/storage/{LARGE}?signature=old", storage.address);
    storage.trick(
        &format!("/storage/{LARGE}"),
        [Trick::Status(403, Vec::new())],
    );
    scene.hub.trick(
        &Hub::path(LARGE),
        [Trick::Redirect(there.clone()), Trick::Redirect(there)],
    );
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_partial_whose_bytes_are_wrong_comes_again_from_the_beginning() {
    let scene = Scene::new();
    scene.hub.trick(
        &Hub::path(LARGE),
        [Trick::Cut(50_000)]
            .into_iter()
            .chain((0..4).map(|_| Trick::Status(500, Vec::new()))),
    );
    scene.refused(&[LARGE]);
    let (partial, bytes) = scene.partial(LARGE).unwrap();
    assert_eq!(bytes, 50_000);
    fs::write(&partial, vec![7; 50_000]).unwrap();
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_partial_that_is_longer_than_the_file_comes_again() {
    let scene = Scene::new();
    scene.hub.trick(
        &Hub::path(LARGE),
        [Trick::Cut(50_000)]
            .into_iter()
            .chain((0..4).map(|_| Trick::Status(500, Vec::new()))),
    );
    scene.refused(&[LARGE]);
    let (partial, _) = scene.partial(LARGE).unwrap();
    fs::write(&partial, vec![7; 500_000]).unwrap();
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_run_that_was_stopped_keeps_what_has_come_and_the_next_goes_on() {
    let scene = Scene::new();
    scene.hub.trick(&Hub::path(LARGE), [Trick::Stall(50_000)]);
    let watch = Watch {
        stop_after: Some(50_000),
        ..Watch::default()
    };
    let begin = Instant::now();
    let error = pull(&scene.options(), &watch).unwrap_err();
    assert!(matches!(error, PullError::Cancelled), "{error}");
    assert!(
        begin.elapsed() < scene.patience.stall,
        "blocked reads are woken"
    );
    assert!(!scene.output().join("model_index.json").exists());
    scene.pull().unwrap();
    scene.assert_whole();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn stopped_at_any_byte_the_same_command_ends_whole(
        stops in prop::collection::vec(1_u64..700_000, 1..4),
        cuts in prop::collection::vec(0_usize..90_000, 0..3),
    ) {
        let scene = Scene::new();
        scene.hub.trick(&Hub::path(LARGE), cuts.into_iter().map(Trick::Cut));
        for stop in stops {
            let watch = Watch { stop_after: Some(stop), ..Watch::default() };
            match pull(&scene.options(), &watch) {
                Ok(_) => {}
                Err(error) => prop_assert!(matches!(error, PullError::Cancelled), "{}", error),
            }
            // What has its own name is whole at every moment.
            for (name, bytes) in scene.files() {
                if !is_partial(&name) {
                    prop_assert!(bytes == scene.hub.file(&name), "{}", name);
                }
            }
        }
        scene.pull().unwrap();
        scene.assert_whole();
    }
}
