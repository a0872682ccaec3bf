//! What surrounds every request: its id, its trace, one line in the access log, and an answer in our shape where no
//! handler gave one.
//!
//! The line has nothing that a client wrote but the id, whose characters are checked: the route is the pattern that
//! matched, never the path, and no query.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::{Frame, SizeHint};
use tracing::Instrument;
use uuid::Uuid;

use super::error::{ApiError, ErrorCode};
use super::identity::KeyName;
use super::{STATIC, VITAL};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// nginx's status for a client that left before its answer. It is only ever logged.
const CLIENT_LEFT: u16 = 499;

/// The name of one request, as the client and the log know it: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The client's own where it is fit to be repeated, else a new one.
    pub fn from_header(value: Option<&str>) -> Self {
        match value.filter(|value| is_fit(value)) {
            Some(own) => Self(own.into()),
            None => Self(Uuid::new_v4().to_string().into()),
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("an id is made of characters that a header may have")
    }
}

fn is_fit(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The trace that a request belongs to: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceId(Arc<str>);

impl TraceId {
    /// Reads a `traceparent` of version 00 (W3C Trace Context, section 3.2). What has another form is as good as absent.
    pub fn from_header(value: &str) -> Option<Self> {
        let parts: Vec<&str> = value.split('-').collect();
        let &["00", trace, parent, flags] = parts.as_slice() else {
            return None;
        };
        let is_hex = |text: &str, length: usize| {
            text.len() == length
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
        let is_valid = is_hex(trace, 32)
            && is_set(trace)
            && is_hex(parent, 16)
            && is_set(parent)
            && is_hex(flags, 2);
        is_valid.then(|| Self(trace.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Surrounds a router, routes and middleware included, with everything that this file is about.
///
/// Handlers find a [`RequestId`], and a [`TraceId`] where there is one, in the extensions of the request.
pub fn surround(router: Router) -> Router {
    watch(answer_all(router))
}

/// Gives an answer in our shape to paths and methods that no handler has. Middleware that shall see those requests too,
/// as that of CORS must, is laid around this, and [`watch`] around that.
pub fn answer_all(router: Router) -> Router {
    router
        .fallback(async || {
            let what = "nothing is at this path: /openapi.yaml lists what there is";
            ApiError::new(ErrorCode::NotFound, what)
        })
        .method_not_allowed_fallback(async || {
            let what =
                "this path does not take this method: the header Allow lists those that it takes";
            ApiError::new(ErrorCode::MethodNotAllowed, what)
        })
}

/// Gives every request its id, its trace and its line in the access log.
pub fn watch(router: Router) -> Router {
    router.layer(from_fn(around))
}

/// Refuses every request with `error`, surrounded as [`surround`] does.
pub fn refuse(error: ApiError) -> Router {
    Router::new()
        .fallback(async move || error)
        .layer(from_fn(around))
}

async fn around(mut request: Request, next: Next) -> Response {
    let header = |headers: &HeaderMap, name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let headers = request.headers();
    let id = RequestId::from_header(header(headers, "x-request-id").as_deref());
    let trace = header(headers, "traceparent").and_then(|value| TraceId::from_header(&value));
    let span = tracing::info_span!(
        "request",
        request_id = id.as_str(),
        trace_id = trace.as_ref().map(TraceId::as_str)
    );
    let mut line = AccessLine {
        method: known_method(request.method()),
        route: request.extensions().get::<MatchedPath>().cloned(),
        began: Instant::now(),
        status: CLIENT_LEFT,
        bytes: 0,
        is_complete: false,
        request_id: id.clone(),
        trace_id: trace.clone(),
        key: None,
    };
    // The answer to HEAD has a body that is never sent.
    let sends_body = request.method() != Method::HEAD;
    request.extensions_mut().insert(id.clone());
    if let Some(trace) = trace {
        request.extensions_mut().insert(trace);
    }
    // What panics takes its own request with it and no other one on the connection.
    let handled = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span)
        .await;
    let mut response = handled.unwrap_or_else(|_panic| {
        tracing::error!(request_id = id.as_str(), "a handler panicked");
        ApiError::internal().into_response()
    });
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR
        && let Some(error) = response.extensions_mut().remove::<ApiError>()
    {
        // Only here the id is known. Headers stay: those of other middleware, CORS for one, are among them.
        *response.body_mut() = Body::from(error.json(Some(&id)).to_string());
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if response.status().is_client_error() && response.extensions().get::<ApiError>().is_none() {
        // axum's own refusals are plain text: a path, for one, whose escapes are not UTF-8.
        let what = "the path cannot be read: its percent-encoding must be of UTF-8";
        response = ApiError::new(ErrorCode::InvalidRequest, what).into_response();
    }
    response.headers_mut().insert(X_REQUEST_ID, id.header());
    line.status = response.status().as_u16();
    line.key = response.extensions_mut().remove();
    line.is_complete = !sends_body;
    response.map(|body| Body::new(LoggedBody { body, line }))
}

/// A method by its name; those that nobody has heard of have none in the log.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}

/// The line of one request. It is written when it goes out of scope: with the answer's last byte, or when the connection
/// is gone.
struct AccessLine {
    method: &'static str,
    route: Option<MatchedPath>,
    began: Instant,
    status: u16,
    bytes: u64,
    is_complete: bool,
    request_id: RequestId,
    trace_id: Option<TraceId>,
    key: Option<KeyName>,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    method = self.method,
                    route,
                    status = self.status,
                    seconds = self.began.elapsed().as_secs_f64(),
                    bytes = self.bytes,
                    complete = self.is_complete,
                    request_id = self.request_id.as_str(),
                    trace_id = self.trace_id.as_ref().map(TraceId::as_str),
                    key = self.key.as_ref().map(|name| &*name.0),
                    "request"
                )
            };
        }
        if is_no_news(route, self.status) {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

/// Whether an answer is one of many that say nothing: health that is well and metrics, asked for several times a second; that
/// nothing is drawn yet or any more, which has lines of its own; the files of the page.
fn is_no_news(route: &str, status: u16) -> bool {
    let is_well = (200..300).contains(&status) || status == StatusCode::NOT_MODIFIED.as_u16();
    let is_waited_for = route == "/readyz" && status == StatusCode::SERVICE_UNAVAILABLE.as_u16();
    is_waited_for || is_well && (VITAL.contains(&route) || STATIC.contains(&route))
}

/// A body that takes the line of its request along and counts what is sent.
struct LoggedBody {
    body: Body,
    line: AccessLine,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.line.bytes += bytes as u64;
            }
            Poll::Ready(None) => self.line.is_complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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

impl Drop for LoggedBody {
    fn drop(&mut self) {
        // A body of known length is not asked again once all of it is out.
        self.line.is_complete |= self.body.is_end_stream();
    }
}

/// Reads a whole body, for tests of the room.
#[cfg(test)]
pub(super) async fn whole(response: Response) -> Vec<u8> {
    use http_body_util::BodyExt;
    let body = response.into_body().collect().await.unwrap();
    body.to_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use axum::Extension;
    use axum::routing::{get, post};
    use futures_util::stream;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    /// What the log has, line by line.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// Takes what this thread logs from here on.
        fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .json()
                .with_writer(move || writer.clone())
                .finish();
            (lines, tracing::subscriber::set_default(subscriber))
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// The fields of the access lines.
        fn access(&self) -> Vec<Value> {
            self.text()
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .filter(|line| line["target"] == "access")
                .map(|line| line["fields"].clone())
                .collect()
        }
    }

    fn app() -> Router {
        let router = Router::new()
            .route(
                "/things/{id}",
                get(async |Extension(id): Extension<RequestId>| id.as_str().to_owned()),
            )
            .route("/panic", post(async || -> () { panic!("a secret") }))
            .route(
                "/failure",
                get(async || ApiError::new(ErrorCode::InferenceFailed, "a secret")),
            )
            .route(
                "/stream",
                get(async || {
                    let chunks = ["ab", "c"].map(|chunk| Ok::<_, io::Error>(Bytes::from(chunk)));
                    Body::from_stream(stream::iter(chunks))
                }),
            )
            .route("/endless", get(std::future::pending::<()>));
        surround(router)
    }

    fn get_request(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    async fn send(request: Request) -> Response {
        app().oneshot(request).await.unwrap()
    }

    #[test]
    fn a_fit_request_id_is_kept_and_any_other_replaced() {
        let longest = "x".repeat(64);
        for id in ["a", "A-b_c.9", &longest] {
            assert_eq!(RequestId::from_header(Some(id)).as_str(), id);
        }
        let longer = "x".repeat(65);
        for id in ["", "a b", "a\"", "ä", "../x\n", &longer] {
            let new = RequestId::from_header(Some(id));
            assert!(Uuid::parse_str(new.as_str()).is_ok(), "{id}");
        }
        assert_ne!(RequestId::from_header(None), RequestId::from_header(None));
    }

    #[test]
    fn a_traceparent_is_read_by_the_letter() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let valid = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(TraceId::from_header(&valid).unwrap().as_str(), trace);
        for invalid in [
            "",
            "00",
            &valid.to_uppercase(),
            &valid.replace("00-", "01-"),
            &valid.replace("00-", "ff-"),
            &valid.replace(trace, &"0".repeat(32)),
            &valid.replace("b7ad6b7169203331", "0000000000000000"),
            &valid.replace("0af7", "0ag7"),
            &valid[..valid.len() - 1],
            &format!("{valid}-00"),
        ] {
            assert_eq!(TraceId::from_header(invalid), None, "{invalid}");
        }
    }

    #[tokio::test]
    async fn every_answer_has_the_id_that_the_handler_saw() {
        let mut request = get_request("/things/1");
        request
            .headers_mut()
            .insert(X_REQUEST_ID, HeaderValue::from_static("mine-1"));
        let response = send(request).await;
        assert_eq!(response.headers()[X_REQUEST_ID], "mine-1");
        assert_eq!(whole(response).await, b"mine-1");
        for path in ["/things/1", "/nowhere", "/failure"] {
            let response = send(get_request(path)).await;
            assert_eq!(response.headers()[X_REQUEST_ID].len(), 36, "{path}");
        }
    }

    #[tokio::test]
    async fn what_no_route_takes_is_answered_in_our_shape() {
        let response = send(get_request("/nowhere/a-secret")).await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&whole(response).await).unwrap();
        assert_eq!(body["error"]["code"], "not_found");
        let response = send(get_request("/panic")).await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "POST");
        let body: Value = serde_json::from_slice(&whole(response).await).unwrap();
        assert_eq!(body["error"]["code"], "method_not_allowed");
    }

    #[tokio::test]
    async fn a_failure_tells_the_request_id_and_no_more() {
        let panic = Request::post("/panic").body(Body::empty()).unwrap();
        for (request, code) in [
            (panic, "internal_error"),
            (get_request("/failure"), "inference_failed"),
        ] {
            let response = send(request).await;
            assert_eq!(response.status(), 500);
            let id = response.headers()[X_REQUEST_ID].clone();
            let length = response.headers().get(CONTENT_LENGTH).cloned();
            let body = whole(response).await;
            assert_eq!(length.unwrap().to_str().unwrap(), body.len().to_string());
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["error"]["code"], code);
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains(id.to_str().unwrap()), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[tokio::test]
    async fn a_request_is_one_line_without_its_path_or_query() {
        let (lines, _guard) = Lines::begin();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let mut request = get_request("/things/a-secret?key=a-secret");
        let parent = format!("00-{trace}-b7ad6b7169203331-01");
        request
            .headers_mut()
            .insert("traceparent", parent.parse().unwrap());
        let response = send(request).await;
        let id = response.headers()[X_REQUEST_ID].clone();
        assert_eq!(lines.access(), [Value::Null; 0], "not before the last byte");
        assert_eq!(whole(response).await.len(), 36);
        whole(send(get_request("/stream")).await).await;
        whole(send(get_request("/a-secret")).await).await;
        let head = Request::head("/things/1").body(Body::empty()).unwrap();
        drop(send(head).await);

        let access = lines.access();
        let first = &access[0];
        assert_eq!(first["method"], "GET");
        assert_eq!(first["route"], "/things/{id}");
        assert_eq!(first["status"], 200);
        assert_eq!(first["bytes"], 36);
        assert_eq!(first["complete"], true);
        assert_eq!(first["request_id"], id.to_str().unwrap());
        assert_eq!(first["trace_id"], trace);
        assert!(first["seconds"].is_f64());
        assert_eq!(
            (&access[1]["bytes"], &access[1]["complete"]),
            (&3.into(), &true.into())
        );
        assert_eq!(
            (&access[2]["route"], &access[2]["status"]),
            (&"unmatched".into(), &404.into())
        );
        assert_eq!(
            (&access[3]["method"], &access[3]["complete"]),
            (&"HEAD".into(), &true.into())
        );
        assert_eq!(access.len(), 4);
        assert!(!lines.text().contains("a-secret"), "{}", lines.text());
    }

    #[test]
    fn what_is_asked_all_the_time_is_logged_at_debug_while_it_is_well() {
        for (route, status, quiet) in [
            ("/healthz", 200, true),
            ("/healthz", 503, false),
            ("/readyz", 503, true),
            ("/readyz", 499, false),
            ("/", 200, true),
            ("/page/{file}", 200, true),
            ("/page/{file}", 304, true),
            ("/page/{file}", 404, false),
            ("/openapi.yaml", 200, true),
            ("/v1/images", 200, false),
            ("/v1/jobs/{id}", 200, false),
            ("unmatched", 404, false),
        ] {
            assert_eq!(is_no_news(route, status), quiet, "{route} {status}");
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_a_line_as_well() {
        let (lines, _guard) = Lines::begin();
        // Polled once and dropped, as hyper drops what its connection has no use for any more.
        assert!(send(get_request("/endless")).now_or_never().is_none());
        let before = &lines.access()[0];
        assert_eq!(
            (&before["status"], &before["route"]),
            (&499.into(), &"/endless".into())
        );
        let mut response = send(get_request("/stream")).await;
        response.body_mut().frame().await.unwrap().unwrap();
        drop(response);
        let midway = &lines.access()[1];
        assert_eq!(
            (&midway["status"], &midway["complete"]),
            (&200.into(), &false.into())
        );
        assert_eq!(midway["bytes"], 2);
    }
}
