//! How many connections there are, which of them are idle, and who has to go when there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Places beyond the ordinary ones, for health.
pub const RESERVED: usize = 32;
/// Nobody is idle who did something so recently: a new connection is about to send its request.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// How long an idle connection is waited for to close. It takes one turn of its task.
const MAKE_ROOM: Duration = Duration::from_millis(100);

/// What goes on on one connection, as its task, its requests and the accept loop see it.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Requests begun, ever.
    begun: AtomicUsize,
    /// Requests whose answer is not complete.
    running: AtomicUsize,
    /// Whether the body of the newest request was read to its end.
    is_read: AtomicBool,
    /// Whether the peer has ended its side.
    has_ended: AtomicBool,
    /// Whether every further answer is the last one.
    is_closing: AtomicBool,
    /// Whether it was asked to make room.
    is_evicted: AtomicBool,
    eviction: Notify,
    active: Mutex<Instant>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            begun: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            is_read: AtomicBool::new(true),
            has_ended: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            eviction: Notify::new(),
            active: Mutex::new(Instant::now()),
        }
    }

    /// A request has come, whose body is to be read or (`is_read`) is none; it is there until its guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, is_read: bool) -> Running {
        self.is_read.store(is_read, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Whether anything was ever asked here.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Whether a request runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// The number of the request that runs and has arrived whole; none while nothing runs or its body is still read.
    pub(super) fn running_request(&self) -> Option<usize> {
        let has_arrived = self.is_running() && self.is_read();
        has_arrived.then(|| self.begun.load(Ordering::Relaxed))
    }

    /// The body of the request was read to its end.
    pub(super) fn read(&self) {
        self.is_read.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Waits until this connection has to make room.
    pub(super) async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// It does not make room: it is not idle any more.
    pub(super) fn stay(&self) {
        self.is_evicted.store(false, Ordering::Relaxed);
    }

    /// Since when it is idle, if it is.
    fn idle_since(&self) -> Option<Instant> {
        if self.is_running() || self.is_evicted.load(Ordering::Relaxed) {
            return None;
        }
        let since = *lock(&self.active);
        (since.elapsed() >= IDLE_AFTER).then_some(since)
    }

    fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.eviction.notify_one();
    }
}

/// A request that runs.
#[derive(Debug)]
pub(super) struct Running(Arc<Traffic>);

impl Drop for Running {
    fn drop(&mut self) {
        *lock(&self.0.active) = Instant::now();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is behind these locks is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connections in ordinary places, by number.
type Open = Mutex<HashMap<usize, Arc<Traffic>>>;

/// All places.
pub(super) struct Places {
    ordinary: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    open: Arc<Open>,
    numbers: AtomicUsize,
}

/// The place of one connection, free again when it is dropped.
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    /// Where it is listed, if it is an ordinary one.
    listed: Option<(usize, Arc<Open>)>,
    traffic: Arc<Traffic>,
}

impl Place {
    fn new(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            permit,
            listed: None,
            traffic: Arc::new(Traffic::new()),
        }
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Whether only vital paths are served here.
    pub(super) fn is_reserved(&self) -> bool {
        self.listed.is_none()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((number, open)) = &self.listed {
            lock(open).remove(number);
        }
        // The list first: whoever gets the place must not find its last holder there.
        self.permit.take();
    }
}

impl Places {
    pub(super) fn new(ordinary: usize) -> Self {
        Self {
            ordinary: Arc::new(Semaphore::new(ordinary.min(Semaphore::MAX_PERMITS))),
            reserved: Arc::new(Semaphore::new(RESERVED)),
            open: Arc::new(Mutex::new(HashMap::new())),
            numbers: AtomicUsize::new(0),
        }
    }

    fn ordinary(&self, permit: OwnedSemaphorePermit) -> Place {
        let mut place = Place::new(Some(permit));
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(number, Arc::clone(&place.traffic));
        place.listed = Some((number, Arc::clone(&self.open)));
        place
    }

    /// A place without waiting: a reserved one, with or without a permit, where no ordinary one is free.
    pub(super) fn at_once(&self) -> Place {
        match Arc::clone(&self.ordinary).try_acquire_owned() {
            Ok(permit) => self.ordinary(permit),
            Err(_) => Place::new(Arc::clone(&self.reserved).try_acquire_owned().ok()),
        }
    }

    /// A place for the next connection. Waits while even the reserved ones are taken.
    pub(super) async fn next(&self) -> Place {
        let place = self.at_once();
        if place.permit.is_some() {
            return place;
        }
        tokio::select! {
            biased;
            permit = Arc::clone(&self.ordinary).acquire_owned() => {
                self.ordinary(permit.expect("the semaphore is never closed"))
            }
            permit = Arc::clone(&self.reserved).acquire_owned() => {
                Place::new(Some(permit.expect("the semaphore is never closed")))
            }
        }
    }

    /// An ordinary place instead of a reserved one, if one has become free or an idle connection makes room.
    pub(super) async fn improve(&self, place: Place) -> Place {
        if !place.is_reserved() {
            return place;
        }
        if let Ok(permit) = Arc::clone(&self.ordinary).try_acquire_owned() {
            return self.ordinary(permit);
        }
        if !self.evict_idlest() {
            return place;
        }
        match timeout(MAKE_ROOM, Arc::clone(&self.ordinary).acquire_owned()).await {
            Ok(Ok(permit)) => self.ordinary(permit),
            _ => place,
        }
    }

    /// A reserved place instead of this one, for a connection that may only be a probe's. The idle make room for the next.
    pub(super) fn reserved_instead(&self, place: Place) -> Place {
        self.evict_idlest();
        if place.is_reserved() {
            return place;
        }
        drop(place);
        Place::new(Arc::clone(&self.reserved).try_acquire_owned().ok())
    }

    /// Asks the connection that has been idle longest to go. False where none is idle.
    fn evict_idlest(&self) -> bool {
        let open = lock(&self.open);
        let idlest = open
            .values()
            .filter_map(|traffic| Some((traffic.idle_since()?, traffic)))
            .min_by_key(|&(since, _)| since);
        if let Some((_, traffic)) = idlest {
            traffic.evict();
        }
        idlest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::io::AsyncWriteExt;

    use crate::http::server::ServerLimits;
    use crate::http::server::trial::{LIMITS, Server, get_bytes, one_answer, rest, status, within};

    #[tokio::test]
    async fn health_is_answered_while_every_place_is_taken() {
        let server = Server::start(ServerLimits {
            max_connections: 1,
            ..LIMITS
        })
        .await;
        let mut first = server.connect().await;
        first.write_all(&get_bytes("/gate")).await.unwrap();
        within(server.gate.entered.notified()).await;
        let health = server.exchange(&get_bytes("/healthz")).await;
        assert_eq!(status(&health), 200, "{health}");
        assert!(health.contains("connection: close"), "{health}");
        let refusal = server.exchange(&get_bytes("/")).await;
        assert_eq!(status(&refusal), 503);
        assert!(refusal.contains("retry-after: 1\r\n"), "{refusal}");
        assert!(refusal.contains("x-request-id: "), "{refusal}");
        let body: Value = serde_json::from_str(refusal.lines().last().unwrap()).unwrap();
        assert_eq!(body["error"]["code"], "too_many_connections");
        // Health is answered although silent connections sit on the reserved places: they are sent away soon.
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(server.connect().await);
        }
        assert_eq!(status(&server.exchange(&get_bytes("/healthz")).await), 200);
        server.gate.open.notify_one();
        assert!(one_answer(&mut first).await.ends_with("through"));
    }

    #[tokio::test]
    async fn an_idle_connection_makes_room() {
        let server = Server::start(ServerLimits {
            max_connections: 2,
            ..LIMITS
        })
        .await;
        // One that never asked for anything, and one that was answered.
        let mut silent = server.connect().await;
        let mut idle = server.connect().await;
        idle.write_all(&get_bytes("/")).await.unwrap();
        one_answer(&mut idle).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = within(async {
                loop {
                    // Too early, it is told that no place is free.
                    let mut client = server.connect().await;
                    client.write_all(&get_bytes("/")).await.unwrap();
                    if status(&one_answer(&mut client).await) == 200 {
                        return client;
                    }
                }
            })
            .await;
            client.write_all(&get_bytes("/gate")).await.unwrap();
            within(server.gate.entered.notified()).await;
            held.push(client);
        }
        assert_eq!(rest(&mut silent).await, "");
        assert_eq!(rest(&mut idle).await, "");
        // Those that are at work stay.
        assert_eq!(status(&server.exchange(&get_bytes("/")).await), 503);
        server.gate.open.notify_waiters();
        for mut client in held {
            assert!(one_answer(&mut client).await.ends_with("through"));
        }
    }
}
