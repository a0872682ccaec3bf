//! Accepts connections, holds no more of them than was allowed, and ends them without losing an answer.
//!
//! Why not `axum::serve`: it gives hyper's header time-out no clock, has no bound of connections, waits for ever on a
//! reader that has stopped, and resets a client whose body was refused before it was read.
//!
//! When every place is taken, the connection that has been idle longest makes room. When none is idle, further ones get
//! one of a few reserved places, where only the vital paths (health) are served and everything else is told 503 at once:
//! a probe is answered while 500 clients wait for their pictures, and while the process may open no more files. Beyond those,
//! connections wait in the kernel's backlog.

mod connection;
mod places;
mod refusal;
mod socket;
mod spare;
#[cfg(test)]
mod trial;

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::connection::Host;
pub use self::places::RESERVED;
use self::places::{Place, Places};
use self::spare::{Spare, is_out_of_files};

/// What connections may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Most connections at once, a few reserved ones not counted.
    pub max_connections: usize,
    /// Time for the head of a request, and for the pause between two on one connection.
    pub header_read: Duration,
    /// Time after which a reader that takes nothing of its answer is given up.
    pub write_stall: Duration,
    /// Time that requests have to end in, once the server shuts down.
    pub drain: Duration,
    /// Paths that are served even when every place is taken.
    pub vital: &'static [&'static str],
}

/// A silent peer is asked whether it is there after this time, and again every few seconds: one whose machine is gone
/// without a word would hold its place for as long as its picture takes. A peer that is sent events is never silent in that
/// sense; there the kernel counts how long they stay unconfirmed, which without `write_stall` would be a quarter of an hour.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10));

/// Serves `app` on `listener` until `shutdown` resolves; then takes what waits in the backlog, lets every request that
/// has come end, and closes. What is not done after `limits.drain` is dropped.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(limits.max_connections);
    let mut spare = Spare::new();
    let mut connections = Connections {
        host: Arc::new(Host::new(app, limits)),
        closing: watch::channel(false).0,
        tasks: JoinSet::new(),
    };
    {
        let mut shutdown = pin!(shutdown);
        'serving: loop {
            let mut next = pin!(async {
                let place = places.next().await;
                (place, accept(&listener, &mut spare).await)
            });
            let (place, Accepted { stream, is_last }) = loop {
                tokio::select! {
                    biased;
                    () = &mut shutdown => break 'serving,
                    () = connections.forget_one() => {}
                    next = &mut next => break next,
                }
            };
            let place = if is_last {
                places.reserved_instead(place)
            } else {
                places.improve(place).await
            };
            connections.begin(stream, place);
        }
    }
    connections.closing.send_replace(true);
    for stream in backlog(listener) {
        connections.begin(stream, places.at_once());
    }
    connections.end(limits.drain).await;
}

/// The connections that are open.
struct Connections {
    host: Arc<Host>,
    /// Whether they are to end.
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Connections {
    fn begin(&mut self, stream: TcpStream, place: Place) {
        // Without these options the connection is slower to send or to be given up, and still works.
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_keepalive(&KEEPALIVE);
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(self.host.limits().write_stall));
        let (host, closing) = (Arc::clone(&self.host), self.closing.subscribe());
        self.tasks
            .spawn(connection::serve(host, stream, place, closing));
    }

    /// Waits for the end of any of them. A task keeps its memory, some 25 KiB, until somebody has seen its end: a crowd that
    /// has gone would keep it until the next connection comes.
    async fn forget_one(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for all to end, and drops those that have not after `time`.
    async fn end(mut self, time: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(time, all).await.is_err() {
            tracing::warn!(
                connections = self.tasks.len(),
                seconds = time.as_secs_f64(),
                "connections were dropped: they had not ended when the time for it was over"
            );
            self.tasks.shutdown().await;
        }
    }
}

/// A connection that was taken.
struct Accepted {
    stream: TcpStream,
    /// Whether the process can open no more files beside it than it keeps for probes.
    is_last: bool,
}

/// The next connection. Errors of a single connection pass. Where no file descriptor is left, a spare one is used; where none of
/// those is left either, and at other errors, time is waited out.
async fn accept(listener: &TcpListener, spare: &mut Spare) -> Accepted {
    let mut patience = Patience::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let is_last = !spare.refill();
                return Accepted { stream, is_last };
            }
            Err(error) if is_out_of_files(&error) && spare.give() => {}
            Err(error) => sleep(patience.after(&error)).await,
        }
    }
}

/// How long to wait after one error and the next: longer every time, up to a second.
#[derive(Default)]
struct Patience {
    errors: u32,
}

impl Patience {
    fn after(&mut self, error: &io::Error) -> Duration {
        if is_of_one_connection(error) {
            return Duration::ZERO;
        }
        tracing::warn!(%error, "no connection can be accepted: trying again");
        let pause = Duration::from_millis(10 << self.errors.min(7));
        self.errors += 1;
        pause.min(Duration::from_secs(1))
    }
}

/// Whether the next connection may do better at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// The connections that the kernel has accepted and nobody has taken yet. To close the listener over them would reset
/// them. tokio's own `accept` asks the kernel only after an event, so this asks by itself.
fn backlog(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let mut streams = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let adopted = stream
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(stream));
                streams.extend(adopted);
            }
            Err(error) if is_of_one_connection(&error) => {}
            // Nobody waits any more, or nobody can be taken any more.
            Err(_) => return streams,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::AsyncWriteExt;

    use super::trial::{Gate, LIMITS, Server, get_bytes, one_answer, rest, within};
    use super::*;

    #[tokio::test]
    async fn shutting_down_answers_what_runs_and_closes_what_is_idle() {
        let server = Server::start(LIMITS).await;
        let address = server.address;
        let gate = server.gate.clone();
        let mut idle = server.connect().await;
        idle.write_all(&get_bytes("/")).await.unwrap();
        one_answer(&mut idle).await;
        let mut running = server.connect().await;
        running.write_all(&get_bytes("/gate")).await.unwrap();
        within(gate.entered.notified()).await;
        let stopping = tokio::spawn(server.stop());
        assert_eq!(rest(&mut idle).await, "");
        assert!(TcpStream::connect(address).await.is_err());
        assert!(!stopping.is_finished());
        gate.open.notify_one();
        let answer = rest(&mut running).await;
        assert!(answer.ends_with("through"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        drop((idle, running));
        assert!(within(stopping).await.unwrap() < LIMITS.drain);
    }

    #[tokio::test]
    async fn shutting_down_answers_what_the_kernel_has_and_nobody_has_read() {
        let server = Server::start(LIMITS).await;
        let mut client = server.connect().await;
        client.write_all(&get_bytes("/")).await.unwrap();
        one_answer(&mut client).await;
        // Nothing runs between this write and the shutdown: the runtime has one thread, and this is a blocking call.
        let mut client = client.into_std().unwrap();
        client.write_all(&get_bytes("/healthz")).unwrap();
        let stopping = server.stop();
        let answer = async {
            let mut client = TcpStream::from_std(client).unwrap();
            rest(&mut client).await
        };
        let (_, answer) = tokio::join!(stopping, answer);
        assert!(answer.ends_with("healthy"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn shutting_down_answers_what_waits_in_the_backlog() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&get_bytes("/healthz")).await.unwrap();
            clients.push(client);
        }
        let limits = ServerLimits {
            max_connections: 4,
            ..LIMITS
        };
        let serving = tokio::spawn(serve(listener, Gate::default().app(), limits, async {}));
        for mut client in clients {
            assert!(rest(&mut client).await.ends_with("healthy"));
        }
        within(serving).await.unwrap();
    }

    #[tokio::test]
    async fn shutting_down_waits_for_no_one_beyond_its_time() {
        let server = Server::start(ServerLimits {
            drain: Duration::from_millis(100),
            ..LIMITS
        })
        .await;
        let gate = server.gate.clone();
        let mut client = server.connect().await;
        client.write_all(&get_bytes("/gate")).await.unwrap();
        within(gate.entered.notified()).await;
        server.stop().await;
        within(gate.left.notified()).await;
        // Connections that were opened ahead of a need do not even hold it up so long.
        let server = Server::start(LIMITS).await;
        let silent = server.connect().await;
        let mut slow = server.connect().await;
        slow.write_all(b"GET / HT").await.unwrap();
        let mut known = server.connect().await;
        known.write_all(&get_bytes("/")).await.unwrap();
        one_answer(&mut known).await;
        assert!(server.stop().await < LIMITS.drain / 2);
        drop((silent, slow, known));
    }

    #[test]
    fn accepting_backs_off_without_descriptors_and_not_for_a_lost_connection() {
        let mut patience = Patience::default();
        let lost = io::Error::from(ErrorKind::ConnectionAborted);
        let exhausted = io::Error::other("too many open files");
        let mut pauses = Vec::new();
        for _ in 0..100 {
            assert_eq!(patience.after(&lost), Duration::ZERO);
            pauses.push(patience.after(&exhausted).as_millis());
        }
        assert_eq!(pauses[..8], [10, 20, 40, 80, 160, 320, 640, 1000]);
        assert!(pauses[8..].iter().all(|&pause| pause == 1000));
    }
}
