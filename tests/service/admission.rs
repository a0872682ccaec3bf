//! Who gets a place, who is told to come back, and where those that wait stand.

use serde_json::Value;

use super::{Server, Studio, red};

#[tokio::test]
async fn of_a_burst_one_is_drawn_as_many_as_the_capacity_wait_and_the_rest_hear_429() {
    for capacity in [0_u64, 1, 3] {
        let studio = Studio::closed();
        let setting = [("queue.capacity", capacity.to_string())];
        let flags = [(setting[0].0, setting[0].1.as_str())];
        let server = Server::start(&studio, &flags).await;
        let burst: Vec<_> = (0..20)
            .map(|seed| server.begin_post("/v1/images", &red(seed)))
            .collect();
        server
            .until(|numbers| numbers.requests("queue_full") == 20 - 1 - capacity)
            .await;
        // The worker may not have taken the first one yet.
        let numbers = server.until_line(1, capacity).await;
        assert_eq!(numbers.of("pixart_jobs_accepted_total"), 1 + capacity);
        studio.let_all_go();
        let mut drawn = 0;
        for answer in burst {
            let answer = answer.await.unwrap();
            if answer.status == 200 {
                drawn += 1;
            } else {
                assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
                let error = answer.refused(429, "queue_full");
                assert_eq!(error["type"], "rate_limit_error");
                assert_eq!(error["param"], Value::Null);
                let message = error["message"].as_str().unwrap();
                assert!(message.contains(&format!("{capacity} is its capacity")));
            }
        }
        assert_eq!(drawn, 1 + capacity);
        let numbers = server.until_all_counted().await;
        assert_eq!(numbers.requests("ok"), 1 + capacity);
        assert_eq!(numbers.jobs("succeeded"), 1 + capacity);
        assert_eq!(numbers.of("pixart_queue_capacity"), capacity);
        assert_eq!(studio.look(|scene| scene.drawn.len() as u64), 1 + capacity);
    }
}

#[tokio::test]
async fn a_full_queue_says_when_what_is_there_will_be_done() {
    let studio = Studio::open();
    // Warmed up: a picture of 4 steps takes 4 s, as the studio tells it.
    let server = Server::warm(&studio, &[("queue.capacity", "1")]).await;
    studio.close();
    let first = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    let second = server.begin_post("/v1/images", &red(2));
    server.until_line(1, 1).await;
    let refused = server.post("/v1/images", &red(3)).await;
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((7..=8).contains(&seconds), "{seconds}");
    refused.refused(429, "queue_full");
    studio.let_all_go();
    first.await.unwrap().is(200);
    second.await.unwrap().is(200);
    server.until_all_counted().await;
}

#[tokio::test]
async fn those_that_wait_are_told_their_place_and_see_it_move() {
    let studio = Studio::open();
    let server = Server::warm(&studio, &[]).await;
    studio.close();
    let mut jobs = Vec::new();
    for seed in 1..=3 {
        jobs.push(server.job(&red(seed)).await);
    }
    let places = async || {
        let mut places = Vec::new();
        for job in &jobs {
            places.push(server.get(job).await.is(200).json()["position"].clone());
        }
        places
    };
    studio.at(1, 0).await;
    assert_eq!(places().await, [0, 1, 2]);
    let predicted = server.get(&jobs[2]).await;
    let seconds = predicted.json()["predicted_seconds"].as_f64().unwrap();
    assert!((11.0..=12.0).contains(&seconds), "{seconds}");
    assert_eq!(
        predicted.header("retry-after"),
        seconds.ceil().to_string(),
        "it says when to look again"
    );
    studio.let_go(4);
    studio.at(2, 0).await;
    assert_eq!(places().await, [Value::Null, 0.into(), 1.into()]);
    // The one before it goes, and it moves up.
    server.delete(&jobs[1]).await.is(200);
    studio.at(3, 0).await;
    assert_eq!(places().await, [Value::Null, Value::Null, 0.into()]);
    studio.let_all_go();
    assert_eq!(server.ended(&jobs[2]).await["state"], "succeeded");
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_job_that_is_taken_back_while_it_waits_frees_its_place_at_once() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[("queue.capacity", "1")]).await;
    server.job(&red(1)).await;
    studio.at(1, 0).await;
    let waiting = server.job(&red(2)).await;
    server
        .post("/v1/jobs", &red(3))
        .await
        .refused(429, "queue_full");
    let status = server.delete(&waiting).await.is(200).json();
    assert_eq!(status["state"], "cancelled");
    assert_eq!(status["position"], Value::Null);
    assert_eq!(status["error"]["code"], "job_cancelled");
    let third = server.job(&red(3)).await;
    server.until_line(1, 1).await;
    studio.let_all_go();
    assert_eq!(server.ended(&third).await["state"], "succeeded");
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1, 3]);
    let numbers = server.until_all_counted().await;
    assert_eq!(
        (numbers.jobs("succeeded"), numbers.jobs("cancelled")),
        (2, 1)
    );
    assert_eq!(
        (numbers.requests("ok"), numbers.requests("queue_full")),
        (3, 1)
    );
    assert_eq!(numbers.of("pixart_steps_saved_by_cancel_total"), 4);
}
