//! HTTP/1.1 by hand: the moment of sending, the way in which an answer is lost, and requests that no library would send
//! are what this benchmark is about.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than this no answer of any scenario takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Room for what one read brings.
const READ_BYTES: usize = 64 * 1024;

/// What came of a request.
pub type Outcome = Result<Answer, Lost>;

/// A whole answer.
pub struct Answer {
    /// When its request was sent.
    pub sent: Instant,
    /// When its last byte was read.
    pub arrived: Instant,
    /// 200, 429, …
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// As it came: a chunked one with its framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// From sending to the last byte.
    pub fn took(&self) -> Duration {
        self.arrived - self.sent
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body, read as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How an answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nobody listens.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection was closed before the first byte.
    Empty,
    /// The connection was closed in the middle.
    Cut,
    /// Nothing within [`PATIENCE`].
    Late,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused connection",
            Self::Reset => "reset",
            Self::Empty => "closed without an answer",
            Self::Cut => "cut off",
            Self::Late => "no answer",
        })
    }
}

/// An open connection.
pub struct Connection(TcpStream);

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self, Lost> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::ConnectionReset => Lost::Reset,
                _ => Lost::Refused,
            })?;
        // A small request must not wait for the acknowledgement of another.
        stream.set_nodelay(true).map_err(|_| Lost::Reset)?;
        Ok(Self(stream))
    }

    /// Sends bytes, whatever they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.0.write_all(bytes).await.map_err(|_| Lost::Reset)
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &[u8]) -> Outcome {
        let sent = Instant::now();
        self.send(request).await?;
        self.answer(sent).await
    }

    /// Reads the answer to what was sent.
    pub async fn answer(&mut self, sent: Instant) -> Outcome {
        tokio::time::timeout(PATIENCE, self.read(sent))
            .await
            .unwrap_or(Err(Lost::Late))
    }

    /// Reads whatever comes next. An end is [`Lost::Empty`] or, when there are bytes already, [`Lost::Cut`].
    pub async fn more(&mut self, bytes: &mut Vec<u8>) -> Result<(), Lost> {
        bytes.reserve(READ_BYTES);
        match self.0.read_buf(bytes).await {
            Ok(0) if bytes.is_empty() => Err(Lost::Empty),
            Ok(0) => Err(Lost::Cut),
            Ok(_) => Ok(()),
            Err(_) => Err(Lost::Reset),
        }
    }

    async fn read(&mut self, sent: Instant) -> Outcome {
        let mut bytes = Vec::new();
        let end = loop {
            match find(&bytes, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.more(&mut bytes).await?,
            }
        };
        let body = bytes.split_off(end);
        let head = String::from_utf8(bytes).unwrap();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut answer = Answer {
            sent,
            arrived: sent,
            status: status.unwrap(),
            head,
            body,
        };
        let length = answer
            .header("content-length")
            .map(|length| length.parse::<usize>().unwrap());
        loop {
            let is_whole = match length {
                Some(length) => answer.body.len() >= length,
                // The last chunk.
                None => answer.body.ends_with(b"0\r\n\r\n"),
            };
            if is_whole {
                break;
            }
            self.more(&mut answer.body)
                .await
                .map_err(|lost| if lost == Lost::Empty { Lost::Cut } else { lost })?;
        }
        answer.arrived = Instant::now();
        Ok(answer)
    }
}

/// Connects, asks and hangs up.
pub async fn ask(address: SocketAddr, request: &[u8]) -> Outcome {
    Connection::open(address).await?.ask(request).await
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// `GET path`.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// `POST path` with a body of JSON and what the answer shall be.
pub fn post(path: &str, accept: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A picture that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Drawing {
    /// Width and height.
    pub side_px: u32,
    /// Denoising steps.
    pub steps: u32,
}

impl Drawing {
    /// The model's own size and steps.
    pub const DEFAULT: Self = Self {
        side_px: 256,
        steps: 4,
    };

    /// `POST /v1/images`.
    pub fn request(self, accept: &str) -> Vec<u8> {
        let size = format!("{0}x{0}", self.side_px);
        let body = serde_json::json!({
            "prompt": "A small cactus with a happy face in the Sahara desert.",
            "size": size,
            "steps": self.steps,
        });
        post("/v1/images", accept, &body)
    }
}

/// The face that most scenarios use.
pub const JSON: &str = "application/json";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream";
