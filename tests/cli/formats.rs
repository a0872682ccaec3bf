//! The kinds of file that `pixart generate` writes.

use serde_json::Value;

use super::{Desk, json};

#[test]
fn the_ending_of_the_name_is_the_format_of_the_file() {
    let desk = Desk::new();
    let draw = |name: &str, words: &[&str]| {
        let mut all = vec!["a boat", "--seed", "3", "--size", "64x32", "--json"];
        all.extend(["--steps", "2", "--output", name]);
        all.extend(words);
        json(&desk.draw_small(&all).done())["images"][0].clone()
    };
    for (name, format, magic) in [
        ("a.png", "png", &b"\x89PNG"[..]),
        ("a.jpg", "jpeg", b"\xff\xd8\xff"),
        ("a.JPEG", "jpeg", b"\xff\xd8\xff"),
        ("a.webp", "webp", b"RIFF"),
        ("a.picture", "png", b"\x89PNG"),
        ("a", "png", b"\x89PNG"),
    ] {
        let page = draw(name, &[]);
        assert_eq!(page["receipt"]["output_format"], format, "{name}");
        assert_eq!(page["warnings"], Value::Array(Vec::new()), "{name}");
        let bytes = desk.read(name);
        assert!(bytes.starts_with(magic), "{name}");
        draw(name, &[]);
        assert!(
            desk.read(name) == bytes,
            "{name}: other bytes the next time"
        );
    }
    let png = desk.picture("a.png");
    assert_eq!(png.text["pixart:output_format"], "png");
    let webp = image::load_from_memory(&desk.read("a.webp")).unwrap();
    assert_eq!(webp.to_rgb8().as_raw(), &png.rgb, "WebP loses nothing");

    let good = desk.read("a.jpg").len();
    let page = draw("a.jpg", &["--output-compression", "20"]);
    assert_eq!(page["receipt"]["output_compression"], 20);
    assert!(desk.read("a.jpg").len() < good);
    let page = draw("a.webp", &["--output-compression", "20", "--embed-prompt"]);
    let warnings = page["warnings"].to_string();
    for word in ["output_compression", "embed_prompt"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    assert!(page["receipt"].get("output_compression").is_none());
}

#[test]
fn a_series_keeps_its_ending_and_a_compression_is_a_percentage() {
    let desk = Desk::new();
    desk.draw_small(&[
        "a boat", "--size", "32x32", "--count", "2", "--output", "a.jpg",
    ])
    .done();
    assert_eq!(desk.names(), ["a-0.jpg", "a-1.jpg"]);
    desk.draw_small(&["a boat", "--output-compression", "101"])
        .refused(2, &["output_compression is 101", "0 to 100"]);
}
