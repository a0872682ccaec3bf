//! `binning.json`: the tables and the choice of a bin are exactly diffusers'.

use pixart::domain::ImageSize;
use pixart::model::{Bins, PipelineClass};

use super::read_json;

const TABLES: [(&str, u32); 4] = [("256", 32), ("512", 64), ("1024", 128), ("2048", 256)];

fn size(height: &serde_json::Value, width: &serde_json::Value) -> ImageSize {
    let side = |value: &serde_json::Value| value.as_u64().unwrap().try_into().unwrap();
    ImageSize::new(side(width), side(height)).unwrap()
}

#[test]
fn tables_are_equal_to_diffusers() {
    let fixture = read_json("binning.json");
    for (name, sample_size) in TABLES {
        let expected: Vec<(f64, ImageSize)> = fixture["tables"][name]
            .as_array()
            .unwrap()
            .iter()
            .map(|bin| {
                let ratio = bin["ratio"].as_str().unwrap().parse().unwrap();
                (ratio, size(&bin["height"], &bin["width"]))
            })
            .collect();
        let bins = Bins::for_sample_size(PipelineClass::Sigma, sample_size).unwrap();
        assert_eq!(bins.entries().collect::<Vec<_>>(), expected, "{name}");
        // pipeline_pixart_alpha.py knows the first three tables alone.
        let alpha = Bins::for_sample_size(PipelineClass::Alpha, sample_size);
        let expected = (name != "2048").then_some(expected);
        assert_eq!(
            alpha.map(|bins| bins.entries().collect()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn every_size_falls_into_the_bin_that_diffusers_chooses() {
    let fixture = read_json("binning.json");
    let records = fixture["sizes"].as_array().unwrap();
    assert!(records.len() > 100, "{} sizes", records.len());
    for record in records {
        let asked = size(&record["height"], &record["width"]);
        for (name, sample_size) in TABLES {
            let expected = &record["bins"][name];
            let bins = Bins::for_sample_size(PipelineClass::Sigma, sample_size).unwrap();
            assert_eq!(
                bins.nearest(asked),
                size(&expected[0], &expected[1]),
                "{asked} in {name}"
            );
        }
    }
}
