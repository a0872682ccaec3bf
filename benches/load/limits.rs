//! Little memory: sizes of all kinds under a limit, one after the other and all at once. Each is drawn, or refused in words, and the
//! service lives.
//!
//! The limit is that of the settings, which needs no rights. Under a control group of the same size the kernel would end what exceeds it;
//! here the high-water mark says whether it would have.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Outcome, ask, post};
use crate::report::{Report, Tally, mebibytes};
use crate::service::Binary;

/// Memory limits in MiB.
const LIMITS: [&str; 3] = ["2048", "1024", "512"];
/// From the smallest to the largest that the default settings allow, wide ones and tall ones, and small ones again.
const SIZES: [&str; 14] = [
    "64x64",
    "256x256",
    "272x528",
    "512x512",
    "768x768",
    "1024x512",
    "2048x256",
    "64x2048",
    "1024x1024",
    "1408x1408",
    "2048x1024",
    "2048x2048",
    "512x512",
    "256x256",
];

pub async fn run(binary: &Binary, report: &mut Report) {
    for limit in LIMITS {
        let service = binary
            .serve(&[("LIMITS__MEMORY_MIB", limit), ("QUEUE__CAPACITY", "100")])
            .await;
        let address = service.address();
        let mut singly = Tally::default();
        for body in bodies() {
            singly.add(&answer(
                &ask(address, &post("/v1/images", "image/png", &body)).await,
            ));
        }
        let mut clients = JoinSet::new();
        for body in bodies() {
            clients.spawn(async move {
                answer(&ask(address, &post("/v1/images", "image/png", &body)).await)
            });
        }
        let mut at_once = Tally::default();
        for what in clients.join_all().await {
            at_once.add(&what);
        }
        for (how, tally) in [("one by one", &singly), ("all at once", &at_once)] {
            report.hold(
                &format!("{limit} MiB, {how}"),
                "200, or 422 in words",
                &tally.to_string(),
                tally.is_only(&["200", "422 too_large_for_memory", "422 too_costly"])
                    && tally.count("200") > 0,
            );
        }
        let samples = service.samples_at_rest().await;
        let peak = samples.of("memory_peak_bytes") as f64;
        let most = samples.of("memory_limit_bytes") as f64;
        report.hold(
            "the most that was resident",
            &mebibytes(most),
            &mebibytes(peak),
            peak <= most,
        );
        let restarts = samples.sum("worker_restarts_total");
        report.hold(
            "restarts of the worker",
            "0",
            &restarts.to_string(),
            restarts == 0,
        );
    }
}

/// Every size by each decoder, and guided.
fn bodies() -> Vec<Value> {
    let mut bodies = Vec::new();
    for (decoder, guidance_scale) in [("full", 0.0), ("tiny", 0.0), ("full", 3.0)] {
        bodies.extend(SIZES.map(|size| {
            json!({
                "prompt": "a", "seed": 1, "steps": 1, "size": size,
                "decoder": decoder, "guidance_scale": guidance_scale,
            })
        }));
    }
    bodies
}

/// The status, and the code where it is a refusal.
fn answer(outcome: &Outcome) -> String {
    match outcome {
        Ok(answer) if answer.status == 200 => "200".to_owned(),
        Ok(answer) => {
            let code = answer.json()["error"]["code"].clone();
            format!("{} {}", answer.status, code.as_str().unwrap_or_default())
        }
        Err(lost) => lost.to_string(),
    }
}
