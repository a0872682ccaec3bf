//! Half of the clients go away at random moments: what is drawn for them stops, and the others do not suffer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::arrivals::{Dice, capacity, open_loop};
use crate::client::{Connection, Drawing, EVENTS, JSON, Lost, Outcome, ask, find};
use crate::report::{Report, Tally};
use crate::service::Binary;

const TIME: Duration = Duration::from_secs(30);
const MEASURE: Duration = Duration::from_secs(5);
const GOODPUT: f64 = 0.95;
const DRAWING: Drawing = Drawing {
    side_px: 256,
    steps: 8,
};

/// What a client that leaves has seen.
enum Left {
    /// So many of its picture's steps, then it left.
    After(i64),
    /// It was answered before it could leave.
    Answered,
    /// The service closed first, or refused.
    Lost,
}

enum Client {
    Stayed(Outcome),
    Left(Left),
}

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&[]).await;
    let address = service.address();
    let rate = capacity(address, DRAWING, MEASURE).await;
    let picture = Duration::from_secs_f64(1.0 / rate);
    let before = service.samples_at_rest().await;
    let mut dice = Dice::new(2);
    let clients = open_loop(rate, TIME, move |number| {
        let patience = dice.time(2 * picture);
        async move {
            if number.is_multiple_of(2) {
                Client::Stayed(ask(address, &DRAWING.request(JSON)).await)
            } else {
                Client::Left(leave(address, patience).await.unwrap_or(Left::Lost))
            }
        }
    })
    .await;
    let after = service.samples_at_rest().await;

    let mut stayed = Vec::new();
    let (mut left, mut seen) = (0, 0);
    let mut leavers = Tally::default();
    for client in clients {
        match client {
            Client::Stayed(outcome) => stayed.push(outcome),
            Client::Left(Left::After(steps)) => {
                left += 1;
                seen += steps;
                leavers.add("left");
            }
            Client::Left(Left::Answered) => leavers.add("answered before"),
            Client::Left(Left::Lost) => leavers.add("refused"),
        }
    }
    report.tell(
        &format!("the half that leaves, at {rate:.2} requests a second"),
        &leavers.to_string(),
    );
    let tally = Tally::of(&stayed);
    let answered = tally.count("200") as f64 / stayed.len() as f64;
    report.hold(
        "pictures of those who stay",
        &format!("at least {GOODPUT} of them"),
        &format!("{answered:.3} ({tally})"),
        answered >= GOODPUT,
    );

    let steps = i64::from(DRAWING.steps);
    let run = after.since(&before, "denoise_steps_total");
    let saved = after.since(&before, "steps_saved_by_cancel_total");
    let drawn = after.since(&before, r#"jobs_finished_total{outcome="succeeded"}"#);
    let cancelled = after.since(&before, r#"jobs_finished_total{outcome="cancelled"}"#);
    report.hold(
        "steps run + steps saved = steps of all jobs",
        "equal",
        &format!("{run} + {saved} = {}", steps * (drawn + cancelled)),
        run + saved == steps * (drawn + cancelled),
    );
    // Where the picture was finished as its client left, its steps are not among those of the cancelled ones.
    let finished_anyway = left - cancelled;
    let wasted = run - steps * drawn - (seen - steps * finished_anyway);
    report.hold(
        "steps run after their client had left",
        "at most one each",
        &format!("{wasted} for {cancelled} cancelled"),
        wasted <= cancelled && finished_anyway >= 0,
    );
    let (words, holds) = after.conservation();
    report.hold(
        "jobs accepted = finished + running + waiting",
        "equal",
        &words,
        holds,
    );
}

/// Follows the picture's events and closes the connection when patience ends.
async fn leave(address: SocketAddr, patience: Duration) -> Result<Left, Lost> {
    let last = Instant::now() + patience;
    let mut connection = Connection::open(address).await?;
    connection.send(&DRAWING.request(EVENTS)).await?;
    let mut read = Vec::new();
    while let Ok(more) = tokio::time::timeout_at(last.into(), connection.more(&mut read)).await {
        more?;
        if find(&read, b"event: completed").is_some() {
            return Ok(Left::Answered);
        }
        if find(&read, b" 429 ").is_some() {
            return Ok(Left::Lost);
        }
    }
    let steps = read.windows(12).filter(|it| it == b"event: step\n");
    Ok(Left::After(i64::try_from(steps.count()).unwrap()))
}
