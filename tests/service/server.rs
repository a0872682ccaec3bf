//! The service in this process: the real router, jobs and worker on a port of their own, and a client of theirs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pixart::config::{Environment, Settings};
use pixart::http::server::{ServerLimits, serve};
use pixart::http::{Service, VITAL, metrics_router, router};
use pixart::jobs::{Bounds, Jobs};
use pixart::telemetry::Metrics;
use pixart::worker;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::studio::Studio;
use super::within;

/// How often deadlines and lost callers are looked at: more often than the real one does, so that tests wait less.
const SWEEP: Duration = Duration::from_millis(5);
const LIMITS: ServerLimits = ServerLimits {
    max_connections: 512,
    header_read: Duration::from_secs(10),
    write_stall: Duration::from_secs(30),
    drain: Duration::from_secs(5),
    vital: VITAL,
};

/// A service that runs.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) jobs: Jobs,
    pub(super) studio: Studio,
    pub(super) client: Client,
    /// Drawing requests that were sent.
    sent: Arc<AtomicU64>,
    /// Answers when the worker has started, or has not.
    started: Option<oneshot::Receiver<Result<(), worker::StartError<String>>>>,
    metrics_address: SocketAddr,
}

impl Server {
    /// One that takes requests, with these settings over the defaults.
    pub(super) async fn start(studio: &Studio, flags: &[(&str, &str)]) -> Self {
        let mut server = Self::begin(studio, flags).await;
        server.started().await.unwrap();
        server
    }

    /// One that takes requests and has drawn before, so that it can tell how long a picture takes.
    pub(super) async fn warm(studio: &Studio, flags: &[(&str, &str)]) -> Self {
        let mut flags = flags.to_vec();
        flags.push(("worker.warm_up", "true"));
        Self::start(studio, &flags).await
    }

    /// One whose model may still be loading. Warms up only where `flags` say so.
    pub(super) async fn begin(studio: &Studio, flags: &[(&str, &str)]) -> Self {
        let mut text = vec![("worker.warm_up", "false".to_owned())];
        text.extend(flags.iter().map(|&(key, value)| (key, value.to_owned())));
        let settings = Settings::resolve(None, &Environment::of([]), &text).unwrap();
        let metrics = Metrics::new(settings.queue.capacity);
        let bounds = Bounds {
            capacity: settings.queue.capacity,
            ttl: Duration::from_secs(settings.jobs.ttl_seconds),
            max_memory_bytes: settings.jobs.max_memory_bytes(),
            max_kept: settings.jobs.max_kept,
            owners: settings.auth.keys.len().max(1),
        };
        let (jobs, assignments) = Jobs::new(bounds, metrics.clone());
        let builder = studio.clone();
        let worker = worker::spawn(
            move || builder.build(),
            assignments,
            settings.worker.warm_up,
            metrics.clone(),
        )
        .unwrap();
        let service = Service::new(jobs.clone(), metrics, &settings);
        let listen = async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            (listener, address)
        };
        let (listener, address) = listen().await;
        let (metrics_listener, metrics_address) = listen().await;
        let with_metrics = settings.server.metrics_listen.is_none();
        let app = router(service.clone(), &settings.server.cors_origins, with_metrics);
        tokio::spawn(serve(listener, app, LIMITS, std::future::pending()));
        tokio::spawn(serve(
            metrics_listener,
            metrics_router(service),
            LIMITS,
            std::future::pending(),
        ));
        let swept = jobs.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                swept.sweep(Instant::now());
            }
        });
        Self {
            address,
            jobs,
            studio: studio.clone(),
            client: Client::builder().no_proxy().build().unwrap(),
            sent: Arc::default(),
            started: Some(worker.started),
            metrics_address,
        }
    }

    /// Waits until the worker has started, or has failed to.
    pub(super) async fn started(&mut self) -> Result<(), String> {
        let started = self.started.take().expect("it is asked once");
        within(started)
            .await
            .expect("the worker tells")
            .map_err(|error| error.to_string())
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request to be sent. Those that ask for pictures are counted.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let draws = ["/v1/images", "/v1/images/generations", "/v1/jobs"].contains(&path);
        if method == Method::POST && draws {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        self.client.request(method, self.url(path))
    }

    /// A request that somebody else sends is counted too.
    pub(super) fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn posting(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.posting(path, body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// Posts without waiting for the answer.
    pub(super) fn begin_post(&self, path: &str, body: &Value) -> JoinHandle<Answer> {
        tokio::spawn(send(self.posting(path, body)))
    }

    /// Makes a job and returns where it is.
    pub(super) async fn job(&self, body: &Value) -> String {
        let made = self.post("/v1/jobs", body).await.is(202);
        made.header("location").to_owned()
    }

    /// Looks at a job until it has ended.
    pub(super) async fn ended(&self, job: &str) -> Value {
        within(async {
            loop {
                let status = self.get(job).await.is(200).json();
                let state = status["state"].as_str().unwrap();
                if state != "queued" && state != "running" {
                    return status;
                }
            }
        })
        .await
    }

    /// The numbers of `/metrics` now. What must hold at every moment is held.
    pub(super) async fn numbers(&self) -> Numbers {
        let url = format!("http://{}/metrics", self.metrics_address);
        let answer = send(self.client.get(url)).await.is(200);
        let numbers = Numbers::parse(answer.text());
        let accepted = numbers.of("pixart_jobs_accepted_total");
        let there = numbers.sum("pixart_jobs_finished_total{")
            + numbers.of("pixart_requests_running")
            + numbers.of("pixart_requests_waiting");
        assert_eq!(accepted, there, "no job is lost or counted twice");
        numbers
    }

    /// Waits until the numbers are as the test wants them.
    pub(super) async fn until(&self, mut what: impl FnMut(&Numbers) -> bool) -> Numbers {
        let mut last = String::new();
        let reached = tokio::time::timeout(super::PATIENCE, async {
            loop {
                let numbers = self.numbers().await;
                if what(&numbers) {
                    return numbers;
                }
                last = numbers.told();
            }
        });
        let reached = reached.await;
        reached.unwrap_or_else(|_elapsed| panic!("the metrics never came to it:\n{last}"))
    }

    /// Waits until so many jobs run and wait.
    pub(super) async fn until_line(&self, running: u64, waiting: u64) -> Numbers {
        self.until(|numbers| numbers.line() == (running, waiting))
            .await
    }

    /// Waits until every request that was sent is counted, once, and nothing runs.
    pub(super) async fn until_all_counted(&self) -> Numbers {
        let sent = self.sent.load(Ordering::Relaxed);
        let numbers = self
            .until(|numbers| {
                let counted = numbers.sum("pixart_requests_total{");
                assert!(counted <= sent, "{counted} counted of {sent}");
                counted == sent && numbers.line() == (0, 0)
            })
            .await;
        let observed = numbers.sum("pixart_request_duration_seconds_count{")
            + numbers.sum("pixart_refusal_duration_seconds_count{");
        assert_eq!(observed, sent, "every request has its duration");
        numbers
    }
}

impl Drop for Server {
    /// Sends the worker home, wherever the test has left it.
    fn drop(&mut self) {
        self.jobs.drain();
        self.jobs.stop_running(pixart::jobs::Stop::Draining);
        self.jobs.close();
        self.studio.release_builds();
        self.studio.let_all_go();
    }
}

/// Sends a request and reads the whole answer.
pub(super) async fn send(request: RequestBuilder) -> Answer {
    within(async {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    })
    .await
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert!(self.header("content-type").starts_with("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }

    /// Holds that it has this status.
    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        assert!(is_request_id(self.header("x-request-id")));
        self
    }

    /// Holds that it is a refusal with this status and code, in the shape of all refusals; returns its `error`.
    #[track_caller]
    pub(super) fn refused(self, status: u16, code: &str) -> Value {
        let answer = self.is(status);
        let error = answer.error();
        assert_eq!(error["code"], code, "{error}");
        error
    }

    /// The error of a refusal, whose shape is held.
    #[track_caller]
    pub(super) fn error(&self) -> Value {
        let json = self.json();
        let error = hold_error_shape(&json);
        if self.status == 429 || self.status == 503 {
            let told = self.headers.get("retry-after").is_some()
                || self.headers.get("x-should-retry").is_some();
            assert!(told, "a refusal that passes says when: {self:?}");
        }
        if let Some(seconds) = self.headers.get("retry-after") {
            let seconds: u64 = seconds.to_str().unwrap().parse().unwrap();
            assert!(seconds >= 1);
        }
        error
    }
}

/// Holds that `json` is `{"error": {"message", "type", "param", "code"}}` and no more.
#[track_caller]
pub(super) fn hold_error_shape(json: &Value) -> Value {
    let outer: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(outer, ["error"], "{json}");
    let error = &json["error"];
    let mut keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "message", "param", "type"], "{json}");
    let message = error["message"].as_str().unwrap();
    assert!(!message.is_empty());
    assert!(error["param"].is_string() || error["param"].is_null());
    error.clone()
}

fn is_request_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The series of a scrape, by name and labels.
pub(super) struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    pub(super) fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .map(|line| {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    (name.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    /// The value of one series, a whole number.
    #[track_caller]
    pub(super) fn of(&self, series: &str) -> u64 {
        let value = self.0.get(series);
        whole(*value.unwrap_or_else(|| panic!("no {series}")))
    }

    /// The sum over all series whose name begins so.
    pub(super) fn sum(&self, prefix: &str) -> u64 {
        let series = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        whole(series.map(|(_, value)| value).sum())
    }

    /// Jobs that run and wait.
    pub(super) fn line(&self) -> (u64, u64) {
        (
            self.of("pixart_requests_running"),
            self.of("pixart_requests_waiting"),
        )
    }

    /// Requests that ended so.
    pub(super) fn requests(&self, outcome: &str) -> u64 {
        self.of(&format!("pixart_requests_total{{outcome=\"{outcome}\"}}"))
    }

    /// Jobs that ended so.
    pub(super) fn jobs(&self, outcome: &str) -> u64 {
        self.of(&format!(
            "pixart_jobs_finished_total{{outcome=\"{outcome}\"}}"
        ))
    }

    /// What is not 0, of requests and jobs.
    fn told(&self) -> String {
        let lines = self.0.iter().filter(|(name, value)| {
            **value != 0.0
                && ["pixart_requests", "pixart_jobs", "pixart_worker"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
        });
        let lines: Vec<String> = lines
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        lines.join("\n")
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters and levels of a test are small whole numbers"
)]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value}");
    value as u64
}
