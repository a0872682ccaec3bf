//! A minute of ten times what the service can draw: it goes on drawing as much as it can, and health stays awake.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::arrivals::{capacity, open_loop, per_second};
use crate::client::{Answer, Connection, Drawing, JSON, Outcome, ask, get};
use crate::report::{Report, Tally, mebibytes, milliseconds, spread};
use crate::service::{Binary, Service};
use crate::statistics::quantile;

const TIME: Duration = Duration::from_secs(60);
/// How long the capacity is measured.
const MEASURE: Duration = Duration::from_secs(10);
const TIMES_CAPACITY: f64 = 10.0;
const GOODPUT: f64 = 0.95;
const HEALTH: Duration = Duration::from_millis(250);
const PROBE: Duration = Duration::from_millis(50);
/// More memory than this the refused ones must not take, all together.
const GROWTH_BYTES: f64 = 32.0 * 1024.0 * 1024.0;
const DRAWING: Drawing = Drawing {
    side_px: 256,
    steps: 8,
};

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&[]).await;
    let address = service.address();
    let capacity_before = capacity(address, DRAWING, MEASURE).await;
    let resident_before = service.resident_bytes();

    let arrivals = open_loop(
        TIMES_CAPACITY * capacity_before,
        TIME,
        move |_| async move { ask(address, &DRAWING.request(JSON)).await },
    );
    let (outcomes, health, peak) = tokio::join!(arrivals, probes(address), peak(&service));
    let capacity_after = capacity(address, DRAWING, MEASURE / 2).await;

    let tally = Tally::of(&outcomes);
    report.hold(
        &format!(
            "{} requests in {} s, 10 × the capacity",
            outcomes.len(),
            TIME.as_secs()
        ),
        "answered 200 or 429",
        &tally.to_string(),
        tally.is_only(&["200", "429"]),
    );
    let drawn = outcomes.iter().flatten().filter(|it| it.status == 200);
    let goodput = per_second(drawn.map(|answer| answer.arrived));
    report.hold(
        "pictures a second, of the capacity measured before in a closed loop",
        &format!("at least {GOODPUT}"),
        &format!(
            "{:.3} ({goodput:.2} of {capacity_before:.2}; {capacity_after:.2} after)",
            goodput / capacity_before
        ),
        goodput >= GOODPUT * capacity_before,
    );
    let refusals: Vec<Duration> = outcomes
        .iter()
        .flatten()
        .filter(|answer| answer.status == 429)
        .map(Answer::took)
        .collect();
    report.tell("a refusal meanwhile", &spread(&refusals));
    let well = Tally::of(&health);
    report.hold(
        "/healthz every 50 ms, on kept and on fresh connections",
        "all 200",
        &well.to_string(),
        well.is_only(&["200"]),
    );
    let times: Vec<Duration> = health.iter().flatten().map(Answer::took).collect();
    report.hold(
        "/healthz while both cores infer",
        &format!("p99 under {}", milliseconds(HEALTH)),
        &spread(&times),
        quantile(&times, 0.99) < HEALTH,
    );
    report.hold(
        "memory beyond that of the closed loop",
        &format!("under {}", mebibytes(GROWTH_BYTES)),
        &mebibytes(peak - resident_before),
        peak - resident_before < GROWTH_BYTES,
    );
}

/// Probes by the clock, every second one on a connection of its own. A fresh one's time contains the handshake.
async fn probes(address: SocketAddr) -> Vec<Outcome> {
    let mut probes = JoinSet::new();
    let kept = std::sync::Arc::new(tokio::sync::Mutex::new(
        Connection::open(address).await.unwrap(),
    ));
    let start = tokio::time::Instant::now();
    for number in 0.. {
        let due = start + PROBE * number;
        if due - start >= TIME {
            break;
        }
        tokio::time::sleep_until(due).await;
        let kept = (number % 2 == 0).then(|| std::sync::Arc::clone(&kept));
        probes.spawn(async move {
            let outcome = match kept {
                Some(kept) => kept.lock().await.ask(&get("/healthz")).await,
                None => ask(address, &get("/healthz")).await,
            };
            // What an earlier probe or the handshake took is part of it.
            outcome.map(|mut answer| {
                answer.sent = due.into_std();
                answer
            })
        });
    }
    probes.join_all().await
}

/// The most memory that was resident at once.
async fn peak(service: &Service) -> f64 {
    let mut peak: f64 = 0.0;
    let last = tokio::time::Instant::now() + TIME;
    while tokio::time::Instant::now() < last {
        peak = peak.max(service.resident_bytes());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    peak
}
