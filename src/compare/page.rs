//! A comparison as one HTML file that opens anywhere: no script, nothing from the network, pictures inside.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::table::{share_rows, similarity};
use super::{ModelReport, Report};
use crate::bench::Spread;
use crate::shown::is_obeyed;

const STYLE: &str = "
:root { color-scheme: light dark; --quiet: #6b7280; --line: #d9dce1; }
@media (prefers-color-scheme: dark) { :root { --quiet: #9aa1ac; --line: #363b43; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p { margin: 0; }
.quiet, figcaption span, th { color: var(--quiet); font-weight: 400; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0 0 2rem; }
figure div { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem; }
img { width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { margin-top: .5rem; }
figcaption span { display: block; }
@media (max-width: 40rem) {
  table { font-size: .85rem; }
  th, td { padding-right: .4rem; white-space: normal; }
}
";

/// The page. `pictures`: the PNG files of both models for each prompt of the report, in its order.
pub fn page(report: &Report, pictures: &[(Vec<u8>, Vec<u8>)]) -> String {
    let (a, b) = (&report.models.a, &report.models.b);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{a} and {b}</title>\n<style>{STYLE}</style>\n<h1>{a} and {b}</h1>\n\
         <p class=\"quiet\">{cpu}, {cores} cores · pixart {pixart} · OpenVINO {openvino}</p>\n",
        a = escaped(&a.name),
        b = escaped(&b.name),
        cpu = escaped(&report.machine.cpu),
        cores = report.machine.cores,
        pixart = escaped(&report.pixart),
        openvino = escaped(&report.openvino),
    );
    html.push_str("<h2>Models</h2>\n");
    rows(
        &mut html,
        &["", "weights", "arithmetic", "decoder", "digest"],
        [("a", a), ("b", b)].map(|(name, model)| model_row(name, model)),
    );
    html.push_str("<h2>Size</h2>\n");
    let megabytes = |bytes: u64| format!("{:.1}\u{a0}MB", bytes as f64 / 1e6);
    rows(
        &mut html,
        &["", "a", "b", "times smaller"],
        report.sizes.iter().map(|size| {
            vec![
                size.component.replace('_', " "),
                megabytes(size.bytes.a),
                megabytes(size.bytes.b),
                format!("{:.3}", size.ratio),
            ]
        }),
    );
    if let Some(times) = &report.times {
        html.push_str("<h2>Time, by turns</h2>\n");
        rows(
            &mut html,
            &["", "a", "b", "times faster", "pair by pair"],
            times.ratios.iter().map(|ratio| {
                let pairs: Vec<String> = ratio.pairs.iter().map(|p| format!("{p:.2}")).collect();
                let seconds = |values: &[f64]| format!("{:.3}\u{a0}s", Spread::of(values).median);
                vec![
                    format!("{}, {}", ratio.stage.replace('_', " "), ratio.size),
                    seconds(&ratio.against_seconds),
                    seconds(&ratio.seconds),
                    format!("{:.2}", ratio.median),
                    pairs.join(" "),
                ]
            }),
        );
    }
    if let Some(scores) = &report.scores {
        let _ = writeln!(
            html,
            "<h2>Captions followed, of {}</h2>",
            scores.a.all_three.of
        );
        rows(
            &mut html,
            &["", "a", "b", "points"],
            share_rows(scores).map(|(name, a, b)| {
                vec![
                    name.to_owned(),
                    format!("{a:.1}\u{a0}%"),
                    format!("{b:.1}\u{a0}%"),
                    format!("{:+.1}", b - a),
                ]
            }),
        );
    }
    if let Some(quality) = &report.quality {
        let _ = write!(
            html,
            "<h2>Pictures</h2>\n<p>Median {:.1} dB, least {:.1} dB; median SSIM {}; median cosine of the last latents {:.4}.</p>\n\
             <p class=\"quiet\">Left a, right b, from the same noise.</p><br>\n",
            quality.median_psnr_db,
            quality.least_psnr_db,
            similarity(quality.median_ssim),
            quality.median_latents_cosine
        );
    }
    for (picture, (one, other)) in report.pictures.iter().zip(pictures) {
        let prompt = escaped(&picture.prompt);
        let image = |png: &[u8], model: &str| {
            format!(
                "<img alt=\"{prompt}, drawn by {model}\" src=\"data:image/png;base64,{}\">",
                STANDARD.encode(png)
            )
        };
        let _ = writeln!(
            html,
            "<figure><div>{}{}</div><figcaption>{prompt}<span>seed {} · {:.1} dB · SSIM {}</span></figcaption></figure>",
            image(one, "a"),
            image(other, "b"),
            picture.seed,
            picture.psnr_db,
            similarity(picture.ssim)
        );
    }
    html.push_str("</html>\n");
    html
}

fn model_row(name: &str, model: &ModelReport) -> Vec<String> {
    vec![
        format!("{name}: {}", model.name),
        model.weights.clone(),
        model.precision.clone(),
        model.decoder.clone(),
        model.digest.chars().take(8).collect(),
    ]
}

/// A table; cells are text.
fn rows(html: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    html.push_str("<div class=\"scroll\"><table>\n<tr>");
    for cell in head {
        let _ = write!(html, "<th>{}</th>", escaped(cell));
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escaped(&cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
}

fn escaped(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, character| {
            match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                // A browser turns text around at some of them.
                other if is_obeyed(other) => out.extend(other.escape_unicode()),
                other => out.push(other),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Machine;
    use crate::compare::{Pair, PictureReport, QualityFigures, SCHEMA};

    #[test]
    fn a_page_needs_nothing_from_outside_and_takes_no_prompt_for_markup() {
        let model = |name: &str| ModelReport {
            name: name.to_owned(),
            weights: "f16".to_owned(),
            digest: "0123456789abcdef".to_owned(),
            precision: "bf16".to_owned(),
            decoder: "full".to_owned(),
        };
        let pictures = vec![PictureReport {
            prompt: "<script>alert(\"boo\")</script>".to_owned(),
            seed: 7,
            psnr_db: 31.25,
            ssim: Some(0.98765),
            latents_cosine: vec![0.999],
        }];
        let report = Report {
            schema: SCHEMA,
            machine: Machine::here(),
            pixart: "0.1.0".to_owned(),
            openvino: "2026.4.1".to_owned(),
            models: Pair {
                a: model("original"),
                b: model("small & fast \u{1b}[31m\u{202e}"),
            },
            sizes: Vec::new(),
            quality: QualityFigures::of(&pictures),
            pictures,
            scores: None,
            times: None,
        };
        let html = page(&report, &[(b"one".to_vec(), b"other".to_vec())]);
        assert!(
            html.contains("&lt;script&gt;alert(&quot;boo&quot;)"),
            "{html}"
        );
        assert!(!html.contains("<script"));
        assert!(!html.contains("http"), "nothing comes from the network");
        assert!(html.contains("original and small &amp; fast \\u{1b}[31m\\u{202e}"));
        assert!(html.contains("data:image/png;base64,b25l\""));
        assert!(html.contains("seed 7 · 31.2 dB · SSIM 0.9877") || html.contains("31.3 dB"));
    }
}
