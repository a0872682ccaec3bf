//! `resize.safetensors`: resizing and cropping after binning.

use std::fs;

use ndarray::Array4;
use pixart::domain::ImageSize;
use pixart::pipeline::pixels::resize_and_crop;
use safetensors::SafeTensors;

use super::{f32_values, path};

/// Values are within ±1.25 and mixed of four in f32; torch fuses some of the multiplications and additions, which leaves
/// 1 ulp in some values (2.4e-7 measured), far below the 1/255 of a byte.
const TOLERANCE: f32 = 5e-7;

#[test]
fn resized_pictures_are_those_of_diffusers() {
    let bytes = fs::read(path("resize.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let shape: [usize; 4] = tensors.tensor(name).unwrap().shape().try_into().unwrap();
        Array4::from_shape_vec(shape, f32_values(&tensors, name)).unwrap()
    };
    let count = tensors.len() / 2;
    assert!(count >= 8, "{count} pictures");
    let mut worst = 0.0_f32;
    for number in 0..count {
        let expected = read(&format!("resized.{number}"));
        let (.., height, width) = expected.dim();
        let side = |length: usize| u32::try_from(length).unwrap();
        let size = ImageSize::new(side(width), side(height)).unwrap();
        let found = resize_and_crop(read(&format!("decoded.{number}")), size);
        assert_eq!(found.dim(), expected.dim(), "picture {number}");
        for ((index, found), expected) in found.indexed_iter().zip(&expected) {
            let error = (found - expected).abs();
            assert!(
                error <= TOLERANCE,
                "picture {number} at {index:?}: {found} and {expected}"
            );
            worst = worst.max(error);
        }
    }
    println!("largest error {worst:e}");
}
