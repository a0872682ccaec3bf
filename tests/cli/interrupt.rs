//! Ctrl-C: within a step, with its own exit code, and with nothing half-drawn; elsewhere at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pixart::model::WeightsFormat;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::Desk;
use crate::support::{checkpoint, convert_to, decode_png, names_in, project};

/// Far longer than a step takes, far shorter than what is interrupted.
const AT_ONCE: Duration = Duration::from_secs(10);

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends the signal of Ctrl-C.
fn send(child: &Child) {
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(told.success());
}

/// Sends the signal of Ctrl-C and holds that the run ends with its code, at once, and with these last words.
fn interrupt(child: Child, words: &str) {
    let sent = Instant::now();
    send(&child);
    ended(child, words);
    assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
}

fn ended(mut child: Child, words: &str) {
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert_eq!(said, words);
}

const CANCELLED: &str = "pixart: cancelled\n";

/// Starts a run whose stdout takes nothing more, and waits until it waits for that. It does as long as the returned end lives.
fn spawn_writing(command: &mut Command) -> (Child, PipeReader) {
    let (reader, mut writer) = io::pipe().unwrap();
    // How much a pipe takes is the system's affair.
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[0; 512]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    let mut child = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let call = format!("/proc/{}/syscall", child.id());
    loop {
        // The number of the call and its arguments, the first of which is the descriptor.
        let waits_in = fs::read_to_string(&call).unwrap_or_default();
        if waits_in.split(' ').nth(1) == Some("0x1") {
            return (child, reader);
        }
        assert!(child.try_wait().unwrap().is_none(), "it wrote nothing");
        std::thread::yield_now();
    }
}

#[test]
fn ctrl_c_stops_a_picture_in_the_middle_and_leaves_no_file() {
    let desk = Desk::new();
    // Some 5 s a picture: the first tells that the second has begun.
    let mut child = spawn(&mut desk.pixart(&[
        "generate",
        "a rocket",
        "--count",
        "2",
        "--size",
        "512x512",
        "--scheduler",
        "dpmsolver++",
        "--steps",
        "20",
        "--seed",
        "1",
        "--output",
        "a.png",
    ]));
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    interrupt(child, CANCELLED);
    assert_eq!(desk.names(), ["a-0.png"]);
}

#[test]
fn ctrl_c_ends_what_looks_at_nothing_at_once() {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    // What was made is named when there is nothing more to stop.
    let (child, _reader) = spawn_writing(
        desk.pixart(&["convert", "--output", "model"])
            .arg(source.path()),
    );
    interrupt(child, "");
    assert_eq!(desk.names(), ["model"]);
}

#[test]
fn a_second_ctrl_c_ends_what_does_not_heed_the_first() {
    let desk = Desk::new();
    // An image is named as soon as it is whole, and the next one is to come.
    let (mut child, _reader) = spawn_writing(&mut desk.pixart(&[
        "generate", "a rocket", "--count", "2", "--seed", "1", "--output", "a.png",
    ]));
    // Two that come at the same time may be one.
    while child.try_wait().unwrap().is_none() {
        send(&child);
    }
    ended(child, "");
}

#[test]
fn a_conversion_that_waits_for_another_tells_so_and_heeds_ctrl_c() {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let lock = File::open(desk.0.path()).unwrap();
    lock.lock().unwrap();
    let mut child = spawn(
        desk.pixart(&["convert", "--output", "model"])
            .arg(source.path()),
    );
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    assert!(told.contains("another conversion"), "{told}");
    let sent = Instant::now();
    send(&child);
    let mut words = String::new();
    stderr.read_to_string(&mut words).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{words}");
    assert!(
        words.contains("nothing was left behind") && !words.contains("another conversion"),
        "{words}"
    );
    assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn a_series_that_is_stopped_tells_programs_of_the_pictures_that_are_whole() {
    let desk = Desk::new();
    let mut child = spawn(&mut desk.pixart(&[
        "generate", "a rocket", "--count", "1000", "--seed", "1", "--output", "a.png", "--json",
    ]));
    while !desk.path("a-1.png").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it drew nothing");
        std::thread::yield_now();
    }
    let mut stdout = child.stdout.take().unwrap();
    interrupt(child, CANCELLED);
    let mut told = String::new();
    stdout.read_to_string(&mut told).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let paths: BTreeSet<&str> = told["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["path"].as_str().unwrap())
        .collect();
    let names = desk.names();
    assert_eq!(paths, names.iter().map(String::as_str).collect());
}

#[test]
fn ctrl_c_in_a_series_keeps_the_pictures_that_are_whole() {
    let desk = Desk::new();
    let mut child = spawn(&mut desk.pixart(&[
        "generate", "a rocket", "--count", "1000", "--seed", "1", "--output", "a.png",
    ]));
    let mut first = String::new();
    // Held until the end: a closed pipe would stop the run in another way.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, "a-0.png\n");
    interrupt(child, CANCELLED);
    let names = desk.names();
    assert!((1..1000).contains(&names.len()), "{}", names.len());
    for name in names {
        assert!(name.starts_with("a-"), "{name}");
        decode_png(&desk.read(&name));
    }
}

#[test]
fn ctrl_c_in_a_calibration_keeps_what_it_has_seen_and_nothing_else() {
    let desk = Desk::new();
    convert_to(
        &project("models/sketchbook"),
        &desk.path("f16"),
        WeightsFormat::F16,
    );
    fs::create_dir(desk.path("tmp")).unwrap();
    let words = ["quantize", "f16", "--output", "int8", "--quiet"];
    let calibration = ["--samples", "100000", "--statistics", "seen.json"];
    let mut child = spawn(
        desk.pixart(&words)
            .args(calibration)
            .env("TMPDIR", desk.path("tmp")),
    );
    let samples = || -> Option<u64> {
        let seen: serde_json::Value =
            serde_json::from_slice(&fs::read(desk.path("seen.json")).ok()?).ok()?;
        seen["statistics"]["samples"].as_u64()
    };
    while samples().is_none_or(|samples| samples == 0) {
        assert!(child.try_wait().unwrap().is_none(), "it drew nothing");
        std::thread::yield_now();
    }
    interrupt(
        child,
        "pixart: stopped before the model was whole; what calibration has seen is kept where --statistics names a file, and \
         nothing else was left behind\n",
    );
    assert!(samples().unwrap() >= 4);
    assert_eq!(desk.names(), ["f16", "seen.json", "tmp"]);
    assert_eq!(names_in(&desk.path("tmp")), [""; 0]);
}
