//! Clients that mean harm, hundreds at once, beside one that draws: each is answered as documented or cut off in time, the
//! one that draws hardly notices, and nothing stays behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::client::{Connection, Drawing, JSON, get};
use crate::report::{Report, Tally, mebibytes, milliseconds};
use crate::service::{Binary, Service};
use crate::statistics::{longest, quantile};

/// All three time-outs of the service.
const TIME_OUT: Duration = Duration::from_secs(3);
const SETTINGS: [(&str, &str); 3] = [
    ("SERVER__HEADER_READ_SECONDS", "3"),
    ("SERVER__BODY_READ_SECONDS", "3"),
    ("SERVER__WRITE_STALL_SECONDS", "3"),
];
/// What an end may come later than its time-out, with hundreds of others at once on busy cores.
const SLACK: Duration = Duration::from_secs(2);
/// Time for drawing before the attack.
const QUIET: Duration = Duration::from_secs(8);
/// Between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(100);
const MEBIBYTE: usize = 1024 * 1024;
const MEMORY_BYTES: f64 = 8.0 * 1_048_576.0;
const TIMES_QUIET: f64 = 2.0;

/// What hostile clients send.
struct Attack {
    name: &'static str,
    clients: usize,
    /// At once.
    flood: Vec<u8>,
    /// Then, a byte now and then, for ever.
    drip: Option<u8>,
    /// What may be answered; closing the connection is right too.
    answers: &'static [u16],
}

/// How an attack ended.
enum End {
    Answered(u16),
    Closed,
    StillOpen,
}

pub async fn run(binary: &Binary, report: &mut Report) {
    let service = binary.serve(&SETTINGS).await;
    let address = service.address();
    let quiet = draw_until(address, async { tokio::time::sleep(QUIET).await })
        .await
        .0;
    let before = at_rest(&service).await;

    let (times, ends) = draw_until(address, attack(address)).await;
    for (name, answers, ends) in &ends {
        let mut tally = Tally::default();
        let mut holds = true;
        for (end, _) in ends {
            match end {
                End::Answered(status) => {
                    tally.add(&status.to_string());
                    holds &= answers.contains(status);
                }
                End::Closed => tally.add("closed"),
                End::StillOpen => {
                    tally.add("still open");
                    holds = false;
                }
            }
        }
        let times: Vec<Duration> = ends.iter().map(|&(_, time)| time).collect();
        let mut right: Vec<String> = answers.iter().map(u16::to_string).collect();
        right.push("closed".to_owned());
        report.hold(
            name,
            &format!(
                "{} within {} s",
                right.join(" or "),
                (TIME_OUT + SLACK).as_secs()
            ),
            &format!("{tally}, the last after {}", milliseconds(longest(&times))),
            holds,
        );
    }

    let [quiet, attacked] = [quiet, times].map(|times| quantile(&times, 0.95));
    report.hold(
        "a healthy client's picture meanwhile, p95",
        &format!("within {TIMES_QUIET} × the quiet one"),
        &format!("{} against {}", milliseconds(attacked), milliseconds(quiet)),
        attacked.as_secs_f64() < TIMES_QUIET * quiet.as_secs_f64(),
    );
    let after = at_rest(&service).await;
    report.hold(
        "resident memory afterwards",
        &format!("within {}", mebibytes(MEMORY_BYTES)),
        &format!("{} after {}", mebibytes(after.0), mebibytes(before.0)),
        after.0 - before.0 < MEMORY_BYTES,
    );
    attack(address).await;
    let again = at_rest(&service).await;
    // The first wave sets the allocator's high-water mark, in each of its arenas: a leak would go on from there.
    report.tell("… and after a second wave", &mebibytes(again.0));
    report.hold(
        "file descriptors afterwards",
        &before.1.to_string(),
        &again.1.to_string(),
        again.1 <= before.1,
    );
}

/// Draws default pictures one after the other until `other` is done. Returns the time of each.
async fn draw_until<T>(address: SocketAddr, other: impl Future<Output = T>) -> (Vec<Duration>, T) {
    let mut times = Vec::new();
    let draw = async {
        let mut connection = Connection::open(address).await.unwrap();
        loop {
            let answer = connection.ask(&Drawing::DEFAULT.request(JSON)).await;
            times.push(answer.ok().filter(|it| it.status == 200).unwrap().took());
        }
    };
    let done = tokio::select! {
        never = draw => never,
        done = other => done,
    };
    (times, done)
}

/// Memory and descriptors when all connections are gone, or ought to be.
async fn at_rest(service: &Service) -> (f64, usize) {
    tokio::time::sleep(SLACK).await;
    let descriptors = service.descriptors().await;
    (service.resident_bytes(), descriptors)
}

type Ends = Vec<(End, Duration)>;

/// All attacks at once.
async fn attack(address: SocketAddr) -> Vec<(String, &'static [u16], Ends)> {
    let mut kinds = Vec::new();
    for attack in attacks() {
        let mut clients = JoinSet::new();
        for _ in 0..attack.clients {
            clients.spawn(strike(address, attack.flood.clone(), attack.drip));
        }
        kinds.push((
            format!("{} × {}", attack.clients, attack.name),
            attack.answers,
            clients,
        ));
    }
    let mut readers = JoinSet::new();
    for _ in 0..SLOW_READERS {
        readers.spawn(never_read(address));
    }
    let name = format!("{SLOW_READERS} × asks for megabytes and reads nothing");
    kinds.push((name, &[], readers));
    let mut ends = Vec::new();
    for (name, answers, clients) in kinds {
        ends.push((name, answers, clients.join_all().await));
    }
    ends
}

fn attacks() -> Vec<Attack> {
    let head = |rest: &str| {
        format!(
            "POST /v1/images/estimate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{rest}"
        )
    };
    let flood = |name, flood: String, answers| Attack {
        name,
        clients: 10,
        flood: flood.into_bytes(),
        drip: None,
        answers,
    };
    let chunks = "1\r\n \r\n".repeat(1_000_000);
    let headers = "x-many: y\r\n".repeat(10_000);
    let long = "a".repeat(MEBIBYTE);
    vec![
        Attack {
            name: "a head, byte by byte",
            clients: 150,
            flood: head("x-slow: ").into_bytes(),
            drip: Some(b'a'),
            answers: &[408],
        },
        Attack {
            name: "a body, byte by byte",
            clients: 100,
            flood: head("content-length: 10000\r\n\r\n").into_bytes(),
            drip: Some(b' '),
            answers: &[408],
        },
        flood(
            "a million chunks of one byte",
            head("transfer-encoding: chunked\r\n\r\n") + &chunks,
            &[413],
        ),
        flood(
            "a header of a megabyte",
            head(&format!("x-long: {long}\r\n\r\n")),
            &[431],
        ),
        flood(
            "10,000 headers",
            head(&format!("{headers}\r\n")),
            &[400, 431],
        ),
        flood(
            "a URI of a megabyte",
            format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            &[414, 431],
        ),
        flood(
            "Content-Length and Transfer-Encoding",
            head("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
            &[400, 422],
        ),
        flood(
            "a folded header",
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-folded: a\r\n b\r\n\r\n".into(),
            &[200, 400],
        ),
        flood(
            "lines that end in LF alone",
            "GET /healthz HTTP/1.1\nhost: localhost\n\n".into(),
            &[200, 400],
        ),
    ]
}

/// Sends, drips, and waits for an answer or the end.
async fn strike(address: SocketAddr, flood: Vec<u8>, drip: Option<u8>) -> (End, Duration) {
    let began = Instant::now();
    let Ok(stream) = TcpStream::connect(address).await else {
        return (End::Closed, began.elapsed());
    };
    let (mut reader, mut writer) = stream.into_split();
    let write = async {
        // The service may have answered and closed before it has read all.
        let mut sent = writer.write_all(&flood).await;
        while let (Ok(()), Some(byte)) = (&sent, drip) {
            tokio::time::sleep(DRIP).await;
            sent = writer.write_all(&[byte]).await;
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut read = Vec::new();
        while !matches!(reader.read_buf(&mut read).await, Ok(0) | Err(_)) {
            let line = String::from_utf8_lossy(&read);
            if let Some((line, _)) = line.split_once("\r\n") {
                return End::Answered(line.split(' ').nth(1).unwrap().parse().unwrap());
            }
        }
        End::Closed
    };
    let end = tokio::select! {
        end = read => end,
        () = write => unreachable!("it is pending"),
        () = tokio::time::sleep(TIME_OUT + SLACK) => End::StillOpen,
    };
    (end, began.elapsed())
}

const SLOW_READERS: usize = 50;
/// Answers of 80 KB: more than the system buffers for a connection.
const UNREAD: usize = 200;

/// Asks for much, reads nothing, and looks whether the service has closed the connection.
async fn never_read(address: SocketAddr) -> (End, Duration) {
    let began = Instant::now();
    let stalled = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        let mut stream = socket.connect(address).await?;
        stream
            .write_all(&get("/openapi.yaml").repeat(UNREAD))
            .await?;
        loop {
            // A connection that is closed on the other side answers this with a reset, and the next one fails.
            tokio::time::sleep(DRIP).await;
            stream.write_all(b"\r\n").await?;
        }
    };
    let ended: Result<Result<(), std::io::Error>, _> =
        tokio::time::timeout(TIME_OUT + SLACK, stalled).await;
    let end = if ended.is_ok() {
        End::Closed
    } else {
        End::StillOpen
    };
    (end, began.elapsed())
}
