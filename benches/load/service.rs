//! The service as a child process: started, scraped, watched in `/proc`, told to end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::client::{ask, get};
use crate::samples::Samples;

/// Where to find OpenVINO and the binary.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Loading takes a second, the first conversion of the embedded model some more.
const START: Duration = Duration::from_secs(120);
/// How often and at what distance descriptors are counted.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(50);
/// What stands before the address when pictures can be asked for.
const READY: &str = "pixart draws at http://";

/// The program under test.
pub struct Binary(PathBuf);

impl Binary {
    /// At a path from the project's root.
    pub fn at(path: PathBuf) -> Self {
        let path = fs::canonicalize(PathBuf::from(ROOT).join(&path));
        Self(path.expect("the binary is there: 'make build' builds it"))
    }

    /// Starts `pixart serve` and waits until it is ready. `settings` as in the environment, without `PIXART__`.
    pub async fn serve(&self, settings: &[(&str, &str)]) -> Service {
        let mut child = Command::new(&self.0)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .envs(
                settings
                    .iter()
                    .map(|(key, value)| (format!("PIXART__{key}"), value)),
            )
            .current_dir(ROOT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(tempfile::tempfile().unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = tokio::task::spawn_blocking(move || {
            lines
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix(READY)?.parse().ok())
        });
        let address: Option<SocketAddr> = tokio::time::timeout(START, address)
            .await
            .expect("the service is ready within START")
            .unwrap();
        let address = address.expect("the service starts: try 'pixart serve' by hand");
        Service { child, address }
    }
}

/// A running service; ended when dropped.
pub struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One scrape.
    pub async fn samples(&self) -> Samples {
        let Ok(answer) = ask(self.address, &get("/metrics")).await else {
            panic!("/metrics does not answer");
        };
        Samples::parse(&String::from_utf8(answer.body).unwrap())
    }

    /// Scrapes until nothing runs or waits, for a minute at most.
    pub async fn samples_at_rest(&self) -> Samples {
        let last = Instant::now() + Duration::from_secs(60);
        loop {
            let samples = self.samples().await;
            let busy = samples.of("requests_running") + samples.of("requests_waiting");
            if busy == 0 || Instant::now() > last {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id();
        // The shell's own `kill` is on every machine, and needs no unsafe code here.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {pid}")])
            .status();
        assert!(sent.unwrap().success(), "the service has ended before");
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let last = Instant::now() + within;
        loop {
            match self.child.try_wait().unwrap() {
                None if Instant::now() < last => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                status => return status,
            }
        }
    }

    /// Bytes of memory that are resident now.
    pub fn resident_bytes(&self) -> f64 {
        self.status("VmRSS:") as f64 * 1024.0
    }

    /// Threads now.
    pub fn threads(&self) -> usize {
        self.status("Threads:")
    }

    /// Open file descriptors at rest: the fewest of several looks, because what was closed a moment ago is still counted.
    pub async fn descriptors(&self) -> usize {
        let mut fewest = usize::MAX;
        for _ in 0..LOOKS {
            let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
            fewest = fewest.min(open.count());
            tokio::time::sleep(LOOK).await;
        }
        fewest
    }

    fn status(&self, key: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        let number = value.and_then(|value| value.split_whitespace().next());
        number.unwrap().parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
