//! SIGTERM at random moments under random load: everybody who had asked is answered, and the process ends in time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::arrivals::Dice;
use crate::client::{Connection, Drawing, JSON, Outcome};
use crate::report::{Report, Tally, middle_and_longest, milliseconds};
use crate::service::Binary;
use crate::statistics::longest;

const ROUNDS: u64 = 20;
const GRACE: Duration = Duration::from_secs(2);
/// Beyond the grace period.
const LEAVING: Duration = Duration::from_secs(1);
/// Requests come within this time, and the signal too.
const WINDOW: Duration = Duration::from_millis(1500);
/// Those who wait when the signal comes are told so long after it at most.
const TOLD: Duration = Duration::from_millis(250);
/// One place to draw and eight to wait.
const MOST_REQUESTS: u64 = 9;
/// Fits into the grace period.
const SHORT: Drawing = Drawing {
    side_px: 512,
    steps: 4,
};
/// Does not.
const LONG: Drawing = Drawing {
    side_px: 1024,
    steps: 16,
};

/// One request, and when it was sent.
struct Sent {
    at: Option<Instant>,
    outcome: Outcome,
}

pub async fn run(binary: &Binary, report: &mut Report) {
    let mut dice = Dice::new(3);
    let (mut before, mut after) = (Tally::default(), Tally::default());
    let (mut exits, mut codes) = (Vec::new(), Tally::default());
    let mut told = Vec::new();
    let mut most_drawn = 0;
    for round in 0..ROUNDS {
        let drawing = if round.is_multiple_of(2) { SHORT } else { LONG };
        let mut service = binary.serve(&[("SERVER__GRACE_SECONDS", "2")]).await;
        let mut clients = JoinSet::new();
        for number in 0..=dice.below(MOST_REQUESTS) {
            let at = if number == 0 {
                Duration::ZERO
            } else {
                dice.time(WINDOW)
            };
            clients.spawn(client(service.address(), drawing, at));
        }
        tokio::time::sleep(dice.time(WINDOW)).await;
        let signal = Instant::now();
        service.terminate();
        let status = service.ended(GRACE + 5 * LEAVING).await;
        exits.push(signal.elapsed());
        codes.add(&match status.map(|status| status.code()) {
            Some(Some(code)) => format!("code {code}"),
            Some(None) => "killed".to_owned(),
            None => "still running".to_owned(),
        });
        let sent = clients.join_all().await;
        let (asked, late): (Vec<_>, Vec<_>) = sent
            .into_iter()
            .partition(|sent| sent.at.is_some_and(|at| at < signal));
        for sent in &asked {
            before.add(&name(&sent.outcome));
        }
        for sent in &late {
            after.add(&name(&sent.outcome));
        }
        let answers = asked.iter().filter_map(|sent| sent.outcome.as_ref().ok());
        let answers: Vec<_> = answers.filter(|it| it.arrived > signal).collect();
        let drawn = answers.iter().filter(|answer| answer.status == 200).count();
        most_drawn = most_drawn.max(drawn);
        let mut refused: Vec<Duration> = answers
            .iter()
            .filter(|answer| answer.status == 503)
            .map(|answer| answer.arrived - signal)
            .collect();
        refused.sort_unstable();
        // The running one may be answered 503 too, when the grace period ends: it is the last, and no 200 came.
        if drawn == 0 {
            refused.pop();
        }
        told.extend(refused);
    }

    report.hold(
        &format!("{ROUNDS} times SIGTERM under a random load: exit"),
        "code 0",
        &codes.to_string(),
        codes.is_only(&["code 0"]),
    );
    report.hold(
        "from the signal to the exit, grace 2 s",
        "each under 3 s",
        &middle_and_longest(&exits),
        longest(&exits) < GRACE + LEAVING,
    );
    report.hold(
        "requests sent before the signal",
        "answered 200 or 503",
        &before.to_string(),
        before.is_only(&["200", "503"]),
    );
    report.hold(
        "those who wait are told 503",
        &format!("each within {}", milliseconds(TOLD)),
        &format!(
            "{} of them, the last after {}",
            told.len(),
            milliseconds(longest(&told))
        ),
        longest(&told) < TOLD,
    );
    report.hold(
        "pictures that come after a signal",
        "the running one, and one that was on its way",
        &format!("at most {most_drawn}"),
        most_drawn <= 2,
    );
    report.tell("requests sent after the signal", &after.to_string());
}

/// Connects and asks at its moment.
async fn client(address: SocketAddr, drawing: Drawing, at: Duration) -> Sent {
    tokio::time::sleep(at).await;
    let mut connection = match Connection::open(address).await {
        Ok(connection) => connection,
        Err(lost) => {
            return Sent {
                at: None,
                outcome: Err(lost),
            };
        }
    };
    let at = Instant::now();
    let outcome = match connection.send(&drawing.request(JSON)).await {
        Ok(()) => {
            // It counts as sent when the system has taken all of it.
            let sent = Instant::now();
            connection.answer(sent).await
        }
        Err(lost) => Err(lost),
    };
    let at = outcome.as_ref().map_or(at, |answer| answer.sent);
    Sent {
        at: Some(at),
        outcome,
    }
}

fn name(outcome: &Outcome) -> String {
    match outcome {
        Ok(answer) => answer.status.to_string(),
        Err(lost) => lost.to_string(),
    }
}
