//! Any text as the manifest of a model: refused, or read the same again from what is written of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixart::model::Manifest;

fuzz_target!(|text: &str| {
    if let Ok(manifest) = Manifest::from_json(text) {
        assert!(manifest.tokenizer().is_some());
        manifest.digest();
        let written = manifest.to_json().expect("plain data");
        assert_eq!(
            Manifest::from_json(&written).expect("its own text"),
            manifest
        );
    }
});
