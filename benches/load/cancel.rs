//! The client of a large picture goes away in the middle of a step, or of the decoding: the worker is free within a second.

use std::time::{Duration, Instant};

use crate::client::{Connection, Drawing, JSON, ask};
use crate::report::{Report, middle_and_longest};
use crate::service::{Binary, Service};
use crate::statistics::longest;

const IN_STEPS: u32 = 10;
const IN_DECODING: u32 = 5;
const FREE: Duration = Duration::from_secs(1);
const DRAWING: Drawing = Drawing {
    side_px: 1024,
    steps: 4,
};

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&[]).await;
    let whole = ask(service.address(), &DRAWING.request(JSON)).await;
    let timings = &whole.ok().filter(|it| it.status == 200).unwrap().json()["data"][0]["timings"];
    let step = timings["steps_seconds"][2].as_f64().unwrap();
    let decoding = timings["vae_decode_seconds"].as_f64().unwrap();
    report.tell(
        "a picture of 1024x1024 px",
        &format!("a step takes {step:.2} s, decoding {decoding:.2} s"),
    );
    let rounds = (0..IN_STEPS)
        .map(|round| (round % DRAWING.steps, step))
        .chain((0..IN_DECODING).map(|_| (DRAWING.steps, decoding)));
    let mut times = Vec::new();
    for (after_steps, lasts) in rounds {
        times.push(cancel(&service, after_steps, Duration::from_secs_f64(lasts / 2.0)).await);
    }
    let (in_steps, in_decoding) = times.split_at(IN_STEPS as usize);
    for (name, times) in [("a step", in_steps), ("the decoding", in_decoding)] {
        let free: Vec<Duration> = times.iter().map(|times| times.free).collect();
        let drawn: Vec<Duration> = times.iter().map(|times| times.drawn).collect();
        report.hold(
            &format!(
                "client gone in the middle of {name}: until requests_running is 0 ({} times)",
                free.len()
            ),
            "each under 1 s",
            &middle_and_longest(&free),
            longest(&free) < FREE,
        );
        report.hold(
            "… and until the next small picture is answered",
            "each under 1 s",
            &middle_and_longest(&drawn),
            longest(&drawn) < FREE,
        );
    }
    let (words, holds) = service.samples_at_rest().await.conservation();
    report.hold(
        "jobs accepted = finished + running + waiting",
        "equal",
        &words,
        holds,
    );
}

/// Times from the moment when the client went.
struct Times {
    /// Until nothing runs.
    free: Duration,
    /// Until the next client has its picture.
    drawn: Duration,
}

/// Leaves so long after so many steps, and looks when the worker is free.
async fn cancel(service: &Service, after_steps: u32, later: Duration) -> Times {
    let before = service.samples_at_rest().await;
    let mut client = Connection::open(service.address()).await.unwrap();
    client.send(&DRAWING.request(JSON)).await.unwrap();
    loop {
        let now = service.samples().await;
        let is_drawn = now.of("requests_running") > 0;
        if is_drawn && now.since(&before, "denoise_steps_total") >= i64::from(after_steps) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(later).await;
    drop(client);
    let gone = Instant::now();
    while service.samples().await.of("requests_running") > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let free = gone.elapsed();
    let next = ask(service.address(), &Drawing::DEFAULT.request(JSON)).await;
    assert_eq!(next.ok().map(|answer| answer.status), Some(200));
    Times {
        free,
        drawn: gone.elapsed(),
    }
}
