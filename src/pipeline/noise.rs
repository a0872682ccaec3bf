//! Noise that torch would draw: its CPU generator and `torch.randn` in f32, bit for bit.
//!
//! A seed means the same picture here and in diffusers only if the noise is the same to the last bit. The generator is
//! MT19937 seeded with the low 32 bits of the seed; how its words become normal values depends on how many are drawn:
//!
//! - 16 or more: 24-bit uniforms, Box–Muller in blocks of 16. torch has several kernels for this. What is reproduced is
//!   the one for AVX2, which torch also takes on AVX-512 machines: single precision cephes polynomials for the
//!   logarithm, sine and cosine, with the fused multiply-adds that its compiler made of them. A torch on a machine
//!   without AVX2 draws values that differ in the last bits.
//! - fewer than 16: Box–Muller in f64, one value at a time, the sine half being kept for the next small draw. A large
//!   draw in between neither uses nor clears it.
//!
//! Sources: torch 2.9 `aten/src/ATen/core/{MT19937RNGEngine,DistributionsHelper}.h`,
//! `aten/src/ATen/native/cpu/{DistributionTemplates,avx_mathfun}.h`. The polynomials are those of avx_mathfun by
//! Giovanni Garberoglio, after sse_mathfun by Julien Pommier (zlib licence), derived from Stephen Moshier's cephes.

use std::f64::consts::TAU;

use rand_mt::Mt;

use crate::domain::Seed;

/// Values of one block: cosine halves in the first eight, sine halves in the last eight.
const BLOCK: usize = 16;

/// torch's CPU generator. It belongs to one picture: latents first, then whatever the scheduler draws.
pub struct TorchGenerator {
    words: Mt,
    /// The sine half of the last small draw, in f64 as torch keeps it.
    kept_sine_half: Option<f64>,
}

impl TorchGenerator {
    /// A generator as `torch.Generator("cpu").manual_seed(seed)` leaves it: only the low 32 bits of the seed count.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "torch seeds with the low 32 bits"
    )]
    pub fn new(seed: Seed) -> Self {
        Self {
            words: Mt::new(seed.value() as u32),
            kept_sine_half: None,
        }
    }

    /// Draws `count` values of the standard normal distribution, f32, as `torch.randn` with this many elements does.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal_pairwise()).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty() {
            // torch draws afresh for the last 16 values, overwriting part of the last whole block.
            let mut last = [0.0; BLOCK];
            last.fill_with(|| self.uniform());
            box_muller(&mut last);
            values[count - BLOCK..].copy_from_slice(&last);
        }
        values
    }

    /// A multiple of 2^-24 in [0, 1).
    fn uniform(&mut self) -> f32 {
        (self.words.next_u32() & 0x00FF_FFFF) as f32 * (1.0 / 16_777_216.0)
    }

    /// A multiple of 2^-53 in [0, 1). The first word is the high one.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.words.next_u32());
        let low = u64::from(self.words.next_u32());
        let bits = (high << 32 | low) & ((1 << 53) - 1);
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "torch computes small draws in f64 and stores f32"
    )]
    fn normal_pairwise(&mut self) -> f32 {
        if let Some(sine_half) = self.kept_sine_half.take() {
            return sine_half as f32;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = TAU * u1;
        self.kept_sine_half = Some(radius * theta.sin());
        (radius * theta.cos()) as f32
    }
}

/// Turns sixteen uniforms in [0, 1) into sixteen normal values, in place.
fn box_muller(block: &mut [f32; BLOCK]) {
    let (cosine_half, sine_half) = block.split_at_mut(BLOCK / 2);
    for (first, second) in cosine_half.iter_mut().zip(sine_half) {
        let radius = (-2.0 * ln(1.0 - *first)).sqrt();
        let (sine, cosine) = sin_cos(std::f32::consts::TAU * *second);
        // torch ends with `n * std + mean`, which turns -0 into 0.
        *first = radius * cosine + 0.0;
        *second = radius * sine + 0.0;
    }
}

/// Natural logarithm of a normal positive number: cephes `logf` as `log256_ps` evaluates it.
#[expect(clippy::excessive_precision, reason = "as cephes prints them")]
fn ln(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 8] = [
        -1.151_461_031_0E-1,
        1.167_699_874_0E-1,
        -1.242_014_084_6E-1,
        1.424_932_278_7E-1,
        -1.666_805_766_5E-1,
        2.000_071_476_5E-1,
        -2.499_999_399_3E-1,
        3.333_333_117_4E-1,
    ];
    // ln 2 in two parts, the large one exact in few bits.
    const LN_2_SMALL: f32 = -2.121_944_40e-4;
    const LN_2_LARGE: f32 = 0.693_359_375;

    let bits = x.to_bits();
    // x = mantissa * 2^exponent, the mantissa in [0.5, 1), then moved to [sqrt(0.5), sqrt(2)) - 1.
    let mut exponent = (bits >> 23) as f32 - 126.0;
    let mut mantissa = f32::from_bits(bits & 0x007F_FFFF | 0x3F00_0000);
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        mantissa = mantissa - 1.0 + mantissa;
    } else {
        mantissa -= 1.0;
    }
    let square = mantissa * mantissa;
    let polynomial = COEFFICIENTS
        .iter()
        .fold(7.037_683_629_2E-2_f32, |sum, &coefficient| {
            sum.mul_add(mantissa, coefficient)
        });
    let cubic = polynomial * mantissa;
    let tail = cubic.mul_add(square, exponent * LN_2_SMALL);
    let tail = square.mul_add(-0.5, tail);
    exponent.mul_add(LN_2_LARGE, mantissa + tail)
}

/// Sine and cosine of an angle that is not negative: cephes `sinf` and `cosf` as `sincos256_ps` evaluates them.
#[expect(clippy::excessive_precision, reason = "as cephes prints them")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the angle is in [0, 2π], so its octant is 0 to 8"
)]
fn sin_cos(angle: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 4.0 / std::f32::consts::PI;
    // π/4 in three parts (Cody and Waite).
    const QUARTER_PI_PARTS: [f32; 3] = [
        0.785_156_25,
        2.418_756_484_985_351_6e-4,
        3.774_894_977_445_941e-8,
    ];

    let octant = ((angle * FOUR_OVER_PI) as u32 + 1) & !1;
    let turns = octant as f32;
    let x = QUARTER_PI_PARTS
        .iter()
        .fold(angle, |rest, &part| turns.mul_add(-part, rest));
    let z = x * x;

    let cosine = 2.443_315_711_809_948E-5_f32
        .mul_add(z, -1.388_731_625_493_765E-3)
        .mul_add(z, 4.166_664_568_298_827E-2);
    let cosine = (cosine * z).mul_add(z, -0.5 * z) + 1.0;
    let sine = (-1.951_529_589_1E-4_f32)
        .mul_add(z, 8.332_160_873_6E-3)
        .mul_add(z, -1.666_665_461_1E-1);
    let sine = (sine * z).mul_add(x, x);

    let (sine, cosine) = if octant & 2 == 0 {
        (sine, cosine)
    } else {
        (cosine, sine)
    };
    (
        if octant & 4 == 0 { sine } else { -sine },
        if (octant + 2) & 4 == 0 {
            cosine
        } else {
            -cosine
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(seed: u64) -> TorchGenerator {
        TorchGenerator::new(Seed::new(seed))
    }

    #[test]
    fn seeds_that_agree_in_their_low_32_bits_draw_the_same() {
        assert_eq!(generator(42).randn(64), generator((1 << 32) + 42).randn(64));
        assert_ne!(generator(42).randn(64), generator(43).randn(64));
    }

    #[test]
    fn polynomials_stay_within_three_ulp_of_the_exact_functions() {
        for step in 1..=4096_u16 {
            let x = f32::from(step) / 4096.0;
            let error = (f64::from(ln(x)) - f64::from(x).ln()).abs();
            assert!(error <= 3e-7 * f64::from(x).ln().abs(), "ln({x}): {error}");
            let angle = x * std::f32::consts::TAU;
            let (sine, cosine) = sin_cos(angle);
            assert!(
                (f64::from(sine) - f64::from(angle).sin()).abs() < 3e-7,
                "sin({angle})"
            );
            assert!(
                (f64::from(cosine) - f64::from(angle).cos()).abs() < 3e-7,
                "cos({angle})"
            );
        }
    }

    #[test]
    fn a_large_draw_has_the_moments_of_the_normal_distribution() {
        let values = generator(7).randn(65_536);
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = values
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            / count;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
    }

    #[test]
    fn nothing_drawn_leaves_the_generator_alone() {
        let mut drawn = generator(1);
        assert!(drawn.randn(0).is_empty());
        assert_eq!(drawn.randn(16), generator(1).randn(16));
    }
}
