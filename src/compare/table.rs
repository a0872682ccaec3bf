//! A comparison in words, for a terminal.

use std::fmt::Write as _;

use super::{ModelReport, Pair, Report, Score};
use crate::bench::comparison_table;

/// Everything of the report as Markdown tables.
pub fn table(report: &Report) -> String {
    let (a, b) = (&report.models.a, &report.models.b);
    let mut text = format!(
        "a: {}\nb: {}\n\n| megabytes | a | b | times smaller |\n|---|--:|--:|--:|\n",
        head(a),
        head(b)
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
    if let Some(scores) = &report.scores {
        let _ = writeln!(
            text,
            "\n| captions followed, of {} | a | b | points |\n|---|--:|--:|--:|",
            scores.a.all_three.of
        );
        for (name, a, b) in share_rows(scores) {
            let _ = writeln!(text, "| {name} | {a:.1} % | {b:.1} % | {:+.1} |", b - a);
        }
    }
    if let Some(times) = &report.times {
        let _ = write!(
            text,
            "\nb against a, by turns: above 1, b is faster\n\n{}",
            comparison_table(times, ["b", "a"])
        );
    }
    text
}

fn head(model: &ModelReport) -> String {
    let mut text = format!(
        "{}, weights {}, {}",
        model.name, model.weights, model.precision
    );
    if model.decoder != "full" {
        let _ = write!(text, ", {} decoder", model.decoder);
    }
    text
}

/// Each property of the scores: its name, and the share of both in per cent.
pub(super) fn share_rows(scores: &Pair<Score>) -> impl Iterator<Item = (&'static str, f64, f64)> {
    let both = scores.a.shares().into_iter().zip(scores.b.shares());
    both.map(|((name, a), (_, b))| (name, a.percent(), b.percent()))
}

/// As tables have it.
pub(super) fn similarity(ssim: Option<f64>) -> String {
    ssim.map_or_else(|| "–".to_owned(), |ssim| format!("{ssim:.4}"))
}
