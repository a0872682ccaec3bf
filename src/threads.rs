//! Work side by side, and one piece after the other where the system gives no thread: slower, and never a panic.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

/// Calls `work` on up to `count` threads, this one among them. Each call is to take pieces until none is left, so that one call
/// does everything where there is no second thread.
pub fn share(count: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..count {
            // The rest is for those that there are.
            if start(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

/// What `each` makes of every item, in their order, on up to `count` threads.
///
/// # Panics
/// Where `each` does.
pub fn map<I: Sync, T: Send>(items: &[I], count: usize, each: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let made: Vec<Mutex<Option<T>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    share(count.min(items.len()), || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(item), Some(slot)) = (items.get(at), made.get(at)) else {
                return;
            };
            let one = each(item);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(one);
        }
    });
    let taken = |slot: Mutex<Option<T>>| {
        let one = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        one.expect("every item is taken once")
    };
    made.into_iter().map(taken).collect()
}

/// Does `other` on a thread of its own while `here` is done on this one; before it where the system gives no thread.
///
/// # Panics
/// Where one of them does.
pub fn beside<A: Send, B>(other: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    let other = Mutex::new(Some(other));
    let do_other = || {
        let once = other.lock().unwrap_or_else(PoisonError::into_inner).take();
        once.expect("it is done once")()
    };
    thread::scope(|scope| match start(scope, &do_other) {
        Ok(running) => {
            let here = here();
            (
                running.join().unwrap_or_else(|panic| resume_unwind(panic)),
                here,
            )
        }
        Err(_) => (do_other(), here()),
    })
}

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: &'scope (impl Fn() -> T + Sync),
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work)
}

/// Holds that the system gives `count` more threads at once: for libraries that panic where it does not.
///
/// # Errors
/// When it does not, with what it says.
pub fn check_available(count: usize) -> io::Result<()> {
    let (done, ended) = (Mutex::new(false), Condvar::new());
    let wait = || {
        let done = done.lock().unwrap_or_else(PoisonError::into_inner);
        let _ended = ended.wait_while(done, |done| !*done);
    };
    thread::scope(|scope| {
        let started: io::Result<Vec<_>> = (0..count).map(|_| start(scope, &wait)).collect();
        *done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ended.notify_all();
        started.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_done_whatever_the_number_of_threads() {
        for threads in [0, 1, 4] {
            let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            share(threads, || {
                while next.fetch_add(1, Ordering::Relaxed) < 100 {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.into_inner(), 100, "{threads}");
            assert_eq!(map(&[1, 2, 3], threads, |it| it * it), [1, 4, 9]);
        }
        assert_eq!(beside(|| 1, || 2), (1, 2));
        check_available(4).unwrap();
    }
}
