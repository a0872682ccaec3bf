//! `noise.json`: every draw is equal to torch's, bit for bit.

use pixart::domain::Seed;
use pixart::pipeline::noise::TorchGenerator;
use sha2::{Digest, Sha256};

use super::read_json;

fn hex(bits: &[f32]) -> Vec<String> {
    bits.iter()
        .map(|value| format!("{:08x}", value.to_bits()))
        .collect()
}

#[test]
fn every_sequence_of_draws_is_bit_equal_to_torch() {
    let records = read_json("noise.json");
    let records = records.as_array().unwrap();
    assert!(records.len() > 100, "{} sequences", records.len());
    for record in records {
        let seed = record["seed"].as_u64().unwrap();
        let mut generator = TorchGenerator::new(Seed::new(seed));
        for (number, draw) in record["draws"].as_array().unwrap().iter().enumerate() {
            let shape = draw["shape"].as_array().unwrap();
            let count: u64 = shape.iter().map(|axis| axis.as_u64().unwrap()).product();
            let values = generator.randn(usize::try_from(count).unwrap());
            let ends = values.len().min(8);
            let context = format!("seed {seed}, draw {number} of shape {shape:?}");
            assert_eq!(
                serde_json::json!(hex(&values[..ends])),
                draw["first"],
                "first of {context}"
            );
            assert_eq!(
                serde_json::json!(hex(&values[values.len() - ends..])),
                draw["last"],
                "last of {context}"
            );
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let digest = Sha256::digest(&bytes);
            let digest: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest.concat(), draw["sha256"], "digest of {context}");
        }
    }
}
