//! hyper's own refusals in the shape of ours.
//!
//! What is no request, or has a head too long, never reaches a handler: hyper answers it by itself with a head alone (400,
//! 414, 431) and ends the connection. It offers no way to say more. Here, between hyper and the socket, that head is
//! recognised by its bytes, which are always the same, and another one with a JSON body is sent in its place. No answer of a
//! handler is ever like it: all of those have an `x-request-id`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::context::RequestId;
use crate::http::error::{ApiError, ErrorCode};

/// What follows hyper's status line, up to the date.
const HEADERS: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\ndate: ";
/// A date and the end of the head.
const DATE: usize = "Tue, 01 Dec 2026 00:00:00 GMT\r\n\r\n".len();

/// A refusal that hyper writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Canned {
    status: &'static [u8],
    code: ErrorCode,
    message: &'static str,
}

/// All of them (hyper 1.12, `proto/h1/role.rs`, `Server::on_error`).
const CANNED: [Canned; 3] = [
    Canned {
        status: b"400 Bad Request",
        code: ErrorCode::InvalidRequest,
        message: "this is no HTTP request that can be read: see to its first line, the names and values of its headers, \
                  Content-Length and Transfer-Encoding",
    },
    Canned {
        status: b"414 URI Too Long",
        code: ErrorCode::UriTooLong,
        message: "the address of the request has more than 64 KiB: the fields of a drawing go into the body, as JSON",
    },
    Canned {
        status: b"431 Request Header Fields Too Large",
        code: ErrorCode::HeadersTooLarge,
        message: "the head of the request has more than 64 KiB or 100 headers: send fewer and shorter ones",
    },
];

/// The refusal of hyper's that ends `bytes`, and where it begins.
fn canned(bytes: &[u8]) -> Option<(usize, Canned)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let before_date = bytes.len().checked_sub(DATE)?;
    let status_line = bytes[..before_date].strip_suffix(HEADERS)?;
    CANNED.into_iter().find_map(|canned| {
        let version = status_line.strip_suffix(canned.status)?;
        let before = version
            .strip_suffix(b"HTTP/1.1 ")
            .or_else(|| version.strip_suffix(b"HTTP/1.0 "))?;
        Some((before.len(), canned))
    })
}

impl Canned {
    /// The whole answer that goes out for it.
    fn answer(self, date: &[u8]) -> Vec<u8> {
        let id = RequestId::from_header(None);
        tracing::info!(
            target: "access",
            route = "unmatched",
            status = self.code.status().as_u16(),
            request_id = id.as_str(),
            "refused before it was a request"
        );
        let body = ApiError::new(self.code, self.message)
            .json(Some(&id))
            .to_string();
        let mut answer = Vec::with_capacity(512);
        answer.extend_from_slice(b"HTTP/1.1 ");
        answer.extend_from_slice(self.status);
        answer.extend_from_slice(b"\r\nconnection: close\r\ncontent-type: application/json\r\n");
        let own = format!(
            "x-request-id: {}\r\ncontent-length: {}\r\ndate: ",
            id.as_str(),
            body.len()
        );
        answer.extend_from_slice(own.as_bytes());
        answer.extend_from_slice(date);
        answer.extend_from_slice(body.as_bytes());
        answer
    }
}

/// A stream whose writer may be hyper refusing something.
pub(super) struct Worded<S> {
    stream: S,
    /// What goes out in the place of hyper's refusal, from `sent` on. Nothing comes after it.
    answer: Vec<u8>,
    sent: usize,
}

impl<S> Worded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            answer: Vec::new(),
            sent: 0,
        }
    }
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    /// Sends what is left of the answer.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.answer.len() {
            let rest = &self.answer[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes hyper's refusal, which is all of `bytes`, and begins to send the other.
    fn poll_replace(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        canned: Canned,
    ) -> Poll<io::Result<usize>> {
        self.answer = canned.answer(&bytes[bytes.len() - DATE..]);
        self.sent = 0;
        // What the socket does not take now goes out with the flush that hyper ends with.
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        match canned(bytes) {
            Some((0, canned)) => self.poll_replace(context, bytes, canned),
            // The end of an earlier answer goes first.
            Some((start, _)) => Pin::new(&mut self.stream).poll_write(context, &bytes[..start]),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let Some(last) = slices.iter().rposition(|slice| !slice.is_empty()) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        let Some((start, canned)) = canned(&slices[last]) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        let is_alone = slices[..last].iter().all(|slice| slice.is_empty());
        if is_alone && start == 0 {
            return self.poll_replace(context, &slices[last], canned);
        }
        let mut before: Vec<IoSlice<'_>> = slices[..last]
            .iter()
            .map(|slice| IoSlice::new(slice))
            .collect();
        before.push(IoSlice::new(&slices[last][..start]));
        Pin::new(&mut self.stream).poll_write_vectored(context, &before)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::trial::{LIMITS, Server, get_bytes, status, within};
    use super::*;

    const REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Tue, 01 Dec 2026 04:57:38 GMT\r\n\r\n";

    /// The code of the last answer in `text`, whose shape is held.
    #[track_caller]
    fn code(text: &str) -> String {
        let (_, answer) = text.rsplit_once("HTTP/1.1 ").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert!(
            head.contains("\r\ncontent-type: application/json\r\n"),
            "{head}"
        );
        assert!(
            head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(head.contains("\r\nx-request-id: "), "{head}");
        assert!(head.ends_with(" GMT"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["param"], Value::Null);
        assert!(body["error"]["message"].is_string());
        body["error"]["code"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_hyper_refuses_by_itself_is_refused_in_our_words() {
        let server = Server::start(LIMITS).await;
        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000));
        let many = format!(
            "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
            "a: b\r\n".repeat(120)
        );
        let large = format!(
            "GET / HTTP/1.1\r\nhost: a\r\na: {}\r\n\r\n",
            "b".repeat(1 << 20)
        );
        for (request, expected, name) in [
            ("G\x01T / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400, "invalid_request"),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
                400,
                "invalid_request",
            ),
            (&long, 414, "uri_too_long"),
            (&many, 431, "headers_too_large"),
            (&large, 431, "headers_too_large"),
        ] {
            let answer = server.exchange(request.as_bytes()).await;
            assert_eq!(status(&answer), expected, "{answer}");
            assert_eq!(code(&answer), name, "{answer}");
        }
        // Behind a request that is answered, on the same connection.
        for path in ["/", "/nowhere"] {
            let both = [&get_bytes(path)[..], b"G\x01T / HTTP/1.1\r\n\r\n"].concat();
            let answers = server.exchange(&both).await;
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
            assert_eq!(code(&answers), "invalid_request");
        }
    }

    #[test]
    fn nothing_but_hypers_refusal_is_taken_for_it() {
        assert_eq!(canned(REFUSED), Some((0, CANNED[0])));
        let behind = [b"abc", REFUSED].concat();
        assert_eq!(canned(&behind), Some((3, CANNED[0])));
        let text = std::str::from_utf8(REFUSED).unwrap();
        for other in [
            text.replace("400 Bad Request", "404 Not Found"),
            text.replace("date: ", "x-request-id: a\r\ndate: "),
            text.replace("content-length: 0", "content-length: 1"),
            format!("{text}a"),
            text[1..].to_owned(),
            "\r\n\r\n".to_owned(),
        ] {
            assert_eq!(canned(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_takes_a_few_bytes_at_a_time_gets_all_of_it() {
        let (client, server) = duplex(7);
        let mut worded = Worded::new(server);
        let slices = tokio::spawn(async move {
            worded.write_all(b"before").await.unwrap();
            let slices = [
                IoSlice::new(b"between"),
                IoSlice::new(REFUSED),
                IoSlice::new(b""),
            ];
            let written = worded.write_vectored(&slices).await.unwrap();
            let rest = ["between".as_bytes(), REFUSED].concat();
            worded.write_all(&rest[written..]).await.unwrap();
            worded.shutdown().await.unwrap();
        });
        let mut text = String::new();
        let mut client = client;
        within(client.read_to_string(&mut text)).await.unwrap();
        within(slices).await.unwrap();
        assert!(
            text.starts_with("beforebetweenHTTP/1.1 400 Bad Request\r\n"),
            "{text}"
        );
        assert_eq!(code(&text), "invalid_request");
    }
}
