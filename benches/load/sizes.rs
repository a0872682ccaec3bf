//! Three hundred sizes, each drawn once: what the runtime prepares for a size does not stay for ever.

use serde_json::json;

use crate::arrivals::Dice;
use crate::client::{ask, post};
use crate::report::{Report, Tally, mebibytes};
use crate::service::Binary;

/// Sizes of each round.
const COUNT: usize = 300;
/// After so many the caches of all networks are full.
const WARM: usize = 50;
/// How far memory may grow from there on. By the default cache it would be more than a gigabyte.
const GROWTH_BYTES: f64 = 48.0 * 1024.0 * 1024.0;
/// Sides in pixels: small, so that the images themselves take little time and memory.
const SIDES: std::ops::RangeInclusive<usize> = 4..=27;
const STEP_PX: usize = 16;

pub async fn run(binary: &Binary, report: &mut Report) {
    for (what, decoder, guidance_scale) in [
        ("full decoder", "full", 0.0),
        ("full decoder, guided", "full", 3.0),
        ("tiny decoder", "tiny", 0.0),
        ("tiny decoder, guided", "tiny", 3.0),
    ] {
        let service = binary.serve(&[]).await;
        let mut tally = Tally::default();
        let mut warm = 0.0;
        for (number, (width, height)) in sizes().into_iter().take(COUNT).enumerate() {
            if number == WARM {
                service.samples_at_rest().await;
                warm = service.resident_bytes();
            }
            let body = json!({
                "prompt": "a", "seed": 1, "steps": 1, "width": width, "height": height,
                "decoder": decoder, "guidance_scale": guidance_scale,
            });
            let outcome = ask(service.address(), &post("/v1/images", "image/png", &body)).await;
            tally.add(&match outcome {
                Ok(answer) => answer.status.to_string(),
                Err(lost) => lost.to_string(),
            });
        }
        report.hold(
            &format!("{COUNT} sizes, {what}"),
            "200",
            &tally.to_string(),
            tally.is_only(&["200"]),
        );
        service.samples_at_rest().await;
        let end = service.resident_bytes();
        report.hold(
            &format!("resident memory after {WARM} of them, and after all"),
            &format!("{} more at most", mebibytes(GROWTH_BYTES)),
            &format!("{}, then {}", mebibytes(warm), mebibytes(end)),
            end - warm < GROWTH_BYTES,
        );
    }
}

/// All sizes of the sides, the largest first so that what images themselves need is there from the start, the others in an order that is
/// the same every time.
fn sizes() -> Vec<(usize, usize)> {
    let mut sizes: Vec<(usize, usize)> = SIDES
        .flat_map(|width| SIDES.map(move |height| (width * STEP_PX, height * STEP_PX)))
        .collect();
    let mut dice = Dice::new(2);
    let last = sizes.len() - 1;
    for index in 0..last {
        let other = dice.below(index as u64 + 1);
        sizes.swap(index, usize::try_from(other).unwrap());
    }
    sizes.swap(0, last);
    sizes
}
