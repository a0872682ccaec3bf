//! Waiting on a thread of one's own for what async callers send, with an end to the wait.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::sync::mpsc;

/// The time has come before anything was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimedOut;

/// What comes next; none when nobody can send any more. Blocks its thread, which must not be one of tokio's.
pub(super) fn receive_until<T>(
    channel: &mut mpsc::Receiver<T>,
    until: Option<Instant>,
) -> Result<Option<T>, TimedOut> {
    let Some(until) = until else {
        return Ok(channel.blocking_recv());
    };
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(received) = channel.poll_recv(&mut context) {
            return Ok(received);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TimedOut);
        }
        // Whatever wakes it, it looks again.
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_sent_is_received_and_a_wait_has_its_end() {
        let (sender, mut channel) = mpsc::channel(2);
        let now = Some(Instant::now());
        assert_eq!(receive_until(&mut channel, now), Err(TimedOut));
        sender.try_send(1).unwrap();
        // What is there is taken, however late it is.
        assert_eq!(receive_until(&mut channel, now), Ok(Some(1)));
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(receive_until(&mut channel, Some(soon)), Err(TimedOut));
        assert!(Instant::now() >= soon);
        drop(sender);
        assert_eq!(receive_until(&mut channel, Some(soon)), Ok(None));
        assert_eq!(receive_until(&mut channel, None), Ok(None));
    }

    #[test]
    fn a_sleeping_receiver_is_woken_long_before_its_time() {
        let (sender, mut channel) = mpsc::channel(1);
        let late = Instant::now() + Duration::from_secs(600);
        let receiver = thread::spawn(move || receive_until(&mut channel, Some(late)));
        sender.blocking_send(7).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(Some(7)));
        assert!(Instant::now() < late);
    }
}
