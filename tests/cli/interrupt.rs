//! Ctrl-C: within a step, with its own exit code, and with nothing half-drawn.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Desk;
use crate::support::decode_png;

/// Far longer than a step takes, far shorter than what is interrupted.
const AT_ONCE: Duration = Duration::from_secs(10);

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends the signal of Ctrl-C and holds that the run ends with its code, at once.
fn interrupt(mut child: Child) {
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
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert_eq!(said, "pixart: cancelled\n");
    assert!(sent.elapsed() < AT_ONCE, "{:?}", sent.elapsed());
}

#[test]
fn ctrl_c_stops_a_picture_in_the_middle_and_leaves_no_file() {
    let desk = Desk::new();
    // Some 40 s of drawing.
    let child = spawn(&mut desk.pixart(&[
        "generate",
        "a rocket",
        "--size",
        "512x512",
        "--scheduler",
        "dpmsolver++",
        "--steps",
        "200",
        "--seed",
        "1",
    ]));
    // The last network that is loaded is mapped into memory just before the drawing starts.
    let maps = format!("/proc/{}/maps", child.id());
    while !fs::read_to_string(&maps)
        .expect("the run is still there")
        .contains("vae_decoder.bin")
    {
        std::thread::yield_now();
    }
    interrupt(child);
    assert_eq!(desk.names(), [""; 0]);
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
    interrupt(child);
    let names = desk.names();
    assert!((1..1000).contains(&names.len()), "{}", names.len());
    for name in names {
        assert!(name.starts_with("a-"), "{name}");
        decode_png(&desk.read(&name));
    }
}
