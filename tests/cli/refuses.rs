//! Requests, settings and outputs that make no sense: one message that names the field and what would do, and a code.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use super::{Desk, json};
use crate::support::{outcome, pixart, small_model};

#[test]
fn requests_that_no_model_can_draw_are_refused_before_anything_is_loaded() {
    let desk = Desk::new();
    let long = "x".repeat(10_000);
    let cases: [(&[&str], &[&str]); 24] = [
        (&[&long], &["prompt has 10000 characters", "4096"]),
        (
            &["a", "--negative-prompt", &long],
            &["negative_prompt has 10000 characters"],
        ),
        (&["a", "--size", "0x0"], &["width is 0 px", "1 to 4096 px"]),
        (&["a", "--size", "128x0"], &["height is 0 px"]),
        (
            &["a", "--size", "99999x99999"],
            &["width is 99999 px", "4096"],
        ),
        (&["a", "--size", "big"], &["size 'big'", "1024x768"]),
        (
            &["a", "--size", "99999999999999999999x1"],
            &["WIDTHxHEIGHT"],
        ),
        (&["a", "--size=-128x128"], &["WIDTHxHEIGHT"]),
        (&["a", "--steps", "0"], &["steps is 0", "1 to 1000"]),
        (&["a", "--steps", "1001"], &["steps is 1001", "1 to 1000"]),
        (&["a", "--steps", "4.5"], &["--steps"]),
        (
            &["a", "--guidance-scale", "nan"],
            &["guidance_scale is NaN", "0 to 50"],
        ),
        (
            &["a", "--guidance-scale", "inf"],
            &["guidance_scale is inf"],
        ),
        (&["a", "--guidance-scale", "-1"], &["guidance_scale is -1"]),
        (
            &["a", "--guidance-scale", "1e30"],
            &["guidance_scale", "0 to 50"],
        ),
        (
            &["a", "--scheduler", "euler"],
            &["scheduler 'euler'", "lcm, dpmsolver++"],
        ),
        (
            &["a", "--precision", "f64"],
            &["f64", "auto, f32, bf16, f16"],
        ),
        (&["a", "--count", "0"], &["count is 0", "1 to 1000"]),
        (&["a", "--count", "1001"], &["count is 1001"]),
        (&["a", "--seed=-2"], &["--seed", "-1 for a random one"]),
        (&["a", "--seed", "-2"], &["--seed", "-1 for a random one"]),
        (&["a", "--seed", "1.5"], &["--seed", "an integer from 0"]),
        (&["a", "--threads", "4294967295"], &["--threads"]),
        (&["a", "b"], &["unexpected argument 'b'"]),
    ];
    for (words, parts) in cases {
        // No runtime, no cache: they are not reached.
        outcome(
            Command::new(env!("CARGO_BIN_EXE_pixart"))
                .env_clear()
                .current_dir(desk.0.path())
                .args(["generate", "--openvino", "/nowhere"])
                .args(words),
        )
        .refused(2, parts);
    }
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn requests_that_this_model_cannot_draw_are_refused() {
    let desk = Desk::new();
    for (words, parts) in [
        (
            &["--size", "100x100"][..],
            &["100x100", "multiple of 8", "96x96"][..],
        ),
        (&["--size", "8x13"], &["8x13", "8x16"]),
        (
            &["--size", "64x64", "--steps", "51"],
            &["51 steps", "at most 50", "original_inference_steps"],
        ),
        (
            &[
                "--size",
                "64x64",
                "--steps",
                "1000",
                "--scheduler",
                "dpmsolver++",
            ],
            &["1000 steps", "at most 999"],
        ),
    ] {
        let mut all = vec!["a cat"];
        all.extend(words);
        desk.draw_small(&all).refused(2, parts);
    }
    desk.draw(&["a cat", "--size", "100x100"])
        .refused(2, &["multiple of 16", "96x96"]);
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn bytes_that_are_not_utf8_are_refused_by_field() {
    let desk = Desk::new();
    let broken = OsStr::from_bytes(b"a caf\xe9");
    outcome(desk.pixart(&["generate"]).arg(broken)).refused(2, &["prompt is not valid UTF-8"]);
    outcome(
        desk.pixart(&["generate", "a", "--negative-prompt"])
            .arg(broken),
    )
    .refused(2, &["negative_prompt is not valid UTF-8"]);
    outcome(desk.pixart(&["generate", "a", "--size"]).arg(broken)).refused(2, &["UTF-8"]);
    // A folder that is there: it is not mangled into one that is not.
    fs::create_dir(desk.0.path().join(broken)).unwrap();
    for flag in ["--model", "--checkpoint", "--openvino"] {
        outcome(desk.pixart(&["info", flag]).arg(broken))
            .refused(2, &[flag, "not valid UTF-8", "OpenVINO"]);
    }
    for variable in ["PIXART__MODEL__DIRECTORY", "PIXART__OPENVINO__DEVICE"] {
        outcome(desk.pixart(&["info"]).env(variable, broken))
            .refused(2, &[variable, "not valid UTF-8"]);
    }
}

#[test]
fn devices_and_precisions_that_are_not_there_are_refused_with_those_that_are() {
    let desk = Desk::new();
    desk.draw_small(&["a", "--device", "TPU"])
        .refused(4, &["TPU", "this machine has CPU", "AUTO"]);
    desk.draw_small(&["a", "--device", "5"])
        .refused(4, &["the device 5 is not there"]);
    desk.draw_small(&["a", "--device", "AUTO:TPU"])
        .refused(4, &["AUTO:TPU"]);
    let told = outcome(
        desk.pixart(&["info", "--json", "--model"])
            .arg(small_model()),
    )
    .done();
    let can = json(&told)["devices"][0]["capabilities"].to_string();
    for (precision, capability) in [("f16", "FP16"), ("bf16", "BF16")] {
        if !can.contains(capability) {
            desk.draw_small(&["a", "--precision", precision])
                .refused(4, &[precision, "auto", "FP32"]);
        }
    }
}

#[test]
fn a_runtime_that_is_not_there_is_told_in_two_lines_with_what_to_type() {
    let desk = Desk::new();
    for command in ["generate a", "info", "convert . --output model"] {
        let words: Vec<&str> = command.split(' ').collect();
        let ended = outcome(desk.pixart(&words).args(["--openvino", "/nowhere"]))
            .refused(4, &["/nowhere", "make runtime", "pip install openvino"]);
        assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
    }
    fs::write(desk.path("libopenvino_c.so"), "not a library").unwrap();
    outcome(desk.pixart(&["info", "--openvino"]).arg(desk.0.path()))
        .refused(4, &["libopenvino_c.so", "does not load"]);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_anything_is_drawn() {
    let desk = Desk::new();
    fs::create_dir(desk.path("folder")).unwrap();
    fs::write(desk.path("file"), "").unwrap();
    for (output, parts) in [
        ("nowhere/a.png", &["nowhere/a.png", "cannot write"][..]),
        ("folder", &["folder", "it is a folder", "picture.png"]),
        ("file/a.png", &["file/a.png"]),
        ("/proc/a.png", &["/proc/a.png"]),
        ("..", &["it is a folder"]),
    ] {
        // Without a runtime: it is not reached.
        outcome(&mut desk.pixart(&[
            "generate",
            "a",
            "--openvino",
            "/nowhere",
            "--output",
            output,
        ]))
        .refused(5, parts);
    }
    assert_eq!(desk.names(), ["file", "folder"]);
}

#[test]
fn an_answer_that_nobody_can_read_is_an_error_of_the_output() {
    let desk = Desk::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = desk
        .pixart(&["info", "--model"])
        .arg(small_model())
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(5));
}

#[test]
fn a_picture_that_does_not_fit_on_the_disk_leaves_nothing() {
    let desk = Desk::new();
    let whole = desk.pixart(&[
        "generate", "a", "--size", "512x512", "--steps", "1", "--seed", "1",
    ]);
    let mut limited = Command::new("sh");
    limited
        .env_clear()
        .envs(
            whole
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(desk.0.path())
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(whole.get_program())
        .args(whole.get_args());
    outcome(&mut limited).refused(5, &["cannot write pixart-1.png", "File too large"]);
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn settings_that_nobody_knows_refuse_to_start() {
    let desk = Desk::new();
    for (variable, value, parts) in [
        (
            "PIXART__OPENVINO__DEVISE",
            "CPU",
            &["PIXART__OPENVINO__DEVISE", "devise", "device"][..],
        ),
        (
            "PIXART__OPENVINO__THREADS",
            "many",
            &["PIXART__OPENVINO__THREADS", "many"],
        ),
        (
            "PIXART__OPENVINO__THREADS",
            "-1",
            &["PIXART__OPENVINO__THREADS", "-1"],
        ),
        (
            "PIXART__OPENVINO__PRECISION",
            "f64",
            &["PIXART__OPENVINO__PRECISION", "f64", "bf16"],
        ),
        (
            "PIXART__QUEUE",
            "1",
            &["PIXART__QUEUE", "PIXART__SECTION__KEY"],
        ),
        (
            "PIXART__MODEL__CACHE__DEPTH",
            "1",
            &["PIXART__MODEL__CACHE__DEPTH"],
        ),
    ] {
        outcome(pixart().env(variable, value).arg("info")).refused(2, parts);
    }
    for (text, parts) in [
        (
            "[openvino]\ndevise = 'CPU'\n",
            &["mine.toml", "line 2", "devise"][..],
        ),
        ("[queue]\nlength = 1\n", &["mine.toml", "queue"]),
        ("[openvino\n", &["mine.toml", "line 1"]),
        (
            "[openvino]\nthreads = 'many'\n",
            &["mine.toml", "line 2", "openvino.threads", "many"],
        ),
    ] {
        fs::write(desk.path("mine.toml"), text).unwrap();
        outcome(&mut desk.pixart(&["info", "--config", "mine.toml"])).refused(2, parts);
    }
    outcome(&mut desk.pixart(&["info", "--config", "nowhere.toml"]))
        .refused(2, &["nowhere.toml", "cannot read"]);
    fs::write(desk.path("mine.toml"), b"\xff").unwrap();
    outcome(&mut desk.pixart(&["info", "--config", "mine.toml"]))
        .refused(2, &["mine.toml", "UTF-8"]);
}

#[test]
fn a_command_line_without_a_command_explains_itself() {
    let desk = Desk::new();
    outcome(&mut desk.pixart(&[])).refused(2, &["Usage: pixart"]);
    outcome(&mut desk.pixart(&["paint"])).refused(2, &["paint"]);
}
