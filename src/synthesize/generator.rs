//! Numbers by their position: any value of any tensor, without those before it.
//!
//! So blocks are filled by any number of threads in any order and come out the same, on every machine: only integers and one
//! multiplication are involved.

use sha2::{Digest, Sha256};

/// Step of the counter, and the two factors of the mix: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014), whose n-th number is a function of its seed and n.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
/// Mean of the sum of four uniform numbers from 0 to 65535.
const MEAN: f32 = 131_070.0;
/// Its deviation: √(4 · (65536² − 1) / 12).
const DEVIATION: f32 = 37_837.23;

/// The numbers of one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    key: u64,
}

impl Numbers {
    /// Those of the tensor `name` of `component`.
    pub(super) fn of(seed: u64, component: &str, name: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(seed.to_le_bytes());
        digest.update(component);
        digest.update("/");
        digest.update(name);
        let digest = digest.finalize();
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        Self {
            key: u64::from_le_bytes(key),
        }
    }

    /// A number with mean 0 and deviation 1, nearly normal and never beyond ±3.47: the sum of four uniform ones.
    pub(super) fn at(self, index: usize) -> f32 {
        let count = index as u64 + 1;
        let mut bits = self.key.wrapping_add(count.wrapping_mul(STEP));
        bits = (bits ^ (bits >> 30)).wrapping_mul(MIX[0]);
        bits = (bits ^ (bits >> 27)).wrapping_mul(MIX[1]);
        bits ^= bits >> 31;
        let sum =
            (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        (sum as f32 - MEAN) / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_mean_0_and_deviation_1_and_do_not_repeat_their_neighbours() {
        let count = 1_000_000;
        let one = Numbers::of(1, "transformer", "a");
        let other = Numbers::of(1, "transformer", "b");
        let [mut sum, mut squares, mut next, mut across] = [0.0_f64; 4];
        for index in 0..count {
            let value = f64::from(one.at(index));
            sum += value;
            squares += value * value;
            next += value * f64::from(one.at(index + 1));
            across += value * f64::from(other.at(index));
        }
        let count = count as f64;
        // Four standard errors of a mean of a million numbers are 0.004.
        assert!((sum / count).abs() < 0.004, "{}", sum / count);
        assert!((squares / count - 1.0).abs() < 0.006, "{}", squares / count);
        assert!((next / count).abs() < 0.004, "{}", next / count);
        assert!((across / count).abs() < 0.004, "{}", across / count);
    }

    #[test]
    fn numbers_follow_from_seed_component_name_and_position_on_every_machine() {
        let values = |numbers: Numbers| [0, 1, 1 << 33].map(|index| numbers.at(index).to_bits());
        let here = values(Numbers::of(7, "vae", "decoder.conv_in.weight"));
        assert_eq!(
            here,
            values(Numbers::of(7, "vae", "decoder.conv_in.weight"))
        );
        for other in [
            Numbers::of(8, "vae", "decoder.conv_in.weight"),
            Numbers::of(7, "text_encoder", "decoder.conv_in.weight"),
            Numbers::of(7, "vae", "decoder.conv_in.bias"),
        ] {
            assert_ne!(here, values(other));
        }
    }
}
