//! The checks of the fuzz targets, on seeds that were damaged a little: where no fuzzer runs, they have been tried all the same.

#[path = "../../fuzz/checks/ir.rs"]
mod ir;
#[path = "../../fuzz/checks/request_body.rs"]
mod request_body;

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::small_model;

/// Bodies that are taken.
const BODIES: [&str; 3] = [
    r#"{"prompt": "a small cactus", "seed": 7, "size": "512x256", "n": 2}"#,
    r#"{"prompt": "é 🌵", "negative_prompt": "", "num_inference_steps": 4.0, "guidance_scale": 3, "scheduler": "lcm",
        "output_format": "webp", "output_compression": 0, "stream": true, "partial_images": 3, "deadline_seconds": 0.5}"#,
    r#"{"prompt": "a", "model": "dall-e-3", "quality": "hd", "user": "me", "width": 640, "height": 320, "x": [[{}]]}"#,
];

/// Networks that are read.
static NETWORKS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let model = small_model();
    let text = |name: &str| fs::read_to_string(model.join(name)).unwrap();
    let constants = r#"<?xml version="1.0"?>
<net name="n" version="11">
	<layers>
		<layer id="0" name="c" type="Const" version="opset1">
			<data element_type="f32" shape="2,3" offset="64" size="24" />
			<output><port id="0" precision="FP32"><dim>2</dim><dim>3</dim></port></output>
		</layer>
	</layers>
	<edges />
</net>
"#;
    vec![constants.to_owned(), text("vae_decoder.xml")]
});

/// Bytes to insert, delete or put in the place of others.
#[derive(Debug, Clone)]
struct Damage {
    at: Index,
    removed: usize,
    put: Vec<u8>,
}

fn damage(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<Damage>> {
    let put = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    let one = (any::<Index>(), 0_usize..12, put).prop_map(|(at, removed, put)| Damage {
        at,
        removed,
        put,
    });
    proptest::collection::vec(one, 0..4)
}

fn damaged(seed: &[u8], damage: &[Damage]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for Damage { at, removed, put } in damage {
        let at = at.index(bytes.len() + 1);
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, put.iter().copied());
    }
    bytes
}

#[test]
fn the_seeds_are_taken() {
    for body in BODIES {
        assert!(request_body::check(body.as_bytes()), "{body}");
    }
    assert!(ir::check(&NETWORKS[0]));
    // Depth costs no stack, and entities that multiply are none.
    assert!(!ir::check(&"<net>".repeat(200_000)));
    assert!(!ir::check(
        "<!DOCTYPE net [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><net version=\"11\">&b;</net>"
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_damaged_body_is_refused_or_within_the_limits(
        seed in 0..BODIES.len(),
        damage in damage(&["\"", "{", "}", "[", "]", ",", ":", "null", "1e999", "-0", "18446744073709551616", "\\ud800", "\"n\":0,"]),
    ) {
        request_body::check(&damaged(BODIES[seed].as_bytes(), &damage));
    }

    #[test]
    fn a_damaged_network_is_refused_or_can_be_walked(
        seed in 0..NETWORKS.len(),
        damage in damage(&["\"", "<", ">", "/", "-1", "0", "18446744073709551615", "4611686018427387904", "i4", "u4", "<layer ", "&#0;"]),
    ) {
        let bytes = damaged(NETWORKS[seed].as_bytes(), &damage);
        ir::check(&String::from_utf8_lossy(&bytes));
    }
}
