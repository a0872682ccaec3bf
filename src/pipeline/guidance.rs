//! What happens to a prediction between the network and the scheduler: guidance, then the learned sigma is dropped.
//!
//! The order is part of the contract: diffusers 0.42 `pipeline_pixart_alpha.py` guides all channels ("perform
//! guidance") and keeps half of them afterwards ("learned sigma").

use ndarray::{Array4, ArrayView4, Axis, Zip, s};

/// Classifier-free guidance: `uncond + scale * (cond - uncond)`.
///
/// `pred`: f32 [2B, C, h, w], unconditional half first. Returns f32 [B, C, h, w].
///
/// # Panics
/// When the first axis is odd: the batch is made by the caller, both halves of one size.
pub fn guide(pred: ArrayView4<'_, f32>, scale: f32) -> Array4<f32> {
    let batch = pred.len_of(Axis(0));
    assert!(batch.is_multiple_of(2), "a batch of {batch} has no halves");
    let (uncond, cond) = pred.split_at(Axis(0), batch / 2);
    Zip::from(uncond)
        .and(cond)
        .map_collect(|&uncond, &cond| uncond + scale * (cond - uncond))
}

/// The predicted noise without the learned sigma.
///
/// `pred`: f32 [B, C, h, w]. When the network gives twice the latent channels, the second half is a variance that no
/// scheduler here uses, and f32 [B, `latent_channels`, h, w] is returned; otherwise all of it.
pub fn keep_epsilon(pred: ArrayView4<'_, f32>, latent_channels: usize) -> ArrayView4<'_, f32> {
    if pred.len_of(Axis(1)) / 2 == latent_channels {
        pred.slice_move(s![.., ..latent_channels, .., ..])
    } else {
        pred
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(uncond: f32, cond: f32) -> Array4<f32> {
        Array4::from_shape_fn((2, 8, 3, 2), |(half, channel, ..)| {
            channel as f32 + if half == 0 { uncond } else { cond }
        })
    }

    #[test]
    fn scale_zero_is_the_unconditional_half_and_one_the_conditional() {
        let pred = halves(0.25, -0.5);
        assert_eq!(guide(pred.view(), 0.0), pred.slice(s![..1, .., .., ..]));
        assert_eq!(guide(pred.view(), 1.0), pred.slice(s![1.., .., .., ..]));
    }

    #[test]
    fn scale_extends_the_line_from_unconditional_to_conditional() {
        let guided = guide(halves(1.0, 3.0).view(), 4.5);
        assert_eq!(guided.dim(), (1, 8, 3, 2));
        assert_eq!(
            guided,
            Array4::from_shape_fn((1, 8, 3, 2), |(_, c, ..)| c as f32 + 10.0)
        );
    }

    #[test]
    fn each_picture_of_a_batch_is_guided_by_its_own_half() {
        let pred = Array4::from_shape_fn((4, 1, 1, 1), |(n, ..)| n as f32);
        let guided = guide(pred.view(), 2.0);
        assert_eq!(guided.into_raw_vec_and_offset().0, [4.0, 5.0]);
    }

    #[test]
    fn learned_sigma_is_dropped_only_when_there_is_one() {
        let pred = halves(0.0, 0.0);
        let kept = keep_epsilon(pred.view(), 4);
        assert_eq!(kept, pred.slice(s![.., ..4, .., ..]));
        assert_eq!(keep_epsilon(pred.view(), 8), pred);
    }
}
