//! Jobs without HTTP and without a thread: the line, what is kept, and that whatever happens to them adds up.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pixart::domain::{Generated, Prompt, Receipt, RequestDraft, Seed, Timings};
use pixart::jobs::{
    AskedBy, Assignments, Attachment, Bounds, Claim, Ending, Failure, Job, JobState, Jobs, Keeping,
    Order, Owner, Phase, Stop, SubmitError, Turn, Work,
};
use pixart::pipeline::Planner;
use pixart::telemetry::Metrics;
use proptest::prelude::*;

use super::server::Numbers;
use super::studio::planner;

const BOUNDS: Bounds = Bounds {
    capacity: 2,
    ttl: Duration::from_secs(60),
    // 1,000 bytes of pictures, and room for their prompts.
    max_memory_bytes: 1090,
    max_kept: 100,
    owners: 1,
};

/// The same with room for what tests promise themselves.
const ROOMY: Bounds = Bounds {
    max_memory_bytes: 100 << 20,
    ..BOUNDS
};

/// Both sides, with a worker that is ready.
fn jobs(bounds: Bounds) -> (Jobs, Assignments) {
    let (jobs, assignments) = Jobs::new(bounds, Metrics::new(bounds.capacity));
    assignments.health().enter(Phase::Ready);
    (jobs, assignments)
}

fn order(keeping: Keeping) -> Order {
    static PLANNER: LazyLock<Planner> = LazyLock::new(planner);
    let draft = RequestDraft::new(Prompt::new("a red circle").unwrap(), Seed::new(1));
    let first = draft.complete(PLANNER.defaults());
    let plan = PLANNER.plan(&first).unwrap();
    Order {
        work: Work::of(&first, &plan),
        first,
        images: 1,
        partial_images: 0,
        plan,
        deadline: None,
        keeping,
        abandon_after: None,
        claim: Claim {
            owner: Owner::default(),
            fingerprint: [0; 32],
            idempotency_key: None,
            retry: false,
        },
        span: tracing::Span::none(),
        asked_by: AskedBy::default(),
    }
}

fn with_key(keeping: Keeping, key: &str) -> Order {
    let mut order = order(keeping);
    order.claim.idempotency_key = Some(key.to_owned());
    order
}

fn submit(jobs: &Jobs, keeping: Keeping) -> Result<Attachment, SubmitError> {
    let submitted = jobs.submit(order(keeping))?;
    assert!(!submitted.replayed);
    Ok(submitted.attachment)
}

fn picture(job: &Job, bytes: usize) -> Generated {
    let request = job.order().first.clone();
    Generated {
        image: vec![0; bytes],
        timings: Timings::default(),
        receipt: Receipt {
            drawn_size: request.size,
            request,
            model: String::new(),
            weights: String::new(),
            device: String::new(),
            precision: String::new(),
            processor: None,
            model_digest: String::new(),
            openvino_version: String::new(),
        },
        warnings: Vec::new(),
    }
}

/// The job whose turn it is.
fn claim(assignments: &mut Assignments) -> Arc<Job> {
    match assignments.claim(None) {
        Turn::Job(job) => job,
        other => panic!("no job: {other:?}"),
    }
}

/// Draws the next job to its end, as so many bytes.
fn draw(assignments: &mut Assignments, bytes: usize) -> Arc<Job> {
    let job = claim(assignments);
    assignments.begun(&job, 0);
    assignments.drawn(&job, picture(&job, bytes));
    assignments.ended(&job, Ending::Succeeded);
    job
}

fn numbers(jobs: &Jobs) -> Numbers {
    Numbers::parse(&jobs.at_rest(|metrics| Metrics::encode(&metrics.gather())))
}

fn is_there(jobs: &Jobs, job: &Job) -> bool {
    jobs.find(job.id(), Owner::default()).is_some()
}

#[test]
fn what_is_kept_stays_below_its_memory_and_the_oldest_goes_first() {
    let (jobs, mut assignments) = jobs(BOUNDS);
    let mut drawn = Vec::new();
    for bytes in [400, 400, 400, 100, 100, 900, 5000, 1] {
        drop(submit(&jobs, Keeping::All).unwrap());
        drawn.push(draw(&mut assignments, bytes));
        // What nobody has fetched would stay.
        jobs.collected_image(&drawn[drawn.len() - 1], 0);
        let there: Vec<usize> = drawn
            .iter()
            .filter(|job| is_there(&jobs, job))
            .map(|job| job.progress().pictures[0].image.len())
            .collect();
        let expected: &[usize] = match drawn.len() {
            1 => &[400],
            2 | 3 => &[400, 400],
            4 => &[400, 400, 100],
            5 => &[400, 400, 100, 100],
            6 => &[100, 900],
            // The newest stays however large it is: its caller has not fetched it yet.
            7 => &[5000],
            _ => &[1],
        };
        assert_eq!(there, expected, "after {bytes}");
    }
}

#[test]
fn what_was_promised_stays_until_it_expires_and_leaves_no_room_for_more() {
    let bounds = Bounds {
        max_kept: 2,
        ..ROOMY
    };
    let (jobs, mut assignments) = jobs(bounds);
    let mut kept = Vec::new();
    for _ in 0..2 {
        drop(submit(&jobs, Keeping::All).unwrap());
        kept.push(draw(&mut assignments, 300));
    }
    let refused = submit(&jobs, Keeping::All).unwrap_err();
    let SubmitError::ResultsFull { retry_after, .. } = refused else {
        panic!("{refused:?}");
    };
    assert!(retry_after > bounds.ttl / 2 && retry_after <= bounds.ttl);
    // One who waits for the answer is promised nothing beyond it.
    drop(submit(&jobs, Keeping::Nothing).unwrap());
    assert!(is_there(&jobs, &kept[0]) && is_there(&jobs, &kept[1]));
    jobs.collected_image(&kept[1], 0);
    drop(submit(&jobs, Keeping::All).unwrap());
    draw(&mut assignments, 300);
    assert!(is_there(&jobs, &kept[0]), "nobody has fetched it");
    assert!(!is_there(&jobs, &kept[1]), "it was fetched");
    jobs.take_back(&kept[0]);
    submit(&jobs, Keeping::All).unwrap();
}

#[test]
fn a_job_that_is_on_its_way_has_its_room_and_gives_it_back_when_it_is_stopped() {
    let bounds = Bounds {
        max_kept: 1,
        ..BOUNDS
    };
    let (jobs, _assignments) = jobs(bounds);
    let first = submit(&jobs, Keeping::All).unwrap();
    assert!(matches!(
        submit(&jobs, Keeping::Pictures),
        Err(SubmitError::ResultsFull {
            is_own_share: false,
            ..
        })
    ));
    jobs.take_back(first.job());
    submit(&jobs, Keeping::Pictures).unwrap();
}

/// Bounds that two keys share.
const SHARED: Bounds = Bounds {
    capacity: 4,
    max_kept: 4,
    owners: 2,
    ..ROOMY
};

fn of(owner: u8, keeping: Keeping) -> Order {
    let mut order = order(keeping);
    order.claim.owner = Owner(Some([owner; 16]));
    order
}

#[test]
fn one_key_never_pushes_out_what_another_was_promised() {
    let (jobs, mut assignments) = jobs(SHARED);
    let first = jobs.submit(of(1, Keeping::All)).unwrap().attachment;
    let first = Arc::clone(first.job());
    draw(&mut assignments, 300);
    let mut refused = 0;
    for _ in 0..20 {
        match jobs.submit(of(2, Keeping::All)) {
            Ok(submitted) => {
                drop(submitted);
                draw(&mut assignments, 300);
            }
            Err(SubmitError::ResultsFull { is_own_share, .. }) => {
                assert!(is_own_share);
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 18, "two of four are its half");
    assert!(jobs.find(first.id(), Owner(Some([1; 16]))).is_some());
    jobs.submit(of(1, Keeping::All)).unwrap();
}

#[test]
fn of_what_was_fetched_the_caller_that_holds_most_gives_way_first() {
    let (jobs, mut assignments) = jobs(SHARED);
    let mut drawn = Vec::new();
    for owner in [1, 2, 2, 2, 2] {
        jobs.submit(of(owner, Keeping::All)).unwrap();
        let job = draw(&mut assignments, 300);
        jobs.collected_image(&job, 0);
        drawn.push(job);
    }
    let there: Vec<bool> = drawn
        .iter()
        .map(|job| jobs.find(job.id(), job.order().claim.owner).is_some())
        .collect();
    assert_eq!(there, [true, false, true, true, true]);
}

#[test]
fn callers_take_turns_and_one_key_has_half_of_the_queue() {
    let (jobs, mut assignments) = jobs(SHARED);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(jobs.submit(of(1, Keeping::Nothing)).unwrap().attachment);
    }
    assert!(matches!(
        jobs.submit(of(1, Keeping::Nothing)),
        Err(SubmitError::ShareFull {
            present: 3,
            share: 3,
            ..
        })
    ));
    assert!(matches!(
        jobs.has_room(Owner(Some([1; 16]))),
        Err(SubmitError::ShareFull { .. })
    ));
    for _ in 0..2 {
        held.push(jobs.submit(of(2, Keeping::Nothing)).unwrap().attachment);
    }
    let places: Vec<Option<usize>> = held.iter().map(|job| jobs.position(job)).collect();
    assert_eq!(places, [1, 3, 5, 2, 4].map(Some));
    // What is drawn counts: the other caller is next.
    claim(&mut assignments);
    let places: Vec<Option<usize>> = held.iter().map(|job| jobs.position(job)).collect();
    assert_eq!(places, [0, 2, 4, 1, 3].map(Some));
    assert!(matches!(
        jobs.submit(of(2, Keeping::Nothing)),
        Err(SubmitError::QueueFull { .. })
    ));
}

#[test]
fn an_image_that_is_finished_while_its_job_is_taken_back_is_nobodys() {
    let (jobs, mut assignments) = jobs(BOUNDS);
    for is_drawn_first in [true, false] {
        drop(submit(&jobs, Keeping::All).unwrap());
        let job = claim(&mut assignments);
        if is_drawn_first {
            assignments.drawn(&job, picture(&job, 300));
            jobs.take_back(&job);
            assert_eq!(job.state(), JobState::Succeeded);
        } else {
            jobs.take_back(&job);
            assignments.drawn(&job, picture(&job, 300));
        }
        assignments.ended(&job, Ending::Succeeded);
        if is_drawn_first {
            assert!(!is_there(&jobs, &job));
        } else {
            assert_eq!(job.state(), JobState::Cancelled);
            assert!(job.progress().pictures.is_empty());
        }
        let numbers = numbers(&jobs);
        assert_eq!(numbers.line(), (0, 0));
        assert_eq!(
            numbers.of("pixart_jobs_accepted_total"),
            numbers.sum("pixart_jobs_finished_total{")
        );
    }
}

#[test]
fn what_nobody_waits_for_and_nobody_will_fetch_is_forgotten() {
    let (jobs, mut assignments) = jobs(ROOMY);
    for (keeping, stays) in [
        (Keeping::Nothing, false),
        (Keeping::Pictures, true),
        (Keeping::All, true),
    ] {
        let attachment = submit(&jobs, keeping).unwrap();
        let job = draw(&mut assignments, 1);
        assert!(is_there(&jobs, &job), "somebody waits for it");
        drop(attachment);
        assert_eq!(is_there(&jobs, &job), stays, "{keeping:?}");
    }
    // A failure is of use to one who asks for it later, and that is an asynchronous job's caller alone.
    for (keeping, stays) in [(Keeping::Pictures, false), (Keeping::All, true)] {
        let attachment = submit(&jobs, keeping).unwrap();
        let job = claim(&mut assignments);
        assignments.ended(&job, Ending::Failed(Failure::Inference));
        drop(attachment);
        assert_eq!(is_there(&jobs, &job), stays, "{keeping:?}");
    }
}

#[test]
fn a_key_is_free_again_when_its_job_is_forgotten_or_did_not_succeed() {
    let (jobs, mut assignments) = jobs(ROOMY);
    let ask = || {
        let submitted = jobs.submit(with_key(Keeping::All, "k")).unwrap();
        (submitted.replayed, submitted.attachment.id())
    };
    let (replayed, first) = ask();
    assert!(!replayed);
    assert_eq!(ask(), (true, first));
    draw(&mut assignments, 1);
    assert_eq!(ask(), (true, first));
    jobs.sweep(Instant::now() + BOUNDS.ttl);
    let (replayed, second) = ask();
    assert!(!replayed && second != first);
    let job = claim(&mut assignments);
    assignments.ended(&job, Ending::Failed(Failure::Inference));
    let (replayed, third) = ask();
    assert!(!replayed && third != second);
    // What became of the failed one goes its way without touching the key of the new one.
    jobs.take_back(&job);
    assert_eq!(ask(), (true, third));
}

#[test]
fn a_job_that_may_be_abandoned_has_its_time_from_when_its_last_follower_leaves() {
    let (jobs, _assignments) = jobs(BOUNDS);
    let mut order = order(Keeping::All);
    order.abandon_after = Some(Duration::from_secs(60));
    let first = jobs.submit(order).unwrap().attachment;
    let job = jobs.find(first.id(), Owner::default()).unwrap();
    let second = jobs.attach(&job);
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    drop(first);
    jobs.sweep(later(1000));
    assert_eq!(job.state(), JobState::Queued, "somebody follows it");
    drop(second);
    jobs.sweep(later(59));
    assert_eq!(job.state(), JobState::Queued, "its time has not passed");
    drop(jobs.attach(&job));
    jobs.sweep(later(59));
    assert_eq!(
        job.state(),
        JobState::Queued,
        "who comes back begins it anew"
    );
    jobs.sweep(later(61));
    assert_eq!(job.state(), JobState::Cancelled);
}

#[test]
fn a_key_is_found_even_where_no_place_is_free() {
    let bounds = Bounds {
        capacity: 0,
        ..BOUNDS
    };
    let (jobs, _assignments) = jobs(bounds);
    let first = jobs.submit(with_key(Keeping::All, "k")).unwrap();
    assert!(matches!(
        submit(&jobs, Keeping::All),
        Err(SubmitError::QueueFull { capacity: 0, .. })
    ));
    let again = jobs.submit(with_key(Keeping::All, "k")).unwrap();
    assert_eq!(again.attachment.id(), first.attachment.id());
}

#[test]
fn nobody_is_told_to_wait_for_what_a_job_that_was_cancelled_would_have_taken() {
    let bounds = Bounds {
        capacity: 0,
        ..ROOMY
    };
    let (jobs, mut assignments) = jobs(bounds);
    let told = |jobs: &Jobs| match submit(jobs, Keeping::Nothing) {
        Err(SubmitError::QueueFull { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    };
    let predicted = |jobs: &Jobs| numbers(jobs).of("pixart_predicted_wait_seconds");
    drop(submit(&jobs, Keeping::All).unwrap());
    let job = claim(&mut assignments);
    assignments.begun(&job, 0);
    let mut slow = picture(&job, 1);
    slow.timings.vae_decode = Duration::from_secs(100);
    assignments.drawn(&job, slow);
    assignments.ended(&job, Ending::Succeeded);

    let running = submit(&jobs, Keeping::All).unwrap();
    assert_eq!(predicted(&jobs), 100);
    let job = claim(&mut assignments);
    assert!(told(&jobs) > Duration::from_secs(90));
    jobs.take_back(&job);
    assert_eq!(told(&jobs), Duration::ZERO);
    assert_eq!(predicted(&jobs), 0);
    drop(running);
}

#[test]
fn without_its_worker_nobody_is_left_waiting() {
    let (jobs, mut assignments) = jobs(BOUNDS);
    let running = submit(&jobs, Keeping::All).unwrap();
    let waiting = submit(&jobs, Keeping::Nothing).unwrap();
    claim(&mut assignments);
    drop(assignments);
    for job in [&running, &waiting] {
        assert_eq!(job.state(), JobState::Failed);
        assert_eq!(job.progress().failure, Some(Failure::Worker));
    }
    let refused = submit(&jobs, Keeping::All);
    assert_eq!(refused.unwrap_err(), SubmitError::WorkerDown);
    assert_eq!(numbers(&jobs).jobs("failed"), 2);
}

#[test]
fn a_job_that_ended_is_not_ended_again() {
    let (jobs, mut assignments) = jobs(BOUNDS);
    let attachment = submit(&jobs, Keeping::All).unwrap();
    let job = draw(&mut assignments, 1);
    assignments.ended(&job, Ending::Stopped(Stop::Cancelled));
    jobs.stop_running(Stop::Draining);
    assert_eq!(attachment.state(), JobState::Succeeded);
    let numbers = numbers(&jobs);
    assert_eq!(numbers.sum("pixart_jobs_finished_total{"), 1);
}

#[test]
fn a_closed_service_sends_its_worker_home_though_jobs_wait() {
    let (jobs, mut assignments) = jobs(BOUNDS);
    let held: Vec<_> = (0..3).map(|_| submit(&jobs, Keeping::All)).collect();
    jobs.close();
    assert!(matches!(assignments.claim(None), Turn::Over));
    drop(held);
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Move {
    Submit(u8),
    Keyed(u8),
    Claim,
    End(u8),
    Leave(usize),
    TakeBack(usize),
    Sweep(u64),
    Drain,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..3_u8).prop_map(Move::Submit),
        2 => (0..2_u8).prop_map(Move::Keyed),
        4 => Just(Move::Claim),
        4 => (0..4_u8).prop_map(Move::End),
        3 => (0..8_usize).prop_map(Move::Leave),
        2 => (0..8_usize).prop_map(Move::TakeBack),
        1 => (0..100_u64).prop_map(Move::Sweep),
        1 => prop::bool::weighted(0.05).prop_map(|yes| if yes { Move::Drain } else { Move::Claim }),
    ];
    prop::collection::vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_every_job_has_one_place_or_one_end(moves in moves()) {
        let (jobs, mut assignments) = jobs(BOUNDS);
        let mut held: Vec<Attachment> = Vec::new();
        let mut known: Vec<Arc<Job>> = Vec::new();
        let mut admitted = 0;
        for step in moves {
            match step {
                Move::Submit(kind) => {
                    let keeping = [Keeping::Nothing, Keeping::Pictures, Keeping::All];
                    if let Ok(attachment) = submit(&jobs, keeping[usize::from(kind)]) {
                        admitted += 1;
                        known.push(Arc::clone(attachment.job()));
                        held.push(attachment);
                    }
                }
                Move::Keyed(key) => {
                    let order = with_key(Keeping::Nothing, &key.to_string());
                    if let Ok(submitted) = jobs.submit(order) {
                        admitted += u64::from(!submitted.replayed);
                        known.push(Arc::clone(submitted.attachment.job()));
                        held.push(submitted.attachment);
                    }
                }
                Move::Claim => {
                    // Only where it does not block, and the worker has nothing at hand.
                    if numbers(&jobs).line() == (0, 0) || jobs.running().is_some() {
                        continue;
                    }
                    claim(&mut assignments);
                }
                Move::End(kind) => {
                    let Some(job) = jobs.running() else { continue };
                    let ending = match (job.stop(), kind) {
                        (Some(why), _) => Ending::Stopped(why),
                        (None, 0) => Ending::Failed(Failure::Inference),
                        (None, 1) => Ending::Failed(Failure::Worker),
                        _ => {
                            assignments.drawn(&job, picture(&job, 300));
                            Ending::Succeeded
                        }
                    };
                    assignments.ended(&job, ending);
                }
                Move::Leave(index) if index < held.len() => drop(held.swap_remove(index)),
                Move::TakeBack(index) if index < known.len() => jobs.take_back(&known[index]),
                Move::Leave(_) | Move::TakeBack(_) => {}
                Move::Sweep(seconds) => jobs.sweep(Instant::now() + Duration::from_secs(seconds)),
                Move::Drain => jobs.drain(),
            }
            let numbers = numbers(&jobs);
            let (running, waiting) = numbers.line();
            prop_assert!(running + waiting <= 1 + BOUNDS.capacity as u64);
            prop_assert_eq!(running, u64::from(jobs.running().is_some()));
            prop_assert_eq!(numbers.of("pixart_jobs_accepted_total"), admitted);
            let ended = numbers.sum("pixart_jobs_finished_total{");
            prop_assert_eq!(admitted, ended + running + waiting);
            let open = known.iter().filter(|job| !job.state().is_final());
            let mut open: Vec<String> = open.map(|job| job.id().to_string()).collect();
            open.sort();
            open.dedup();
            prop_assert_eq!(open.len() as u64, running + waiting);
            for job in &known {
                let place = jobs.position(job);
                prop_assert_eq!(place.is_some(), !job.state().is_final());
                // A job that runs or waits can be found.
                prop_assert!(place.is_none() || is_there(&jobs, job));
            }
            let kept: usize = known
                .iter()
                .filter(|job| job.state().is_final() && is_there(&jobs, job))
                .map(|job| (job.id().to_string(), job.progress().pictures.iter().map(|it| it.image.len()).sum::<usize>()))
                .collect::<std::collections::BTreeMap<_, _>>()
                .values()
                .sum();
            let waited_for: usize = held
                .iter()
                .map(|job| job.progress().pictures.iter().map(|it| it.image.len()).sum::<usize>())
                .sum();
            prop_assert!(kept <= BOUNDS.max_memory_bytes + waited_for, "{} bytes", kept);
        }
    }
}
