//! One connection from its first byte to its last: HTTP/1.1, request after request, until somebody ends it.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::ServerLimits;
use super::places::{Place, Running, Traffic};
use super::refusal::Worded;
use super::socket::{Socket, close_gently, has_unread, peer_left, reset};
use crate::http::context;
use crate::http::error::{ApiError, ErrorCode};

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Time for the head of a request in a reserved place: a probe sends its own at once.
const RESERVED_HEADER_READ: Duration = Duration::from_secs(1);
/// Time for a request that is on its way when the server shuts down.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Host {
    app: Router,
    /// Says to everything that no place is free.
    refusal: Router,
    limits: ServerLimits,
}

impl Host {
    pub(super) fn new(app: Router, limits: ServerLimits) -> Self {
        let what = "every connection of this server is in use: come back later";
        let refusal = ApiError::new(ErrorCode::TooManyConnections, what).retry_after(1);
        Self {
            app,
            refusal: context::refuse(refusal),
            limits,
        }
    }

    /// What its connections may cost.
    pub(super) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// Answers one request.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        is_reserved: bool,
        running: Running,
        traffic: Arc<Traffic>,
    ) -> Response<Answer> {
        let is_served = !is_reserved || self.limits.vital.contains(&request.uri().path());
        let app = if is_served { &self.app } else { &self.refusal };
        let request = request.map(|body| {
            let traffic = Arc::clone(&traffic);
            Body::new(Asked { body, traffic })
        });
        let answered = app.clone().oneshot(request).await;
        let mut response = answered.unwrap_or_else(|never: Infallible| match never {});
        // What was refused before all of it was read ends its connection: the client must know before it sends the next
        // request on it.
        if is_reserved || traffic.is_closing() || !traffic.is_read() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response.map(|body| Answer {
            body,
            _running: running,
        })
    }
}

/// The body of a request, which says whether all of it was read.
struct Asked {
    body: Incoming,
    traffic: Arc<Traffic>,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.traffic.read();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that says of its request that it runs until it is sent.
struct Answer {
    body: Body,
    _running: Running,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves one connection to its end, which comes soon after `closing` is true.
pub(super) async fn serve(
    host: Arc<Host>,
    stream: TcpStream,
    place: Place,
    closing: watch::Receiver<bool>,
) {
    let tcp = Arc::new(stream);
    let traffic = Arc::clone(place.traffic());
    match speak(&host, &tcp, &place, closing).await {
        Err(error) if has_stalled(&*error) => reset(&tcp),
        // The peer has said that it sends nothing more: all was read.
        _ if traffic.has_ended() => {}
        Ok(End::MadeRoom) => {}
        Ok(End::Done) | Err(_) => close_gently(&tcp).await,
    }
}

/// Why a connection has nothing more to do.
enum End {
    /// Everything was answered.
    Done,
    /// It was idle, and its place is needed.
    MadeRoom,
}

/// Speaks HTTP until one side has had enough.
async fn speak(
    host: &Arc<Host>,
    tcp: &Arc<TcpStream>,
    place: &Place,
    mut closing: watch::Receiver<bool>,
) -> Result<End, Box<dyn Error + Send + Sync>> {
    let traffic = place.traffic();
    let is_reserved = place.is_reserved();
    let header_read = if is_reserved {
        host.limits.header_read.min(RESERVED_HEADER_READ)
    } else {
        host.limits.header_read
    };
    let mut stream = TimeoutStream::new(Socket::new(Arc::clone(tcp), Arc::clone(traffic)));
    stream.set_write_timeout(Some(host.limits.write_stall));
    let service = {
        let (host, traffic) = (Arc::clone(host), Arc::clone(traffic));
        service_fn(move |request: Request<Incoming>| {
            let running = traffic.begin(request.body().is_end_stream());
            let (host, traffic) = (Arc::clone(&host), Arc::clone(&traffic));
            let answer = host.answer(request, is_reserved, running, traffic);
            async { Ok::<_, Infallible>(answer.await) }
        })
    };
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_read)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Worded::new(Box::pin(stream))), service);
    let mut http = pin!(http);
    let mut peer_left = pin!(peer_left(tcp, traffic));
    let mut last_call = pin!(sleep(LAST_CALL));
    let mut is_last_call = false;
    let mut made_room = false;
    loop {
        tokio::select! {
            // hyper first: what the kernel has told of is read before anything is decided.
            biased;
            ended = http.as_mut() => {
                ended?;
                return Ok(if made_room { End::MadeRoom } else { End::Done });
            }
            // Dropping hyper's half drops the request that runs.
            () = peer_left.as_mut() => return Ok(End::Done),
            () = traffic.evicted() => {
                if traffic.is_running() || has_unread(tcp) {
                    traffic.stay();
                } else if traffic.has_begun() {
                    // hyper still sends what is left of the last answer.
                    http.as_mut().graceful_shutdown();
                    made_room = true;
                } else {
                    return Ok(End::MadeRoom);
                }
            }
            _ = closing.wait_for(|&closing| closing), if !traffic.is_closing() => {
                // From here on every answer says that it is the last one.
                traffic.close();
                // hyper takes a connection for idle whose next request is still in the kernel.
                if !has_unread(tcp) {
                    http.as_mut().graceful_shutdown();
                }
                last_call.as_mut().reset(tokio::time::Instant::now() + LAST_CALL);
                is_last_call = true;
            }
            () = last_call.as_mut(), if is_last_call => {
                if !traffic.has_begun() {
                    // Opened ahead of a need that did not arise.
                    return Ok(End::Done);
                }
                http.as_mut().graceful_shutdown();
                is_last_call = false;
            }
        }
    }
}

/// Whether a connection ended because its reader took nothing for too long.
fn has_stalled(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == ErrorKind::TimedOut;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::reset;
    use crate::http::server::ServerLimits;
    use crate::http::server::trial::{LIMITS, Server, get_bytes, one_answer, rest, status, within};
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_connection_serves_request_after_request() {
        let server = Server::start(LIMITS).await;
        let mut client = server.connect().await;
        for path in ["/", "/healthz", "/nowhere"] {
            client.write_all(&get_bytes(path)).await.unwrap();
            let answer = one_answer(&mut client).await;
            assert!(!answer.contains("connection: close"), "{answer}");
            assert!(answer.contains("x-request-id: "), "{answer}");
        }
        // Three in one write are answered one after the other.
        let three = [get_bytes("/"), get_bytes("/healthz"), get_bytes("/")].concat();
        client.write_all(&three).await.unwrap();
        for body in ["here", "healthy", "here"] {
            assert!(one_answer(&mut client).await.ends_with(body));
        }
        let close = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(close).await.unwrap();
        assert!(rest(&mut client).await.ends_with("here"));
        assert!(
            server
                .exchange(b"GET / HTTP/1.0\r\n\r\n")
                .await
                .ends_with("here")
        );
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_to_its_end_is_given_up() {
        let server = Server::start(ServerLimits {
            header_read: Duration::from_millis(50),
            ..LIMITS
        })
        .await;
        assert_eq!(server.exchange(b"").await, "");
        assert_eq!(server.exchange(b"GET / HTTP/1.1\r\nhost:").await, "");
        // The pause between two requests is bounded as well.
        assert!(server.exchange(&get_bytes("/")).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_to_its_end_is_told_408() {
        let server = Server::start(LIMITS).await;
        let head = "POST /read HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
        let answer = server
            .exchange(format!("{head}content-length: 9\r\n\r\n{{").as_bytes())
            .await;
        assert_eq!(status(&answer), 408, "{answer}");
    }

    #[tokio::test]
    async fn a_reader_that_has_stopped_holds_nothing_for_ever() {
        let server = Server::start(ServerLimits {
            write_stall: Duration::from_millis(50),
            ..LIMITS
        })
        .await;
        let mut client = server.connect().await;
        client.write_all(&get_bytes("/endless")).await.unwrap();
        within(server.gate.left.notified()).await;
        // What the kernel held for it was thrown away with a reset.
        let mut bytes = Vec::new();
        assert!(within(client.read_to_end(&mut bytes)).await.is_err());
    }

    #[tokio::test]
    async fn heads_without_measure_are_refused_and_the_refusal_arrives() {
        let server = Server::start(LIMITS).await;
        let headers = "a: b\r\n".repeat(10_000);
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        assert_eq!(status(&server.exchange(many.as_bytes()).await), 431);
        let headers: String = (0..100)
            .flat_map(|at| ["a".to_owned(), at.to_string(), ": b\r\n".to_owned()])
            .collect();
        let one_too_many = format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        assert_eq!(status(&server.exchange(one_too_many.as_bytes()).await), 431);
        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(1 << 20));
        let long = status(&server.exchange(long.as_bytes()).await);
        assert!([414, 431].contains(&long), "{long}");
    }

    #[tokio::test]
    async fn heads_that_two_readers_could_read_differently_are_safe() {
        let server = Server::start(LIMITS).await;
        // Both lengths: the chunks count, and what follows them is not taken for a request (RFC 9112, section 6.3).
        let json = "host: a\r\ncontent-type: application/json\r\n";
        let chunks = "2\r\n{}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
        for both in [
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        ] {
            let request = format!("POST /read HTTP/1.1\r\n{json}{both}\r\n{chunks}");
            let answer = server.exchange(request.as_bytes()).await;
            assert_eq!(status(&answer), 200, "{answer}");
            assert!(answer.ends_with("Object(0 fields)"), "{answer}");
        }
        for refused in [
            // A folded line.
            "GET / HTTP/1.1\r\nhost: a\r\nb: c\r\n d\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\rb: c\r\n\r\n",
            "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
            "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\n{}",
            "POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "POST /read HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
            "G\x01T / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        ] {
            let answer = server.exchange(refused.as_bytes()).await;
            assert_eq!(status(&answer), 400, "{refused:?}: {answer}");
        }
        // Line feeds alone end lines, as RFC 9112 allows in section 2.2.
        let bare = server
            .exchange(b"GET / HTTP/1.1\nhost: a\nconnection: close\n\n")
            .await;
        assert!(bare.ends_with("here"), "{bare}");
        let wrong_chunk =
            format!("POST /read HTTP/1.1\r\n{json}transfer-encoding: chunked\r\n\r\nzz\r\n");
        assert_eq!(status(&server.exchange(wrong_chunk.as_bytes()).await), 400);
    }

    #[tokio::test]
    async fn a_refusal_arrives_although_the_body_was_not_read() {
        let server = Server::start(LIMITS).await;
        let head = "POST /read HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
        let megabytes = " ".repeat(4 << 20);
        let known = format!(
            "{head}content-length: {}\r\n\r\n{megabytes}",
            megabytes.len()
        );
        let chunked = format!(
            "{head}transfer-encoding: chunked\r\n\r\n{}",
            "1\r\n \r\n".repeat(500_000)
        );
        for request in [known, chunked] {
            let answer = server.exchange(request.as_bytes()).await;
            assert_eq!(status(&answer), 413, "{answer}");
            let body: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
            assert_eq!(body["error"]["code"], "body_too_large");
        }
        // Who asks before sending is not told to send.
        let asks = format!("{head}content-length: 9999\r\nexpect: 100-continue\r\n\r\n");
        assert_eq!(status(&server.exchange(asks.as_bytes()).await), 413);
        let asks = format!(
            "{head}content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n{{}}"
        );
        assert_eq!(status(&server.exchange(asks.as_bytes()).await), 100);
    }

    #[tokio::test]
    async fn a_client_that_only_closes_its_sending_side_is_answered() {
        let server = Server::start(LIMITS).await;
        for path in ["/", "/moment"] {
            let mut client = server.connect().await;
            client.write_all(&get_bytes(path)).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(status(&rest(&mut client).await), 200);
        }
    }

    #[tokio::test]
    async fn a_request_ends_when_its_client_has_gone() {
        let server = Server::start(LIMITS).await;
        let mut client = server.connect().await;
        client.write_all(&get_bytes("/gate")).await.unwrap();
        within(server.gate.entered.notified()).await;
        drop(client);
        within(server.gate.left.notified()).await;
        // Leaving in the middle of a body.
        let mut client = server.connect().await;
        client.write_all(&get_bytes("/endless")).await.unwrap();
        let mut some = vec![0; 100_000];
        within(client.read_exact(&mut some)).await.unwrap();
        drop(client);
        within(server.gate.left.notified()).await;
    }
    #[tokio::test]
    async fn a_request_ends_when_its_client_has_gone_whatever_was_sent_after_it() {
        let server = Server::start(LIMITS).await;
        let long = "x".repeat(1 << 14);
        for after in ["\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", &long] {
            for has_reset in [false, true] {
                let mut client = server.connect().await;
                let request = [&get_bytes("/gate"), after.as_bytes()].concat();
                client.write_all(&request).await.unwrap();
                within(server.gate.entered.notified()).await;
                if has_reset {
                    reset(&client);
                }
                drop(client);
                within(server.gate.left.notified()).await;
            }
        }
    }

    #[tokio::test]
    async fn requests_sent_ahead_are_answered_to_a_client_that_closes_its_sending_side() {
        let server = Server::start(LIMITS).await;
        let mut client = server.connect().await;
        let three = [get_bytes("/"), get_bytes("/moment"), get_bytes("/healthz")].concat();
        client.write_all(&three).await.unwrap();
        client.shutdown().await.unwrap();
        let answers = rest(&mut client).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
        assert!(answers.ends_with("healthy"), "{answers}");
    }
}
