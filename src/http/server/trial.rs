//! A server on a port of its own and raw connections to it, for the tests of this room.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{ServerLimits, serve};
use crate::http::body::{BodyLimits, read_object};
use crate::http::context::surround;

pub(super) const LIMITS: ServerLimits = ServerLimits {
    max_connections: 64,
    header_read: Duration::from_secs(20),
    write_stall: Duration::from_secs(20),
    drain: Duration::from_secs(20),
    vital: &["/healthz"],
};
/// Nothing here takes so long, unless it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it hangs")
}

/// What handlers and tests tell each other.
#[derive(Clone, Default)]
pub(super) struct Gate {
    pub(super) entered: Arc<Notify>,
    pub(super) open: Arc<Notify>,
    pub(super) left: Arc<Notify>,
}

/// Tells when a handler or its answer is dropped.
pub(super) struct Leaving(Arc<Notify>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Gate {
    pub(super) fn app(&self) -> Router {
        let gated = {
            let gate = self.clone();
            async move || {
                let _leaving = Leaving(Arc::clone(&gate.left));
                gate.entered.notify_one();
                gate.open.notified().await;
                "through"
            }
        };
        let endless = {
            let gate = self.clone();
            async move || {
                let leaving = Leaving(Arc::clone(&gate.left));
                Body::from_stream(stream::repeat_with(move || {
                    let _ = &leaving;
                    Ok::<_, io::Error>(vec![0_u8; 1 << 20])
                }))
            }
        };
        let limits = BodyLimits {
            max_bytes: 1024,
            time: Duration::from_millis(200),
        };
        let read = async move |request: Request| {
            let (head, body) = request.into_parts();
            read_object(&head.headers, body, limits)
                .await
                .map(|object| format!("{object:?}"))
        };
        let router = Router::new()
            .route("/healthz", get(async || "healthy"))
            .route("/", get(async || "here"))
            .route(
                "/moment",
                get(async || {
                    // Time enough for the end of the client's side to be seen.
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    "after a moment"
                }),
            )
            .route("/gate", get(gated))
            .route("/endless", get(endless))
            .route("/read", post(read));
        surround(router)
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) gate: Gate,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(limits: ServerLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a test");
        let address = listener.local_addr().expect("a test");
        let gate = Gate::default();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, gate.app(), limits, async {
            stopped.await.expect("a test");
        }));
        Self {
            address,
            gate,
            stop,
            task,
        }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a test")
    }

    /// Sends `bytes` on a connection of their own and reads what comes until the server closes it.
    pub(super) async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        within(client.write_all(bytes)).await.expect("a test");
        rest(&mut client).await
    }

    /// Shuts down and waits for the end.
    pub(super) async fn stop(self) -> Duration {
        let began = Instant::now();
        self.stop.send(()).expect("a test");
        within(self.task).await.expect("a test");
        began.elapsed()
    }
}

/// A request for `path`, the connection to be kept.
pub(super) fn get_bytes(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes()
}

/// Everything until the server closes the connection, which it must do without resetting it.
pub(super) async fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    within(client.read_to_end(&mut bytes))
        .await
        .expect("the connection was reset");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer, on a connection that stays open. The answers here have a length and no more than a few hundred bytes.
pub(super) async fn one_answer(client: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut byte = [0];
        within(client.read_exact(&mut byte)).await.expect("a test");
        text.push(char::from(byte[0]));
        if let Some(head) = text.strip_suffix("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .expect("a test");
            let mut body = vec![0; length.parse().expect("a test")];
            within(client.read_exact(&mut body)).await.expect("a test");
            return text + &String::from_utf8(body).expect("a test");
        }
    }
}

pub(super) fn status(answer: &str) -> u16 {
    let line = answer.lines().next().unwrap_or_default();
    line.split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
        .parse()
        .expect("a test")
}
