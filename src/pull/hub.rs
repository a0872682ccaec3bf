//! The hub over HTTP: one request with its redirects, and what an answer's status means.
//!
//! Redirects are followed here and not by the HTTP crate: large files lie on other hosts, and the token is sent to the
//! hub's own scheme, host and port alone. Addresses of other hosts carry signatures, so messages name the host only.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, ProxyProtocol, Timeout};
use url::Url;

use super::PullError;
use super::here::Here;
use super::patience::{Patience, Setback, retry_after};
use super::progress::Together;
use super::repository::Repository;
use crate::config::{HubProxy, HubSettings, HubToken};

/// Longest chain of redirects; browsers take 20, the public hub sends one or two.
const MAX_REDIRECTS: usize = 10;

/// Longest time for a name to resolve: twice what the C library waits for one name server.
const RESOLVE: Duration = Duration::from_secs(10);

/// A repository on a hub.
pub(super) struct Hub {
    agent: Agent,
    endpoint: Url,
    token: Option<HubToken>,
    repository: Repository,
    /// Hosts that have answered.
    reached: Mutex<BTreeSet<String>>,
    pub(super) here: Here,
    pub(super) patience: Patience,
    /// Bytes of small documents and of first parts that came.
    received: AtomicU64,
}

impl Hub {
    /// Prepares to ask; nothing is sent yet.
    pub(super) fn new(
        settings: &HubSettings,
        repository: &Repository,
        patience: Patience,
    ) -> Result<Self, PullError> {
        let address = |what, detail: String| PullError::Address { what, detail };
        let endpoint = Url::parse(&settings.endpoint)
            .map_err(|error| address("HF_ENDPOINT", error.to_string()))?;
        let authorities = rustls_native_certs::load_native_certs().certs;
        if authorities.is_empty() && endpoint.scheme() == "https" && settings.offline.is_none() {
            return Err(PullError::NoAuthorities);
        }
        let authorities: Vec<_> = authorities
            .iter()
            .map(|authority| Certificate::from_der(authority))
            .map(|authority| authority.to_owned())
            .collect();
        let proxy = settings
            .proxy
            .as_ref()
            .map(proxy)
            .transpose()
            // Its address may hold a password: the crate's words are not told.
            .map_err(|_| address("HTTPS_PROXY or ALL_PROXY", "not a proxy's".to_owned()))?;
        let agent = Agent::config_builder()
            .user_agent(concat!("pixart/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .timeout_resolve(Some(patience.connect.min(RESOLVE)))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.stall))
            .timeout_recv_response(Some(patience.stall))
            .timeout_per_read(Some(patience.stall))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::new_with_certs(&authorities))
                    .unversioned_rustls_crypto_provider(Arc::new(
                        rustls::crypto::ring::default_provider(),
                    ))
                    .build(),
            )
            .build()
            .into();
        Ok(Self {
            agent,
            endpoint,
            token: settings.token.clone(),
            repository: repository.clone(),
            reached: Mutex::default(),
            here: Here::of(settings, repository),
            patience,
            received: AtomicU64::new(0),
        })
    }

    /// Name and revision, for messages.
    pub(super) fn repository(&self) -> String {
        self.repository.to_string()
    }

    /// The hub's host, for messages.
    pub(super) fn host(&self) -> String {
        host_of(&self.endpoint)
    }

    /// Ends every request at once, those that wait for bytes too.
    pub(super) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Where the listing is: `/api/models/NAME/revision/REVISION`, with sizes and digests.
    pub(super) fn listing_url(&self) -> Url {
        let mut url = self.below(&["api", "models"]);
        extend(&mut url, self.repository.name().split('/'));
        extend(&mut url, ["revision", self.repository.revision()]);
        url.set_query(Some("blobs=true"));
        url
    }

    /// Where a file is: `/NAME/resolve/COMMIT/FILE`.
    pub(super) fn file_url(&self, commit: &str, file: &str) -> Url {
        let mut url = self.below(&[]);
        extend(&mut url, self.repository.name().split('/'));
        extend(&mut url, ["resolve", commit]);
        extend(&mut url, file.split('/'));
        url
    }

    fn below(&self, segments: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        extend(&mut url, segments.iter().copied());
        url
    }

    /// A small document, whole.
    pub(super) fn document(
        &self,
        url: &Url,
        what: &str,
        limit: u64,
        together: &Together<'_>,
    ) -> Result<Vec<u8>, PullError> {
        self.patience.persist(what, together, || {
            let mut answer = self.get(url, what, 0)?;
            let mut bytes = Vec::new();
            answer
                .body_mut()
                .as_reader()
                .take(limit + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| Setback::again(error.to_string()))?;
            if bytes.len() as u64 > limit {
                return Err(self.no_hub(format!("{what} is longer than {limit} bytes")));
            }
            self.count(bytes.len() as u64);
            Ok(bytes)
        })
    }

    /// Counts bytes that came.
    pub(super) fn count(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of small documents and of first parts that have come.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn no_hub(&self, detail: String) -> Setback {
        Setback::Stop(PullError::NoHub {
            hub: host_of(&self.endpoint),
            detail,
        })
    }

    /// One request for the bytes of `url` from `from` on. The answer is 200, 206 or 416.
    pub(super) fn get(&self, url: &Url, what: &str, from: u64) -> Result<Response<Body>, Setback> {
        self.request(url, what, (from > 0).then(|| format!("bytes={from}-")))
    }

    /// One request for the first `count` bytes of `url`, as far as there are as many. The answer is 200, 206 or 416.
    pub(super) fn get_first(
        &self,
        url: &Url,
        what: &str,
        count: u64,
    ) -> Result<Response<Body>, Setback> {
        self.request(url, what, Some(format!("bytes=0-{}", count - 1)))
    }

    fn request(
        &self,
        url: &Url,
        what: &str,
        range: Option<String>,
    ) -> Result<Response<Body>, Setback> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = url.origin() == self.endpoint.origin();
            let mut request = self
                .agent
                .get(url.as_str())
                // Lengths and ranges are those of the file itself.
                .header("accept-encoding", "identity");
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("authorization", format!("Bearer {}", token.expose()));
            }
            if let Some(range) = &range {
                request = request.header("range", range);
            }
            let answer = request
                .call()
                .map_err(|error| self.unanswered(&error, &url))?;
            self.reached
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(host_of(&url));
            match answer.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => url = self.next(&url, &answer)?,
                status => {
                    return if matches!(status, 200 | 206 | 416) {
                        Ok(answer)
                    } else {
                        Err(self.refused(&answer, &url, is_hub, what))
                    };
                }
            }
        }
        Err(self.no_hub(format!("more than {MAX_REDIRECTS} redirects for {what}")))
    }

    /// Where a redirect leads.
    fn next(&self, url: &Url, answer: &Response<Body>) -> Result<Url, Setback> {
        let next = header(answer, "location").and_then(|location| url.join(location).ok());
        match next {
            Some(next)
                if next.scheme() == "https"
                    || (next.scheme() == "http" && url.scheme() == "http") =>
            {
                Ok(next)
            }
            Some(next) if next.scheme() == "http" => Err(self.no_hub(format!(
                "it redirects from https to http at {}",
                host_of(&next)
            ))),
            _ => Err(self.no_hub("it redirects to no address".to_owned())),
        }
    }

    /// What it means that there is no answer.
    fn unanswered(&self, error: &ureq::Error, url: &Url) -> Setback {
        let host = host_of(url);
        match error {
            ureq::Error::HostNotFound | ureq::Error::Timeout(Timeout::Resolve) => {
                self.unresolved(host)
            }
            ureq::Error::Io(error) if is_resolution(error) => self.unresolved(host),
            ureq::Error::Timeout(_) => Setback::again(format!("{host} does not answer")),
            // A certificate that is not trusted today is not trusted in a minute.
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                untrusted(host, error)
            }
            ureq::Error::Io(error) => Setback::again(format!("{host}: {error}")),
            ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed | ureq::Error::BodyStalled => {
                Setback::again(format!("{host}: {error}"))
            }
            ureq::Error::Rustls(error) => untrusted(host, error),
            ureq::Error::ConnectProxyFailed(_) => {
                Setback::again(format!("the proxy does not reach {host}"))
            }
            // The other kinds name addresses, which may carry signatures.
            _ => self.no_hub(format!("the request to {host} failed")),
        }
    }

    /// A name that has resolved before will again: a network that is away for seconds stops no long transfer.
    fn unresolved(&self, host: String) -> Setback {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if reached.contains(&host) {
            Setback::again(format!("no host {host} was found"))
        } else {
            Setback::Unresolved { host }
        }
    }

    /// What a status means that brings nothing.
    fn refused(&self, answer: &Response<Body>, url: &Url, is_hub: bool, what: &str) -> Setback {
        let status = answer.status().as_u16();
        let host = host_of(url);
        if status == 408 || status == 429 || status >= 500 {
            return Setback::Again {
                why: format!("{host} answered {status}"),
                after: header(answer, "retry-after")
                    .and_then(retry_after)
                    .map(|wait| (wait, host)),
                progressed: false,
            };
        }
        if !is_hub && matches!(status, 401 | 403 | 404 | 410) {
            // The hub's next redirect has a fresh signature.
            return Setback::again(format!("{host} answered {status}"));
        }
        let repository = self.repository();
        let is_listing = *url == self.listing_url();
        Setback::Stop(match (status, header(answer, "x-error-code")) {
            (_, Some("RepoNotFound" | "RevisionNotFound")) if status != 401 => {
                PullError::NotFound {
                    hub: host,
                    repository,
                }
            }
            (404, _) if is_listing => PullError::NotFound {
                hub: host,
                repository,
            },
            (404 | 410, _) => PullError::FileGone {
                file: what.to_owned(),
            },
            // The public hub says 401 for what does not exist as well, lest names of private repositories be guessed.
            (401, _) => PullError::Unauthorized {
                hub: host,
                repository,
                advice: if self.token.is_some() {
                    "the token in HF_TOKEN, or that of 'hf auth login', may have expired or may not read it; check the token, and the repository's name"
                } else {
                    "it is private, gated, or does not exist; check the name, and set HF_TOKEN to a token that may read it, or log in with 'hf auth login'"
                },
            },
            (403, _) => PullError::Gated {
                page: format!(
                    "{}/{}",
                    self.endpoint.as_str().trim_end_matches('/'),
                    self.repository.name()
                ),
                repository,
            },
            _ => PullError::Status {
                host,
                status,
                what: what.to_owned(),
            },
        })
    }
}

/// Whether an error is that of the system's resolver. It has no kind of its own; the standard library's words are these.
fn is_resolution(error: &std::io::Error) -> bool {
    error.raw_os_error().is_none()
        && error
            .to_string()
            .starts_with("failed to lookup address information")
}

fn untrusted(host: String, error: &dyn std::error::Error) -> Setback {
    Setback::Stop(PullError::Untrusted {
        host,
        detail: error.to_string(),
    })
}

/// Appends path segments, each encoded as one.
fn extend<'a>(url: &mut Url, segments: impl IntoIterator<Item = &'a str>) {
    url.path_segments_mut()
        .expect("http and https addresses have a path")
        .pop_if_empty()
        .extend(segments);
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A header that is text.
pub(super) fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// `bytes FIRST-LAST/TOTAL` → first, total where it is known.
pub(super) fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// A proxy with the hosts that are reached without it.
fn proxy(settings: &HubProxy) -> Result<Proxy, ureq::Error> {
    let plain = Proxy::new(&settings.address)?;
    let mut builder = Proxy::builder(match plain.protocol() {
        ProxyProtocol::Https => ProxyProtocol::Https,
        _ => ProxyProtocol::Http,
    })
    .host(plain.host())
    .port(plain.port());
    if let Some(name) = plain.username() {
        builder = builder.username(name);
    }
    if let Some(password) = plain.password() {
        builder = builder.password(password);
    }
    for host in settings.except.split(',').filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
    }
    builder.build()
}

/// The time in which nothing comes, for messages.
pub(super) fn stalled(stall: Duration) -> String {
    format!("nothing came for {} s", stall.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn hub(endpoint: &str, repository: &str) -> Hub {
        let environment = Environment::of([("HF_ENDPOINT".into(), endpoint.into())]);
        let settings = HubSettings::of(&environment).unwrap();
        Hub::new(&settings, &repository.parse().unwrap(), Patience::default()).unwrap()
    }

    #[test]
    fn addresses_are_the_hubs_and_every_part_is_one_segment() {
        let hub = hub("http://hub.example/base/", "a/b@refs/pr/1");
        assert_eq!(
            hub.listing_url().as_str(),
            "http://hub.example/base/api/models/a/b/revision/refs%2Fpr%2F1?blobs=true"
        );
        assert_eq!(
            hub.file_url("c0ffee", "vae/a b?#%.json").as_str(),
            "http://hub.example/base/a/b/resolve/c0ffee/vae/a%20b%3F%23%25.json"
        );
    }

    #[test]
    fn a_content_range_is_its_first_byte_and_the_whole_length() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for text in [
            "",
            "bytes */10",
            "items 5-9/10",
            "bytes 5/10",
            "bytes -9/10",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_known_by_the_resolvers_words() {
        use std::net::ToSocketAddrs as _;
        // No name below .invalid ever resolves: RFC 6761.
        let error = "nowhere.invalid:80".to_socket_addrs().unwrap_err();
        assert!(is_resolution(&error), "{error}");
        assert!(!is_resolution(&std::io::Error::other(
            "the connection was reset"
        )));
    }

    #[test]
    fn a_proxy_keeps_its_exceptions() {
        let settings = HubProxy {
            address: "http://user:hush@proxy.example:3128".to_owned(),
            except: "inner.example,.lan".to_owned(),
        };
        let proxy = proxy(&settings).unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy.example", 3128));
        assert_eq!(proxy.password(), Some("hush"));
        assert!(proxy.is_no_proxy(&"https://inner.example".parse().unwrap()));
        assert!(!proxy.is_no_proxy(&"https://outer.example".parse().unwrap()));
    }
}
