//! The sizes that checkpoints were trained on: a requested size is drawn at the bin of the nearest aspect ratio.
//!
//! The tables and the choice among them are diffusers' (0.42 `pipeline_pixart_alpha.py`, `pipeline_pixart_sigma.py`,
//! `PixArtImageProcessor.classify_height_width_bin`), rounded ratios and duplicates included: a request must land in
//! the same bin here and there.

use super::PipelineClass;
use crate::domain::ImageSize;

/// Bins of about one area, by rising ratio of height to width.
#[derive(Debug)]
pub struct Bins(&'static [(f64, u32, u32)]);

impl Bins {
    /// The bins of a checkpoint of this pipeline whose transformer has this `sample_size` (latents a side): 32 for 256 px,
    /// 64 for 512, 128 for 1024 and, in PixArt-Σ only, 256 for 2048. None for any other: diffusers refuses to bin there.
    pub fn for_sample_size(class: PipelineClass, sample_size: u32) -> Option<&'static Self> {
        match (sample_size, class) {
            (32, _) => Some(&BINS_256),
            (64, _) => Some(&BINS_512),
            (128, _) => Some(&BINS_1024),
            (256, PipelineClass::Sigma) => Some(&BINS_2048),
            _ => None,
        }
    }

    /// The bin whose ratio of height to width is nearest to that of `size`; of two equally near, the lower ratio.
    pub fn nearest(&self, size: ImageSize) -> ImageSize {
        let ratio = f64::from(size.height_px()) / f64::from(size.width_px());
        // Of equal minima `min_by` returns the first, as Python's `min` does.
        self.entries()
            .map(|(bin_ratio, bin)| ((bin_ratio - ratio).abs(), bin))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map_or(size, |(_, bin)| bin)
    }

    /// Each bin's ratio as the table has it, and its size.
    pub fn entries(&self) -> impl Iterator<Item = (f64, ImageSize)> + '_ {
        self.0.iter().filter_map(|&(ratio, height_px, width_px)| {
            Some((ratio, ImageSize::new(width_px, height_px).ok()?))
        })
    }
}

// Each table: ratio, height in px, width in px.

static BINS_256: Bins = Bins(&[
    (0.25, 128, 512),
    (0.28, 128, 464),
    (0.32, 144, 448),
    (0.33, 144, 432),
    (0.35, 144, 416),
    (0.4, 160, 400),
    (0.42, 160, 384),
    (0.48, 176, 368),
    (0.5, 176, 352),
    (0.52, 176, 336),
    (0.57, 192, 336),
    (0.6, 192, 320),
    (0.68, 208, 304),
    (0.72, 208, 288),
    (0.78, 224, 288),
    (0.82, 224, 272),
    (0.88, 240, 272),
    (0.94, 240, 256),
    (1.0, 256, 256),
    (1.07, 256, 240),
    (1.13, 272, 240),
    (1.21, 272, 224),
    (1.29, 288, 224),
    (1.38, 288, 208),
    (1.46, 304, 208),
    (1.67, 320, 192),
    (1.75, 336, 192),
    (2.0, 352, 176),
    (2.09, 368, 176),
    (2.4, 384, 160),
    (2.5, 400, 160),
    (3.0, 432, 144),
    (4.0, 512, 128),
]);

static BINS_512: Bins = Bins(&[
    (0.25, 256, 1024),
    (0.28, 256, 928),
    (0.32, 288, 896),
    (0.33, 288, 864),
    (0.35, 288, 832),
    (0.4, 320, 800),
    (0.42, 320, 768),
    (0.48, 352, 736),
    (0.5, 352, 704),
    (0.52, 352, 672),
    (0.57, 384, 672),
    (0.6, 384, 640),
    (0.68, 416, 608),
    (0.72, 416, 576),
    (0.78, 448, 576),
    (0.82, 448, 544),
    (0.88, 480, 544),
    (0.94, 480, 512),
    (1.0, 512, 512),
    (1.07, 512, 480),
    (1.13, 544, 480),
    (1.21, 544, 448),
    (1.29, 576, 448),
    (1.38, 576, 416),
    (1.46, 608, 416),
    (1.67, 640, 384),
    (1.75, 672, 384),
    (2.0, 704, 352),
    (2.09, 736, 352),
    (2.4, 768, 320),
    (2.5, 800, 320),
    (3.0, 864, 288),
    (4.0, 1024, 256),
]);

static BINS_1024: Bins = Bins(&[
    (0.25, 512, 2048),
    (0.28, 512, 1856),
    (0.32, 576, 1792),
    (0.33, 576, 1728),
    (0.35, 576, 1664),
    (0.4, 640, 1600),
    (0.42, 640, 1536),
    (0.48, 704, 1472),
    (0.5, 704, 1408),
    (0.52, 704, 1344),
    (0.57, 768, 1344),
    (0.6, 768, 1280),
    (0.68, 832, 1216),
    (0.72, 832, 1152),
    (0.78, 896, 1152),
    (0.82, 896, 1088),
    (0.88, 960, 1088),
    (0.94, 960, 1024),
    (1.0, 1024, 1024),
    (1.07, 1024, 960),
    (1.13, 1088, 960),
    (1.21, 1088, 896),
    (1.29, 1152, 896),
    (1.38, 1152, 832),
    (1.46, 1216, 832),
    (1.67, 1280, 768),
    (1.75, 1344, 768),
    (2.0, 1408, 704),
    (2.09, 1472, 704),
    (2.4, 1536, 640),
    (2.5, 1600, 640),
    (3.0, 1728, 576),
    (4.0, 2048, 512),
]);

static BINS_2048: Bins = Bins(&[
    (0.25, 1024, 4096),
    (0.26, 1024, 3968),
    (0.27, 1024, 3840),
    (0.28, 1024, 3712),
    (0.32, 1152, 3584),
    (0.33, 1152, 3456),
    (0.35, 1152, 3328),
    (0.4, 1280, 3200),
    (0.42, 1280, 3072),
    (0.48, 1408, 2944),
    (0.5, 1408, 2816),
    (0.52, 1408, 2688),
    (0.57, 1536, 2688),
    (0.6, 1536, 2560),
    (0.68, 1664, 2432),
    (0.72, 1664, 2304),
    (0.78, 1792, 2304),
    (0.82, 1792, 2176),
    (0.88, 1920, 2176),
    (0.94, 1920, 2048),
    (1.0, 2048, 2048),
    (1.07, 2048, 1920),
    (1.13, 2176, 1920),
    (1.21, 2176, 1792),
    (1.29, 2304, 1792),
    (1.38, 2304, 1664),
    (1.46, 2432, 1664),
    (1.67, 2560, 1536),
    (1.75, 2688, 1536),
    (2.0, 2816, 1408),
    (2.09, 2944, 1408),
    (2.4, 3072, 1280),
    (2.5, 3200, 1280),
    (2.89, 3328, 1152),
    (3.0, 3456, 1152),
    (3.11, 3584, 1152),
    (3.62, 3712, 1024),
    (3.75, 3840, 1024),
    (3.88, 3968, 1024),
    (4.0, 4096, 1024),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_stay_square_and_ties_go_to_the_lower_ratio() {
        let bins = Bins::for_sample_size(PipelineClass::Alpha, 128).unwrap();
        let nearest = |width, height| bins.nearest(ImageSize::new(width, height).unwrap());
        assert_eq!(nearest(512, 512), ImageSize::new(1024, 1024).unwrap());
        // 3.5 is midway between 3.0 and 4.0, and exact in f64.
        assert_eq!(nearest(100, 350), ImageSize::new(576, 1728).unwrap());
    }

    #[test]
    fn only_the_published_sample_sizes_have_bins() {
        for sample_size in [0, 16, 127, 512] {
            for class in [PipelineClass::Alpha, PipelineClass::Sigma] {
                assert!(Bins::for_sample_size(class, sample_size).is_none());
            }
        }
        assert!(Bins::for_sample_size(PipelineClass::Alpha, 256).is_none());
    }

    #[test]
    fn every_bin_is_a_multiple_of_16_px_and_is_its_own_nearest() {
        for sample_size in [32, 64, 128, 256] {
            let bins = Bins::for_sample_size(PipelineClass::Sigma, sample_size).unwrap();
            for (ratio, size) in bins.entries() {
                assert!(size.check_multiple(16).is_ok(), "{size}");
                let found = f64::from(size.height_px()) / f64::from(size.width_px());
                assert!((ratio - found).abs() < 0.013, "{size}: {ratio} and {found}");
                assert_eq!(bins.nearest(size), size);
            }
        }
    }
}
