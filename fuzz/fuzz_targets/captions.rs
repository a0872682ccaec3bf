//! Any bytes as a file of captions, under each of the endings that decide where content leaves doubts.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pixart::quantize::parse_captions;

fuzz_target!(|bytes: &[u8]| {
    for name in ["captions.txt", "captions.csv", "captions.tsv"] {
        if let Ok(captions) = parse_captions(bytes, Path::new(name), 3) {
            assert_eq!(captions.len(), 3);
            assert!(captions.iter().all(|caption| !caption.prompt.as_str().is_empty()));
        }
    }
});
