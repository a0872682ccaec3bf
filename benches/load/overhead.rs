//! What the service adds to the inference: HTTP, parsing, the hop to the worker and back, pixels to a file, the answer.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Answer, Connection, Drawing, JSON};
use crate::report::{Report, milliseconds};
use crate::service::Binary;
use crate::statistics::quantile;

const PICTURES: usize = 200;
const WARM_UP: usize = 20;
const OVERHEAD: Duration = Duration::from_millis(5);
const PNG: &str = "image/png";
/// The networks' own time.
const INFERENCE: [&str; 3] = ["text_encode", "denoise", "vae_decode"];
/// What else the service tells the time of.
const TOLD: [&str; 3] = ["queue", "tokenize", "png_encode"];

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&[]).await;
    for accept in [JSON, PNG] {
        let mut connection = Connection::open(service.address()).await.unwrap();
        let mut overheads = Vec::new();
        let mut parts: [Vec<Duration>; TOLD.len()] = Default::default();
        let mut rests = Vec::new();
        for picture in 0..WARM_UP + PICTURES {
            let answer = connection.ask(&Drawing::DEFAULT.request(accept)).await;
            let answer = answer.ok().filter(|it| it.status == 200).unwrap();
            if picture < WARM_UP {
                continue;
            }
            let stage = |name: &str| time_of(&answer, name);
            let inference: Duration = INFERENCE.into_iter().map(stage).sum();
            let told: Duration = TOLD.into_iter().map(stage).sum();
            for (part, name) in parts.iter_mut().zip(TOLD) {
                part.push(stage(name));
            }
            let overhead = answer.took().saturating_sub(inference);
            rests.push(overhead.saturating_sub(told));
            overheads.push(overhead);
        }
        report.hold(
            &format!("{accept}: the client's time without the inference ({PICTURES} pictures of 256x256 px)"),
            &format!("median under {}", milliseconds(OVERHEAD)),
            &both(&overheads),
            quantile(&overheads, 0.5) < OVERHEAD,
        );
        let names = TOLD.into_iter().chain(["HTTP, parsing, hops, the answer"]);
        let found: Vec<String> = names
            .zip(parts.iter().chain([&rests]))
            .map(|(name, times)| format!("{name}: {}", both(times)))
            .collect();
        report.tell("… of which", &found.join("; "));
    }
}

fn both(times: &[Duration]) -> String {
    let [p50, p95] = [0.5, 0.95].map(|part| milliseconds(quantile(times, part)));
    format!("p50 {p50}, p95 {p95}")
}

/// A stage as `Server-Timing` tells it, which answers of both kinds have: `name;dur=MILLISECONDS, …`. JSON must tell the same.
fn time_of(answer: &Answer, stage: &str) -> Duration {
    let header = answer.header("server-timing").unwrap();
    let entry = header.split(", ").find_map(|entry| {
        let (name, time) = entry.split_once(";dur=")?;
        (name == stage).then(|| time.parse::<f64>().unwrap() / 1e3)
    });
    let seconds = entry.unwrap_or_default();
    if answer.header("content-type") == Some(JSON) {
        let told: &Value = &answer.json()["data"][0]["timings"][format!("{stage}_seconds")];
        let differs = told
            .as_f64()
            .is_some_and(|told| (told - seconds).abs() > 1e-4);
        assert!(!differs, "{stage}: {header} against {told} in JSON");
    }
    Duration::from_secs_f64(seconds)
}
