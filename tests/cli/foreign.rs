//! `--model` with IR that pixart did not make: the folder that the PixArt OpenVINO notebook leaves.

use std::fs;

use super::Desk;
use crate::support::{checkpoint, outcome, project};

const TRACED: &str = "tests/golden/traced";

fn draw(
    desk: &Desk,
    model: &std::path::Path,
    checkpoint: Option<&std::path::Path>,
    words: &[&str],
) -> crate::support::Outcome {
    let mut command = desk.pixart(&["generate", "a cat", "--no-resolution-binning", "--model"]);
    command.arg(model).args(words);
    if let Some(checkpoint) = checkpoint {
        command.arg("--checkpoint").arg(checkpoint);
    }
    outcome(&mut command)
}

#[test]
fn traced_networks_draw_their_own_size_and_no_other() {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let traced = project(TRACED);
    let size = ["--size", "80x64", "--output", "a.png"];
    draw(&desk, &traced, Some(source.path()), &size).done();
    let picture = desk.picture("a.png");
    assert_eq!((picture.width, picture.height), (80, 64));
    assert_eq!(picture.text["pixart:weights"], "foreign");
    for other in ["64x80", "96x96"] {
        draw(&desk, &traced, Some(source.path()), &["--size", other])
            .refused(2, &["traced for 80x64", other, "pixart convert"]);
    }
    assert_eq!(desk.names(), ["a.png"]);
}

#[test]
fn flags_for_networks_made_elsewhere_are_told_to_have_no_effect_on_others() {
    let desk = Desk::new();
    let flags = [
        (&["--quantized"][..], "--quantized"),
        (&["--checkpoint", "nowhere"], "--checkpoint"),
        (
            &["--quantized", "--checkpoint", "nowhere"],
            "--checkpoint and --quantized",
        ),
    ];
    for (words, named) in flags {
        let told = desk.draw_small(&[&["a cat", "--size", "32x32"], words].concat());
        let told = told.done();
        assert_eq!(told.stderr.lines().count(), 1, "{}", told.stderr);
        assert!(
            told.stderr.contains(&format!("no effect of {named}:")),
            "{}",
            told.stderr
        );
    }
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let words = ["--quantized", "--size", "80x64"];
    let told = draw(&desk, &project(TRACED), Some(source.path()), &words).done();
    assert_eq!(told.stderr, "");
}

#[test]
fn traced_networks_need_the_checkpoint_that_they_were_made_from() {
    let desk = Desk::new();
    let traced = project(TRACED);
    draw(&desk, &traced, None, &[]).refused(3, &["--checkpoint", "diffusers directory"]);
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    for (name, parts) in [
        ("tokenizer/spiece.model", &["spiece.model", "--checkpoint"]),
        (
            "scheduler/scheduler_config.json",
            &["scheduler_config.json", "cannot read"],
        ),
        ("vae/config.json", &["vae/config.json", "cannot read"]),
    ] {
        let aside = source.path().join("aside");
        let path = source.path().join(name);
        fs::rename(&path, &aside).unwrap();
        draw(&desk, &traced, Some(source.path()), &[]).refused(3, parts);
        fs::write(&path, "garbage").unwrap();
        draw(&desk, &traced, Some(source.path()), &[]).refused(3, &[name]);
        fs::rename(&aside, &path).unwrap();
    }
}

#[test]
fn damaged_traced_networks_are_refused() {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let model = desk.path("model");
    let restore = || {
        fs::create_dir_all(&model).unwrap();
        for name in crate::support::names_in(&project(TRACED)) {
            fs::copy(project(TRACED).join(&name), model.join(&name)).unwrap();
        }
    };
    restore();
    fs::remove_file(model.join("vae_decoder.xml")).unwrap();
    draw(&desk, &model, Some(source.path()), &[]).refused(3, &["vae_decoder.xml"]);
    restore();
    fs::remove_file(model.join("text_encoder.bin")).unwrap();
    draw(&desk, &model, Some(source.path()), &[]).refused(3, &["text_encoder.bin"]);
    restore();
    fs::write(model.join("text_encoder.xml"), "<net").unwrap();
    draw(&desk, &model, Some(source.path()), &[]).refused(3, &["text_encoder.xml"]);
    restore();
    fs::write(model.join("transformer_ir.bin"), "").unwrap();
    draw(&desk, &model, Some(source.path()), &[]).refused(3, &["transformer_ir.bin"]);
    // A position table of petabytes by the .xml's word.
    restore();
    let xml = fs::read_to_string(model.join("transformer_ir.xml")).unwrap();
    let tokens = 1_u64 << 44;
    let table = format!(
        r#"<data element_type="f32" shape="1, {tokens}, 24" offset="0" size="{}"/>"#,
        tokens * 24 * 4
    );
    fs::write(model.join("transformer_ir.xml"), table + &xml).unwrap();
    draw(&desk, &model, Some(source.path()), &[]).refused(3, &["transformer_ir.bin"]);
}
