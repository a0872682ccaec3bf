//! A comparison in words, for a terminal.

use std::fmt::Write as _;

use super::Report;
use crate::bench::comparison_table;

/// Everything of the report as Markdown tables.
pub fn table(report: &Report) -> String {
    let (a, b) = (&report.models.a, &report.models.b);
    let mut text = format!(
        "a: {}, weights {}, {}\nb: {}, weights {}, {}\n\n| megabytes | a | b | times smaller |\n|---|--:|--:|--:|\n",
        a.name, a.weights, a.precision, b.name, b.weights, b.precision
    );
    for size in &report.sizes {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.3} |",
            size.component,
            megabytes(size.bytes.a),
            megabytes(size.bytes.b),
            size.ratio
        );
    }
    if !report.pictures.is_empty() {
        text.push_str(
            "\n| prompt | PSNR | SSIM | cosine of the latents, step by step |\n|---|--:|--:|---|\n",
        );
    }
    for picture in &report.pictures {
        let cosines: Vec<String> = picture
            .latents_cosine
            .iter()
            .map(|cosine| format!("{cosine:.4}"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {:.1} dB | {} | {} |",
            picture.prompt.replace('|', "\\|"),
            picture.psnr_db,
            similarity(picture.ssim),
            cosines.join(" ")
        );
    }
    if let Some(quality) = &report.quality {
        let _ = writeln!(
            text,
            "| the median | {:.1} dB | {} | {:.4} |\n| the least | {:.1} dB | | |",
            quality.median_psnr_db,
            similarity(quality.median_ssim),
            quality.median_latents_cosine,
            quality.least_psnr_db
        );
    }
    if let Some(times) = &report.times {
        let _ = write!(
            text,
            "\nb against a, by turns: above 1, b is faster\n\n{}",
            comparison_table(times)
        );
    }
    text
}

/// As tables have it.
pub(super) fn similarity(ssim: Option<f64>) -> String {
    ssim.map_or_else(|| "–".to_owned(), |ssim| format!("{ssim:.4}"))
}
