//! Any text and any bytes are refused or read, and what is read holds what its type promises.

use std::fs;
use std::sync::LazyLock;

use pixart::convert::parse_header;
use pixart::model::{Defaults, Manifest, ModelIndex, WeightsFormat};
use proptest::prelude::*;
use proptest::sample::Index;
use safetensors::tensor::Metadata;
use serde_json::{Value, json};

use crate::support::{checkpoint, convert_to, project};

/// Tensors lie one after the other from the first byte on, each as long as its shape and type say.
fn check_tiling(metadata: &Metadata) {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for info in metadata.tensors().values() {
        let bits = info.shape.iter().product::<usize>() * info.dtype.bitsize();
        let (start, end) = info.data_offsets;
        assert_eq!((end - start) * 8, bits);
        ranges.push((start, end));
    }
    ranges.sort_unstable();
    let mut position = 0;
    for (start, end) in ranges {
        assert_eq!(start, position);
        position = end;
    }
    assert_eq!(position, metadata.data_len());
}

/// The header of a real file.
static HEADER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = "tests/golden/checkpoints/tiny-alpha/text_encoder/model.safetensors";
    let file = fs::read(project(path)).unwrap();
    let length = u64::from_le_bytes(*file.first_chunk().unwrap());
    file[8..][..usize::try_from(length).unwrap()].to_vec()
});

/// A real manifest.
static MANIFEST: LazyLock<Value> = LazyLock::new(|| {
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("model");
    convert_to(source.path(), &output, WeightsFormat::F16);
    let text = fs::read_to_string(output.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    // With its checksum every change would be refused for that alone.
    assert!(manifest.as_object_mut().unwrap().remove("sha256").is_some());
    manifest
});

/// Every value inside of a JSON value, itself included, as a JSON pointer.
fn pointers(value: &Value, here: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{here}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(here);
}

/// What a hostile hand writes into a place where something else stood.
fn hostile() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..4).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        proptest::collection::vec(any::<u32>(), 0..70).prop_map(Value::from),
    ]
}

#[test]
fn a_real_header_and_a_real_manifest_are_read() {
    check_tiling(&parse_header(&HEADER).unwrap());
    let manifest = Manifest::from_json(&MANIFEST.to_string()).unwrap();
    let again = Manifest::from_json(&manifest.to_json().unwrap()).unwrap();
    assert_eq!(again, manifest);
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(metadata) = parse_header(&bytes) {
            check_tiling(&metadata);
        }
    }

    #[test]
    fn a_header_with_changed_bytes_is_refused_or_still_tiles(
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        end in any::<Index>(),
        cut in proptest::bool::weighted(0.2),
    ) {
        let mut header = HEADER.clone();
        for (index, byte) in changes {
            let index = index.index(header.len());
            header[index] = byte;
        }
        if cut {
            header.truncate(end.index(header.len()));
        }
        if let Ok(metadata) = parse_header(&header) {
            check_tiling(&metadata);
        }
    }

    #[test]
    fn a_header_of_any_offsets_and_shapes_is_refused_or_tiles(
        tensors in proptest::collection::vec(
            (
                prop_oneof![Just("F32"), Just("F16"), Just("BF16"), Just("I64"), Just("F4"), Just("X")],
                proptest::collection::vec(prop_oneof![0_u64..5, any::<u64>()], 0..4),
                prop_oneof![0_u64..64, any::<u64>()],
                prop_oneof![0_u64..64, any::<u64>()],
            ),
            0..4,
        ),
    ) {
        let mut header = serde_json::Map::new();
        for (index, (dtype, shape, start, end)) in tensors.into_iter().enumerate() {
            header.insert(
                index.to_string(),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
            );
        }
        if let Ok(metadata) = parse_header(Value::Object(header).to_string().as_bytes()) {
            check_tiling(&metadata);
        }
    }

    #[test]
    fn any_text_is_a_manifest_an_index_a_page_or_an_error(text in "\\PC*") {
        let _ = Manifest::from_json(&text);
        let _ = ModelIndex::from_json(&text);
        let _ = Defaults::from_json(&text);
    }

    #[test]
    fn a_manifest_with_anything_anywhere_is_refused_or_can_be_worked_with(
        place in any::<Index>(),
        value in hostile(),
        remove in proptest::bool::weighted(0.2),
    ) {
        let mut json = MANIFEST.clone();
        let mut places = Vec::new();
        pointers(&json, String::new(), &mut places);
        let place = place.get(&places);
        match place.rsplit_once('/') {
            Some((parent, key)) if remove => {
                let key = key.replace("~1", "/").replace("~0", "~");
                if let Some(Value::Object(map)) = json.pointer_mut(parent) {
                    map.remove(&key);
                }
            }
            _ => *json.pointer_mut(place).unwrap() = value,
        }
        if let Ok(manifest) = Manifest::from_json(&json.to_string()) {
            prop_assert!(manifest.tokenizer().is_some());
            prop_assert!((1..=128).contains(&manifest.vae_decoder.spec.scale_factor()));
            prop_assert!(manifest.transformer.spec.patch_size > 0);
            prop_assert!(manifest.transformer.spec.inner_dim() > 0);
            prop_assert!(manifest.text_encoder.spec.inner_dim() > 0);
            prop_assert!(manifest.files.keys().all(|name| !name.contains("..")));
            manifest.digest();
            let again = Manifest::from_json(&manifest.to_json().unwrap()).unwrap();
            prop_assert_eq!(again, manifest);
        }
    }

    #[test]
    fn an_index_of_any_class_is_alpha_sigma_or_an_error(class in hostile()) {
        let text = json!({"_class_name": class}).to_string();
        prop_assert!(ModelIndex::from_json(&text).is_err());
    }

    #[test]
    fn a_page_of_any_defaults_is_refused_or_in_range(
        width in hostile(),
        height in hostile(),
        binning in hostile(),
    ) {
        let text = json!({"defaults": {"width_px": width, "height_px": height, "resolution_binning": binning}});
        if let Ok(defaults) = Defaults::from_json(&text.to_string()) {
            prop_assert!((1..=4096).contains(&defaults.width_px));
            prop_assert!((1..=4096).contains(&defaults.height_px));
        }
    }
}
