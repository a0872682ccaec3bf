//! Five hundred requests at once: nine get a place, the others hear so at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::client::{Connection, Drawing, JSON, Outcome};
use crate::report::{Report, Tally, milliseconds, spread};
use crate::samples::Samples;
use crate::service::Binary;
use crate::statistics::longest;

const REQUESTS: usize = 500;
const CAPACITY: usize = 8;
const REFUSAL: Duration = Duration::from_millis(50);
/// More than a second each.
const DRAWING: Drawing = Drawing {
    side_px: 512,
    steps: 12,
};

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&[("QUEUE__CAPACITY", "8")]).await;
    let before = service.samples().await;

    // Connections are opened before: what is asked for is the service's answer, not five hundred handshakes of TCP.
    let together = Arc::new(Barrier::new(REQUESTS));
    let mut clients = JoinSet::new();
    let opening = Instant::now();
    let mut opened = Vec::new();
    for _ in 0..REQUESTS {
        opened.push(Connection::open(service.address()).await.unwrap());
    }
    let opening = opening.elapsed();
    for mut connection in opened {
        let together = Arc::clone(&together);
        clients.spawn(async move {
            let request = DRAWING.request(JSON);
            together.wait().await;
            connection.ask(&request).await
        });
    }
    let outcomes: Vec<Outcome> = clients.join_all().await;
    let after = service.samples_at_rest().await;

    let tally = Tally::of(&outcomes);
    report.hold(
        &format!("{REQUESTS} requests at once, room for 1 + {CAPACITY}"),
        &format!("{} × 200, {} × 429", CAPACITY + 1, REQUESTS - CAPACITY - 1),
        &tally.to_string(),
        tally.count("200") == CAPACITY + 1 && tally.count("429") == REQUESTS - CAPACITY - 1,
    );
    let refused: Vec<_> = outcomes
        .iter()
        .flatten()
        .filter(|answer| answer.status == 429)
        .collect();
    let advised = refused
        .iter()
        .filter_map(|answer| answer.header("retry-after")?.parse::<u64>().ok())
        .filter(|&seconds| seconds > 0)
        .count();
    report.hold(
        "refusals with Retry-After",
        "all",
        &format!("{advised} of {}", refused.len()),
        advised == refused.len(),
    );
    let times: Vec<Duration> = refused.iter().map(|answer| answer.took()).collect();
    report.hold(
        "a refusal, from sending to the last byte",
        &format!("each under {}", milliseconds(REFUSAL)),
        &spread(&times),
        longest(&times) < REFUSAL,
    );
    report.tell(
        "the 500 connections, opened one after the other before",
        &milliseconds(opening),
    );
    let (words, holds) = after.conservation();
    report.hold(
        "jobs accepted = finished + running + waiting",
        "equal",
        &words,
        holds,
    );
    adds_up(&before, &after, report);
}

/// Every request is counted once, by how it ended.
fn adds_up(before: &Samples, after: &Samples, report: &mut Report) {
    let ok = after.since(before, r#"requests_total{outcome="ok"}"#);
    let full = after.since(before, r#"requests_total{outcome="queue_full"}"#);
    let all = after.sum("requests_total") - before.sum("requests_total");
    let [places, refusals, requests] = [CAPACITY + 1, REQUESTS - CAPACITY - 1, REQUESTS]
        .map(|count| i64::try_from(count).unwrap());
    report.hold(
        "requests_total by outcome",
        &format!("{places} ok + {refusals} queue_full = {requests}"),
        &format!("{ok} ok + {full} queue_full of {all}"),
        [ok, full, all] == [places, refusals, requests],
    );
}
