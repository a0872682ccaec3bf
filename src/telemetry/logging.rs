//! The set-up of the log: lines for people or for machines, to standard error, and panics among them. Who logs never waits for
//! who reads.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use std::time::Duration;
use std::{panic, thread};

use thiserror::Error;
use tracing::Dispatch;
use tracing::dispatcher::set_global_default;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::shown::shown;

use super::log_queue::{LogQueue, Stream, write_out};
use super::metrics::log_lines_dropped;

/// Longest text of a panic that is logged, in characters.
const MAX_PANIC_CHARS: usize = 200;
/// What the last lines may take to be read, at a panic and at the end of the process. A reader that is there needs microseconds.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The queue of this process's log, once it is started.
static STARTED: OnceLock<LogQueue> = OnceLock::new();

/// How the log looks and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Logging<'a> {
    /// One JSON object a line, with UTC time stamps and the fields of the spans around it; else lines for people.
    pub json: bool,
    /// What is logged, in the syntax of tracing's `EnvFilter`; a word by itself is a level.
    pub level: &'a str,
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The level is none.
    #[error(
        "log.level is {level:?}, and {detail}: give error, warn, info, debug, trace or off, or by room as in 'info,pixart::worker=debug'"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is one.
    #[error("the log was started before, which happens once a process")]
    Started,
    /// The system gives no thread for it.
    #[error(
        "the system gives no thread for the log: raise the limit of processes and threads (ulimit -u, docker's --pids-limit)"
    )]
    Thread(#[source] io::Error),
}

impl Logging<'_> {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// When the level makes no sense, a log was started before, or there is no thread to write it.
    pub fn start(self) -> Result<(), LogError> {
        let report = |lines| {
            tracing::warn!(
                lines,
                "lines of the log were dropped before this one: they were not read in time, or could not be written"
            );
        };
        let queue =
            LogQueue::start(write_out, report, log_lines_dropped()).map_err(LogError::Thread)?;
        let lines = queue.clone();
        let dispatch = self.dispatch(move || lines.writer(), io::stderr().is_terminal())?;
        set_global_default(dispatch).map_err(|_| LogError::Started)?;
        STARTED.set(queue).map_err(|_| LogError::Started)
    }

    /// What takes events and writes them to `writer`, coloured if that is asked for and they are for people.
    fn dispatch<W>(self, writer: W, ansi: bool) -> Result<Dispatch, LogError>
    where
        W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter(self.level)?)
            .with_writer(writer)
            // Told on standard error, where a write has just failed; and the attempt panics.
            .log_internal_errors(false);
        Ok(if self.json {
            let objects = lines
                .json()
                .flatten_event(true)
                // The list has the current one too.
                .with_current_span(false)
                .with_span_list(true);
            Dispatch::new(objects.finish())
        } else {
            let fields = debug_fn(write_field).delimited(" ");
            Dispatch::new(lines.compact().fmt_fields(fields).with_ansi(ansi).finish())
        })
    }
}

/// A field of an event or a span in a line for people, with nothing in it that a terminal obeys: names of models and words of the
/// runtime come out of files. It has one line, so that none can pass for another event.
fn write_field(
    writer: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    let text = format!("{value:?}").replace('\n', "\\n");
    let text = shown(&text);
    match field.name() {
        "message" => writer.write_str(&text),
        name if writer.has_ansi_escapes() => {
            // As tracing-subscriber has it: the name in italics.
            write!(writer, "\u{1b}[3m{name}\u{1b}[0m={text}")
        }
        name => write!(writer, "{name}={text}"),
    }
}

/// Reads `log.level`.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let refuse = |detail: String| LogError::Level {
        level: level.to_owned(),
        detail,
    };
    if level.trim().is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    // A misspelt level would be taken for a target, and silence everything else.
    let misspelt = level
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err());
    if let Some(part) = misspelt {
        return Err(refuse(format!("'{part}' is no level")));
    }
    EnvFilter::builder()
        .with_regex(false)
        .parse(level)
        .map_err(|error| refuse(error.to_string()))
}

/// Writes a text to standard output by way of the log's thread, so that nobody waits for its reader. Without a log nothing is said.
pub fn say_beside_log(text: &str) {
    if let Some(queue) = STARTED.get() {
        queue.push(Stream::Output, text.as_bytes());
    }
}

/// Gives the log its last line as it is, and returns whether there is a log to take it.
pub fn say_last(line: &str) -> bool {
    let Some(queue) = STARTED.get() else {
        return false;
    };
    queue.push(Stream::Error, format!("{line}\n").as_bytes());
    true
}

/// Waits for the log's last lines to be written, for a moment at most. To be called before the process ends.
pub fn end_log() {
    if let Some(queue) = STARTED.get() {
        queue.flush(LAST_LINES);
    }
}

/// From here on a panic is an event of the log, and is printed no more: its text may quote what it was working on.
pub fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            location = location.as_deref(),
            thread = thread::current().name(),
            panic = text_of(info.payload()),
            backtrace = backtrace.as_deref(),
            "a thread panicked"
        );
        // It may be the last that this process does.
        end_log();
    }));
}

/// What a panic says, without what it may quote. A literal quotes nothing; a text that was put together is cut at its first
/// quotation mark, because Debug output of strings and the panics of `str` have data there.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = if let Some(literal) = payload.downcast_ref::<&'static str>() {
        literal
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.split(['"', '\'', '`']).next().unwrap_or_default()
    } else {
        "no text"
    };
    text.chars().take(MAX_PANIC_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{error, info, info_span};

    use super::*;

    /// A writer that remembers.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `act` runs.
    fn written(json: bool, ansi: bool, act: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let logging = Logging {
            json,
            level: "info",
        };
        let dispatch = logging.dispatch(move || writer.clone(), ansi).unwrap();
        tracing::dispatcher::with_default(&dispatch, act);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_fields_spans_and_a_utc_time() {
        let text = written(true, true, || {
            let _request = info_span!("request", request_id = "r-1").entered();
            let _job = info_span!("job", job_id = "j-1", steps = tracing::field::Empty).entered();
            tracing::Span::current().record("steps", 4);
            info!(seconds = 1.5, "a picture\nis \"drawn\"");
            tracing::debug!("not asked for");
            error!(code = "inference_failed", "no picture");
        });
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        let first = &lines[0];
        assert_eq!(first["level"], "INFO");
        assert_eq!(first["message"], "a picture\nis \"drawn\"");
        assert_eq!(first["seconds"], 1.5);
        assert_eq!(first["spans"][0]["request_id"], "r-1");
        assert_eq!(first["spans"][1]["job_id"], "j-1");
        assert_eq!(first["spans"][1]["steps"], 4);
        assert_eq!(lines[1]["code"], "inference_failed");
        let stamp = first["timestamp"].as_str().unwrap();
        let shape: String = stamp
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{stamp}");
    }

    #[test]
    fn lines_for_people_are_coloured_on_a_terminal_only() {
        let say = || info!(seconds = 1.5, "a picture is drawn");
        let plain = written(false, false, say);
        assert!(plain.contains("a picture is drawn seconds=1.5"), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert!(written(false, true, say).contains('\u{1b}'));
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out_in_lines_for_people() {
        let text = "\u{1b}[31mRED\u{1b}]0;title\u{7}\u{9b}2J";
        let error = io::Error::other(text);
        let plain = written(false, false, || {
            let _span = info_span!("job", name = text).entered();
            info!(name = text, shown = %text, debug = ?text, %error, "a message: {text}");
        });
        assert!(plain.contains("RED"), "{plain}");
        assert!(!plain.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{plain:?}");
        let forged = written(false, false, || info!(name = %"a\n2026 INFO all is well"));
        assert_eq!(forged.lines().count(), 1, "{forged}");
    }

    #[test]
    fn a_level_that_is_none_is_refused_by_its_key() {
        for level in ["", " ", "loud", "info,pixart", "pixart=loud", "info,["] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.contains("log.level"), "{level}: {error}");
            assert!(error.contains("'info,pixart::worker=debug'"), "{error}");
        }
        for level in [
            "info",
            "WARN",
            "off",
            "info,",
            "info,pixart::worker=debug",
            "[job]=trace",
        ] {
            assert!(filter(level).is_ok(), "{level}");
        }
    }

    #[test]
    fn the_text_of_a_panic_is_short_and_quotes_nothing() {
        let text = |act: fn()| text_of(&*panic::catch_unwind(act).unwrap_err());
        assert_eq!(
            text(|| panic::panic_any("the queue is 'full'")),
            "the queue is 'full'"
        );
        let prompt = || "a cat\u{e9}".to_owned();
        assert_eq!(
            text_of(&format!("no such word: {:?}", prompt())),
            "no such word: "
        );
        assert!(!text_of(&format!("out of bounds of `{}`", prompt())).contains("cat"));
        assert_eq!(text_of(&"é".repeat(300)), "é".repeat(200));
        assert_eq!(text_of(&5), "no text");
    }
}
