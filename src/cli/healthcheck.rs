//! `pixart healthcheck`: one GET of the service's own health page, for containers that have no shell.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Common, say};

/// Longest answer that is read: the page has one line.
const MOST_BYTES: u64 = 64 * 1024;

/// Ask a running service whether it is well: exit code 0 when it is, 1 when it is not.
///
/// Asks /healthz: whether the process answers and its worker moves. With --ready it asks /readyz: whether a request would
/// be taken now. The address is that of the settings, so a container needs no flags.
#[derive(Debug, clap::Args)]
pub(super) struct Healthcheck {
    /// Ask whether requests are taken, not only whether the process lives
    #[arg(long)]
    ready: bool,

    /// The service's address and port [default: server.listen of the settings]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,

    /// How long to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout_seconds: u64,
}

impl Healthcheck {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let app = common.app(Vec::new())?;
        let address = reachable(self.address.unwrap_or(app.settings().server.listen));
        let page = if self.ready { "/readyz" } else { "/healthz" };
        let answer = ask(address, page, Duration::from_secs(self.timeout_seconds))
            .with_context(|| format!("http://{address}{page} does not answer"))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer is not HTTP")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status != "200" {
            bail!("http://{address}{page} answers {status}: {}", body.trim());
        }
        say(body.trim())?;
        Ok(())
    }
}

/// A service that listens on every address is reached on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn ask(address: SocketAddr, page: &str, timeout: Duration) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    write!(
        connection,
        "GET {page} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.take(MOST_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_every_address_is_asked_on_the_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:8080", "10.1.2.3:8080"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
