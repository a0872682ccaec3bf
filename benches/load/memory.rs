//! Two thousand pictures of all faces, some of them given up: memory, threads and descriptors stay what they were.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::arrivals::Dice;
use crate::client::{Connection, Drawing, EVENTS, JSON, Lost, Outcome, ask, get, post};
use crate::report::{Report, Tally, mebibytes};
use crate::service::Binary;
use crate::statistics::slope;

/// Pictures between two looks.
const BATCH: usize = 20;
const BATCHES: usize = 100;
/// Clients at once.
const CLIENTS: usize = 4;
/// Of memory for each thousand pictures.
const SLOPE_BYTES: f64 = 1024.0 * 1024.0;
/// The service keeps as few finished jobs as are full long before the second half begins.
const KEPT: (&str, &str) = ("JOBS__MAX_KEPT", "16");

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&[KEPT]).await;
    let mut points = Vec::new();
    let mut tally = Tally::default();
    let mut middle = (0, 0);
    for batch in 0..BATCHES {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let address = service.address();
            clients.spawn(async move {
                let mut done = Vec::new();
                for number in (client..BATCH).step_by(CLIENTS) {
                    done.push(picture(address, batch * BATCH + number).await);
                }
                done
            });
        }
        clients
            .join_all()
            .await
            .iter()
            .flatten()
            .for_each(|done| tally.add(done));
        service.samples_at_rest().await;
        points.push((((batch + 1) * BATCH) as f64 / 1e3, service.resident_bytes()));
        if batch == BATCHES / 2 {
            middle = (service.threads(), service.descriptors().await);
        }
    }
    report.hold(
        &format!("{} pictures of all faces and formats", BATCH * BATCHES),
        "200, or given up",
        &tally.to_string(),
        tally.is_only(&["200", "given up"]),
    );
    let half = &points[BATCHES / 2..];
    let found = slope(half);
    report.hold(
        "resident memory, by the line that fits the second half",
        &format!("under {} in 1,000 pictures", mebibytes(SLOPE_BYTES)),
        &format!(
            "{} ({} at the first look, {} in the middle, {} at the end)",
            mebibytes(found),
            mebibytes(points[0].1),
            mebibytes(half[0].1),
            mebibytes(half[half.len() - 1].1)
        ),
        found < SLOPE_BYTES,
    );
    let end = (service.threads(), service.descriptors().await);
    report.hold(
        "threads and file descriptors at rest",
        "the same in the middle and at the end",
        &format!(
            "{} and {}, then {} and {}",
            middle.0, middle.1, end.0, end.1
        ),
        middle == end,
    );
}

/// One picture, by the face whose turn it is. Returns what came of it.
async fn picture(address: SocketAddr, number: usize) -> String {
    let drawing = Drawing::DEFAULT;
    let outcome = match number % 10 {
        0 => ask(address, &drawing.request(JSON)).await,
        1 => ask(address, &drawing.request("image/png")).await,
        2 => ask(address, &drawing.request("image/jpeg")).await,
        3 => ask(address, &drawing.request("image/webp")).await,
        4 => ask(address, &drawing.request(EVENTS)).await,
        5 => {
            let body = json!({"prompt": "A big red rocket flying in outer space", "stream": true, "partial_images": 2});
            ask(address, &post("/v1/images/generations", EVENTS, &body)).await
        }
        6 => {
            let body = json!({"prompt": "A green tree in winter, night", "output_format": "jpeg", "user": "load"});
            ask(address, &post("/v1/images/generations", JSON, &body)).await
        }
        7 | 8 => job(address).await,
        _ => return give_up(address, number).await,
    };
    match outcome {
        Ok(answer) => answer.status.to_string(),
        Err(lost) => lost.to_string(),
    }
}

/// Makes a job, waits for it by its events, and fetches its picture, which is kept then.
async fn job(address: SocketAddr) -> Outcome {
    let body =
        json!({"prompt": "a white sailboat on the ocean at sunset", "output_format": "webp"});
    let made = ask(address, &post("/v1/jobs", JSON, &body)).await?;
    let status: Value = made.json();
    let Some(id) = status["id"].as_str() else {
        return Ok(made);
    };
    ask(address, &get(&format!("/v1/jobs/{id}/events"))).await?;
    ask(address, &get(&format!("/v1/jobs/{id}/images/0"))).await
}

/// Leaves while the picture waits or is drawn.
async fn give_up(address: SocketAddr, number: usize) -> String {
    let patience = Dice::new(number as u64).time(Duration::from_millis(100));
    let left: Result<(), Lost> = async {
        let mut connection = Connection::open(address).await?;
        connection.send(&Drawing::DEFAULT.request(JSON)).await?;
        tokio::time::sleep(patience).await;
        Ok(())
    }
    .await;
    left.err()
        .map_or("given up".to_owned(), |lost| lost.to_string())
}
