//! What signals, limits and the environment do to the real binary.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::binary::{SERVE, Serving};
use super::{send, within};
use crate::support::{outcome, pixart_at_home};

/// A service with the embedded model.
fn start() -> Serving {
    Serving::of(pixart_at_home().args(SERVE))
}

#[tokio::test]
async fn a_closed_terminal_drains_and_does_not_kill() {
    let serving = Serving::start(&[]);
    let body = json!({"prompt": "a red circle", "n": 2, "steps": 50});
    let running = tokio::spawn(send(serving.posting("/v1/images", &body)));
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    // The terminal and the shell send one each, and systemd one after its SIGTERM: none of them is the second signal.
    serving.signal("-HUP");
    within(async { while serving.get("/readyz").await.status == 200 {} }).await;
    serving.signal("-HUP");
    serving.signal("-TERM");
    running.await.unwrap().is(200);
    let (status, log) = serving.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"signal\":\"SIGHUP\""), "{log}");
}

#[tokio::test]
async fn what_nohup_ignores_stays_ignored_and_user_signals_only_leave_a_line() {
    let pixart = pixart_at_home();
    let mut nohup = Command::new("nohup");
    nohup.arg(pixart.get_program()).env_clear();
    for (name, value) in pixart.get_envs() {
        nohup.env(name, value.unwrap_or_default());
    }
    let serving = Serving::of(nohup.args(SERVE));
    for signal in ["-HUP", "-USR1", "-USR2"] {
        serving.signal(signal);
    }
    within(async {
        while !serving.log().contains("\"signal\":\"SIGUSR2\"") {
            serving.get("/readyz").await.is(200);
        }
    })
    .await;
    serving.get("/readyz").await.is(200);
    serving.signal("-TERM");
    let (status, log) = serving.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    for told in [
        "\"signal\":\"SIGUSR1\"",
        "has no effect here: SIGTERM stops",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert!(!log.contains("SIGHUP"), "{log}");
}

/// The soft limit of core dumps of a process, as the kernel prints it.
fn core_limit(process: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let soft = line.unwrap().split_whitespace().nth(4).unwrap();
    soft.to_owned()
}

#[test]
fn no_core_dump_is_made_unless_it_is_asked_for() {
    let serving = start();
    // 1 makes none, neither as a file nor by way of a program; where the hard limit is 0, 0 must do.
    let limit = core_limit(serving.id());
    assert!(["0", "1"].contains(&limit.as_str()), "{limit}");
    let own = core_limit(std::process::id());
    assert!(own == "0" || limit == "1", "{own} {limit}");
    let asked = Serving::of(
        pixart_at_home()
            .env("PIXART__SERVER__CORE_DUMPS", "true")
            .args(SERVE),
    );
    assert_eq!(core_limit(asked.id()), own, "it is left as it was found");
}

#[tokio::test]
async fn variables_that_look_like_settings_are_refused_or_noted_and_those_of_kubernetes_are_neither()
 {
    let mut misspelt = pixart_at_home();
    misspelt.env("PIXART_QUEUE_CAPACITY", "3").args(SERVE);
    outcome(&mut misspelt).refused(
        2,
        &[
            "PIXART_QUEUE_CAPACITY",
            "did you mean PIXART__QUEUE__CAPACITY?",
        ],
    );

    let mut command = pixart_at_home();
    command
        .env("PIXART_LISTEN", "0.0.0.0:1")
        .env("PIXART_SERVICE_HOST", "10.0.0.1")
        .env("PIXART_PORT_8080_TCP", "tcp://10.0.0.1:8080");
    let serving = Serving::of(command.args(SERVE));
    let log = serving.log();
    assert!(
        log.contains("PIXART_LISTEN is none of pixart's and has no effect: did you mean PIXART__SERVER__LISTEN?"),
        "{log}"
    );
    assert_eq!(log.matches("is none of pixart's").count(), 1, "{log}");

    let mut noted = pixart_at_home();
    let noted = outcome(noted.env("PIXART_CPUS", "4").arg("list")).done();
    assert_eq!(
        noted.stderr,
        "pixart: note: the variable PIXART_CPUS is none of pixart's and has no effect\n"
    );
}
