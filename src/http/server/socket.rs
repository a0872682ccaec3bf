//! A TCP stream as hyper sees it, shared with the task that looks after the connection.
//!
//! What it adds: the end of the peer's side is held back for a moment while a request runs. A client that has gone and
//! one that has only closed its sending side (`printf … | nc`) look the same, and hyper drops the request of either at
//! once. With the pause, what is answered quickly reaches the second, and a drawing for the first still ends.

use std::future::pending;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use super::places::Traffic;

/// How long the end is held back: health and refusals are answered meanwhile, and of a picture hardly a step is lost.
const HOLD_END: Duration = Duration::from_millis(5);
/// How long a peer is waited for that should close, and how much is read from it meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;

/// hyper's half of a connection.
pub(super) struct Socket {
    tcp: Arc<TcpStream>,
    traffic: Arc<Traffic>,
    /// Until when the end is held back, once it has come.
    end: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(tcp: Arc<TcpStream>, traffic: Arc<Traffic>) -> Self {
        Self {
            tcp,
            traffic,
            end: None,
        }
    }

    /// Tries `write` whenever the kernel may have room.
    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(context))?;
            match write(&self.tcp) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.end.is_none() && buffer.remaining() > 0 {
            ready!(this.tcp.poll_read_ready(context))?;
            match this.tcp.try_read(buffer.initialize_unfilled()) {
                Ok(0) => {
                    this.traffic.end();
                    this.end = Some(Box::pin(sleep(HOLD_END)));
                }
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // When the request is done, hyper reads again, and finds the end.
        if let Some(end) = &mut this.end
            && this.traffic.is_running()
        {
            ready!(end.as_mut().poll(context));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.tcp).shutdown(Shutdown::Write))
    }
}

/// Waits until the peer has ended its side, or has gone, and a request has run for `HOLD_END` since. hyper finds out by
/// itself, but not of a peer that has sent more than the request: while that runs it reads nothing beyond those bytes.
pub(super) async fn peer_left(tcp: &TcpStream, traffic: &Traffic) {
    if !has_ended(tcp).await {
        return pending().await;
    }
    loop {
        let request = traffic.running_request();
        sleep(HOLD_END).await;
        if request.is_some() && traffic.running_request() == request {
            return traffic.end();
        }
    }
}

/// Waits for the end of the peer's side, whatever lies unread before it. False where the system does not say.
#[cfg(target_os = "linux")]
async fn has_ended(tcp: &TcpStream) -> bool {
    // Of tokio's interests this is the one that the peer's end makes ready, and unread bytes do not.
    let ready = tcp.ready(Interest::PRIORITY).await;
    ready.is_ok_and(Ready::is_read_closed)
}

#[cfg(not(target_os = "linux"))]
async fn has_ended(_: &TcpStream) -> bool {
    false
}

/// Whether the kernel has bytes that nobody has read. tokio would say so only after the next event.
pub(super) fn has_unread(tcp: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    SockRef::from(tcp)
        .peek(&mut byte)
        .is_ok_and(|read| read > 0)
}

/// Says that nothing more will come, and reads to the end of what the peer sends: to close with bytes unread would
/// reset the connection, and with it whatever of the answer the peer has not read yet.
pub(super) async fn close_gently(tcp: &TcpStream) {
    if SockRef::from(tcp).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let read_to_end = async {
        let mut buffer = vec![0; 16 << 10];
        let mut read = 0;
        while read < LINGER_BYTES {
            if tcp.readable().await.is_err() {
                return;
            }
            match tcp.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // A peer that goes on sending has had its answer.
    let _ = timeout(LINGER, read_to_end).await;
}

/// Closes at once and throws away what was not sent yet, instead of leaving it to the kernel to be offered for minutes.
pub(super) fn reset(tcp: &TcpStream) {
    // Without it the kernel keeps what is left for a while: no more than that.
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}
