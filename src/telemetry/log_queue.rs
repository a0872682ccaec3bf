//! The way of the log's lines out of the process: a bounded queue and one thread that writes.
//!
//! Who logs never waits. Where nobody reads (a terminal that is paused, a log driver that hangs), the queue fills, further lines are
//! dropped and counted, and once the reader is back one line says how many. A line that cannot be written, because its reader has
//! gone or the disk is full, is dropped as well. `docs/adr/0022-the-log-never-blocks.md` says why this is not a library.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes of lines that wait, the one that is being written among them: some four thousand lines.
const MAX_BYTES: usize = 1 << 20;
/// The thread's name, as debuggers and `top -H` show it.
const NAME: &str = "pixart-log";

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// The log: standard error.
    Error,
    /// Words to the person at the terminal: standard output.
    Output,
}

/// The queue. Clones are the same one.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    drained: Condvar,
    /// Lines of the log that were dropped.
    dropped: IntCounter,
}

#[derive(Default)]
struct Queue {
    texts: VecDeque<(Stream, Vec<u8>)>,
    /// Of all that is not written yet.
    bytes: usize,
    /// Dropped lines that no line has reported.
    unreported: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock is whole before anything could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_text(&self, queue: &mut Queue, stream: Stream) {
        if stream == Stream::Error {
            queue.unreported += 1;
            self.dropped.inc();
        }
    }
}

impl LogQueue {
    /// Starts the thread. `write` may block as long as it likes. `report` is called on the thread with the number of lines that were
    /// dropped, once something could be written again and nothing waits; what it pushes is written like anything else.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        write: impl FnMut(Stream, &[u8]) -> io::Result<()> + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            drained: Condvar::new(),
            dropped,
        });
        let own = Arc::clone(&shared);
        thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || own.write_all(write, report))?;
        Ok(Self(shared))
    }

    /// Takes a whole line or text, or drops it. Never waits.
    pub(super) fn push(&self, stream: Stream, text: &[u8]) {
        let mut queue = self.0.lock();
        let is_full = queue.bytes > 0 && queue.bytes.saturating_add(text.len()) > MAX_BYTES;
        if is_full {
            self.0.drop_text(&mut queue, stream);
        } else if !text.is_empty() {
            queue.bytes += text.len();
            queue.texts.push_back((stream, text.to_owned()));
            drop(queue);
            self.0.arrived.notify_one();
        }
    }

    /// Waits until all is written, and no longer than `most`. Returns whether it is.
    pub(super) fn flush(&self, most: Duration) -> bool {
        let queue = self.0.lock();
        let waited = self
            .0
            .drained
            .wait_timeout_while(queue, most, |queue| queue.bytes > 0);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.bytes == 0
    }

    /// Takes each write as a line of the log: tracing's formatter makes one of each event.
    pub(super) fn writer(&self) -> LineWriter {
        LineWriter(self.clone())
    }
}

impl Shared {
    fn write_all(
        &self,
        mut write: impl FnMut(Stream, &[u8]) -> io::Result<()>,
        report: impl Fn(u64),
    ) {
        loop {
            let (stream, text) = self.next();
            let written = write(stream, &text);
            let mut queue = self.lock();
            queue.bytes -= text.len();
            let mut unreported = 0;
            match written {
                Ok(()) if queue.texts.is_empty() => {
                    unreported = std::mem::take(&mut queue.unreported);
                }
                Ok(()) => {}
                Err(_) => self.drop_text(&mut queue, stream),
            }
            drop(queue);
            if unreported > 0 {
                report(unreported);
            }
        }
    }

    fn next(&self) -> (Stream, Vec<u8>) {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.texts.pop_front() {
                return next;
            }
            self.drained.notify_all();
            queue = self
                .arrived
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// See [`LogQueue::writer`].
pub(super) struct LineWriter(LogQueue);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(Stream::Error, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to the process's own streams, as long as that takes.
///
/// Not through the standard library's: this thread would hold their locks while nobody reads, and any other word to them would wait
/// for it.
pub(super) fn write_out(stream: Stream, mut text: &[u8]) -> io::Result<()> {
    let (error, output) = (io::stderr(), io::stdout());
    while !text.is_empty() {
        let written = match stream {
            Stream::Error => rustix::io::write(&error, text),
            Stream::Output => rustix::io::write(&output, text),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = &text[count..],
            Err(Errno::INTR) => {}
            // Another process that shares the stream has made it one that does not block.
            Err(Errno::AGAIN) => {
                let ready = match stream {
                    Stream::Error => PollFd::new(&error, PollFlags::OUT),
                    Stream::Output => PollFd::new(&output, PollFlags::OUT),
                };
                match poll(&mut [ready], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    type Word = SyncSender<io::Result<()>>;
    type Written = Receiver<Vec<u8>>;

    /// A queue whose writer waits for a word before each line, and tells what it has written. The third is what was reported.
    fn gated() -> (LogQueue, IntCounter, Word, Written, Receiver<u64>) {
        let (open, gate) = sync_channel::<io::Result<()>>(0);
        let (tell, written) = sync_channel(100_000);
        let (say, reported) = sync_channel(10);
        let dropped = counter();
        let write = move |_, line: &[u8]| {
            gate.recv().unwrap_or(Ok(()))?;
            tell.send(line.to_owned()).unwrap();
            Ok(())
        };
        let report = move |lines| say.send(lines).unwrap();
        let queue = LogQueue::start(write, report, dropped.clone()).unwrap();
        (queue, dropped, open, written, reported)
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stops_and_what_is_dropped_is_counted_and_reported() {
        let (queue, dropped, open, written, reported) = gated();
        let line = [b'x'; 1000];
        let lines = 2 * MAX_BYTES / line.len();
        for _ in 0..lines {
            // It would never return where logging blocked: the writer is given no word.
            assert_eq!(queue.writer().write(&line).unwrap(), line.len());
        }
        let kept = MAX_BYTES / line.len();
        assert_eq!(dropped.get(), (lines - kept) as u64);
        assert!(!queue.flush(Duration::from_millis(1)), "nothing is written");
        // The reader is back.
        drop(open);
        assert!(queue.flush(SOON));
        assert_eq!(written.iter().take(kept).count(), kept);
        assert_eq!(reported.recv_timeout(SOON).unwrap(), (lines - kept) as u64);
        queue.push(Stream::Error, b"one more");
        assert_eq!(written.recv_timeout(SOON).unwrap(), b"one more");
        assert!(queue.flush(SOON));
        assert!(reported.try_recv().is_err(), "reported once");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_dropped_and_reported_once_one_can() {
        let (queue, dropped, open, written, reported) = gated();
        for line in ["a", "b"] {
            queue.push(Stream::Error, line.as_bytes());
            open.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        }
        // Words to the terminal are no lines of the log.
        queue.push(Stream::Output, b"c");
        open.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert!(queue.flush(SOON));
        assert_eq!(dropped.get(), 2);
        assert!(reported.try_recv().is_err(), "nothing could be written yet");
        queue.push(Stream::Error, b"d");
        open.send(Ok(())).unwrap();
        assert_eq!(written.recv_timeout(SOON).unwrap(), b"d");
        assert_eq!(reported.recv_timeout(SOON).unwrap(), 2);
    }

    #[test]
    fn a_line_longer_than_the_queue_is_written_when_nothing_else_waits() {
        let (queue, dropped, open, written, _reported) = gated();
        let long = vec![b'x'; MAX_BYTES + 1];
        queue.push(Stream::Error, &long);
        queue.push(Stream::Error, b"short");
        drop(open);
        assert!(queue.flush(SOON));
        assert_eq!(written.recv().unwrap().len(), long.len());
        assert_eq!(dropped.get(), 1);
    }
}
