//! How long a hub is waited for, and how often it is asked again.

use std::thread;
use std::time::{Duration, SystemTime};

use super::PullError;
use super::progress::Together;

/// How often somebody who waits looks whether to stop: people feel 0.2 s.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Attempts with a name that does not resolve: it is misspelled, or there is no network, and neither ends in a minute. A second
/// one outlasts a single lost packet. A refused connection is no such case: its host is there, and may be starting.
const RESOLUTIONS: u32 = 2;

/// Bounds in time and number.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection to stand.
    pub connect: Duration,
    /// For an answer to begin, and for each next byte of it.
    pub stall: Duration,
    /// Before the second attempt; it doubles with each that brings nothing.
    pub first_wait: Duration,
    /// Longest wait, that which a hub asks for included: a longer one is told instead.
    pub longest_wait: Duration,
    /// Attempts in a row that bring nothing.
    pub attempts: u32,
}

impl Default for Patience {
    /// Half a minute without a byte is a dead line. Six attempts outlast a minute's restart of a proxy.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            first_wait: Duration::from_secs(2),
            longest_wait: Duration::from_secs(300),
            attempts: 6,
        }
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Setback {
    /// Another attempt may bring more.
    Again {
        /// Why, for people.
        why: String,
        /// How long the host wants to be left alone, and its name.
        after: Option<(Duration, String)>,
        /// Whether bytes have come all the same.
        progressed: bool,
    },
    /// The host's name is not known, and nothing has come from it before.
    Unresolved {
        /// The name.
        host: String,
    },
    /// No attempt will.
    Stop(PullError),
}

impl Setback {
    pub(super) fn again(why: impl Into<String>) -> Self {
        Self::Again {
            why: why.into(),
            after: None,
            progressed: false,
        }
    }
}

impl From<PullError> for Setback {
    fn from(error: PullError) -> Self {
        Self::Stop(error)
    }
}

impl Patience {
    /// Does `attempt` until it succeeds, fails for good, or has failed too often without any progress.
    pub(super) fn persist<T>(
        &self,
        what: &str,
        together: &Together<'_>,
        mut attempt: impl FnMut() -> Result<T, Setback>,
    ) -> Result<T, PullError> {
        let mut in_vain = 0;
        let mut unresolved = 0;
        loop {
            if together.stopped() {
                return Err(PullError::Cancelled);
            }
            let (why, after, progressed) = match attempt() {
                Ok(done) => return Ok(done),
                // A connection that was closed because of the stop says only that it was closed.
                Err(_) if together.stopped() => return Err(PullError::Cancelled),
                Err(Setback::Stop(error)) => return Err(error),
                Err(Setback::Unresolved { host }) => {
                    unresolved += 1;
                    if unresolved >= RESOLUTIONS {
                        return Err(PullError::NoHost { host });
                    }
                    (format!("no host {host} was found"), None, false)
                }
                Err(Setback::Again {
                    why,
                    after,
                    progressed,
                }) => (why, after, progressed),
            };
            in_vain = if progressed { 1 } else { in_vain + 1 };
            if in_vain >= self.attempts {
                return Err(PullError::GaveUp {
                    what: what.to_owned(),
                    why,
                    attempts: in_vain,
                });
            }
            let doubled = self.first_wait.saturating_mul(1 << (in_vain - 1).min(16));
            let wait = match after {
                Some((wait, host)) if wait > self.longest_wait => {
                    return Err(PullError::Busy { host, wait });
                }
                Some((wait, _)) => wait,
                None => doubled.min(self.longest_wait),
            };
            together.progress.again(what, &why, wait);
            let begin = std::time::Instant::now();
            while let Some(left) = wait.checked_sub(begin.elapsed()) {
                if together.stopped() {
                    return Err(PullError::Cancelled);
                }
                thread::sleep(left.min(LOOK_EVERY));
            }
        }
    }
}

/// What a `Retry-After` header asks for: seconds, or a date.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 7"), Some(Duration::from_secs(7)));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(120));
        let wait = retry_after(&soon).unwrap();
        assert!(wait > Duration::from_secs(100) && wait <= Duration::from_secs(120));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::ZERO)
        );
        for text in ["", "-1", "soon"] {
            assert_eq!(retry_after(text), None);
        }
    }
}
