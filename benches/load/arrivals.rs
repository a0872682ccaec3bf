//! Clients that come by the clock, and clients that come again when they are answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_mt::Mt64;
use tokio::task::JoinSet;

use crate::client::{Connection, Drawing, JSON};

/// Clients of [`capacity`]: more than one, so that the worker never waits for work.
const FEEDERS: usize = 3;

/// Random numbers that are the same in every run.
pub struct Dice(Mt64);

impl Dice {
    /// A sequence by its number.
    pub fn new(seed: u64) -> Self {
        Self(Mt64::new(seed))
    }

    /// From 0 up to and without 1.
    pub fn part(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From nothing up to `longest`.
    pub fn time(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.part())
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// Time between two arrivals of a Poisson process.
    fn gap(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.part()).ln() / per_second)
    }
}

/// Open loop: `begin` is called at random moments, so many a second on average, whether the earlier ones have been
/// answered or not.
pub async fn open_loop<Client, T>(
    per_second: f64,
    time: Duration,
    mut begin: impl FnMut(usize) -> Client,
) -> Vec<T>
where
    Client: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut dice = Dice::new(1);
    let mut clients = JoinSet::new();
    let start = tokio::time::Instant::now();
    let mut at = dice.gap(per_second);
    while at < time {
        tokio::time::sleep_until(start + at).await;
        clients.spawn(begin(clients.len()));
        at += dice.gap(per_second);
    }
    clients.join_all().await
}

/// Closed loop: pictures a second when the worker always has the next one.
pub async fn capacity(address: SocketAddr, drawing: Drawing, time: Duration) -> f64 {
    let mut clients = JoinSet::new();
    let last = Instant::now() + time;
    for _ in 0..FEEDERS {
        clients.spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let mut drawn = Vec::new();
            while Instant::now() < last {
                let answer = connection.ask(&drawing.request(JSON)).await;
                drawn.push(answer.ok().filter(|it| it.status == 200).unwrap().arrived);
            }
            drawn
        });
    }
    per_second(clients.join_all().await.into_iter().flatten())
}

/// Events a second, between the first and the last.
pub fn per_second(moments: impl IntoIterator<Item = Instant>) -> f64 {
    let mut moments: Vec<Instant> = moments.into_iter().collect();
    moments.sort_unstable();
    match moments.as_slice() {
        [first, .., last] => (moments.len() - 1) as f64 / (*last - *first).as_secs_f64(),
        _ => 0.0,
    }
}
