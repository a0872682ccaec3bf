//! Under which names the service answers: the `Host` of a request, held to RFC 9112 and to the settings.
//!
//! Why names matter to a service without keys on this machine alone: a page from anywhere can have its own name resolve to
//! 127.0.0.1 (DNS rebinding), and the browser then takes the service for the page's own server. Such a request still carries
//! the page's name as its `Host`, by which it is refused.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderValue, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use url::Host;

use super::VITAL;
use super::error::{ApiError, ErrorCode};
use crate::config::{AllowedHost, PublicUrl, ServerSettings};

/// The names that requests may come under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Any name. A valid `Host` is asked for all the same.
    Any,
    /// The names of this machine for itself, and these.
    Loopback(Vec<AllowedHost>),
    /// These alone.
    Listed(Vec<AllowedHost>),
}

impl AllowedHosts {
    /// As the settings have it: those of the list and of `public_url`, and the loopback names where the service listens
    /// there. A service that others can reach and that has no list answers under any name: in a container it cannot know
    /// which it has.
    pub fn of(settings: &ServerSettings) -> Self {
        let is_loopback = settings.listen.ip().to_canonical().is_loopback();
        let listed = &settings.allowed_hosts;
        if listed.contains(&AllowedHost::Any) || (listed.is_empty() && !is_loopback) {
            return Self::Any;
        }
        let public = settings.public_url.as_ref().and_then(PublicUrl::host);
        let all = listed.iter().cloned().chain(public).collect();
        if is_loopback {
            Self::Loopback(all)
        } else {
            Self::Listed(all)
        }
    }

    fn allow(&self, host: &Host) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback(listed) => is_loopback(host) || listed.iter().any(|one| one.is(host)),
            Self::Listed(listed) => listed.iter().any(|one| one.is(host)),
        }
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).to_canonical().is_loopback(),
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Holds every request to `allowed`, but for those of the vital paths: probes and Prometheus come by an address, whatever
/// names were given, and nothing that these answer is a secret.
pub(super) fn guard(router: Router, allowed: AllowedHosts) -> Router {
    router.layer(from_fn_with_state(Arc::new(allowed), check))
}

async fn check(
    State(allowed): State<Arc<AllowedHosts>>,
    mut request: Request,
    next: Next,
) -> Response {
    match named(&request) {
        Err(error) => return error.into_response(),
        Ok(Some(host)) if !allowed.allow(&host) && !VITAL.contains(&request.uri().path()) => {
            let what = "this service does not answer under the name in Host: use one that it is known by, or have its operator \
                        list the name in server.allowed_hosts (PIXART__SERVER__ALLOWED_HOSTS)";
            return ApiError::new(ErrorCode::HostNotAllowed, what).into_response();
        }
        Ok(_) => {}
    }
    // What the address says goes before what Host says (RFC 9112, section 3.2.2), also in the URLs of images.
    let authority = request.uri().authority().map(|it| it.as_str().to_owned());
    if let Some(host) = authority.and_then(|it| HeaderValue::try_from(it).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    next.run(request).await
}

/// The host that a request names; none only in HTTP/1.0, which had no such field.
fn named(request: &Request) -> Result<Option<Host>, ApiError> {
    let refuse = |what: &str| ApiError::new(ErrorCode::InvalidRequest, what);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(refuse("the request has Host more than once: send it once"));
    }
    let authority = request.uri().authority().map(|it| it.as_str().as_bytes());
    let Some(host) = host else {
        if request.version() > Version::HTTP_10 {
            return Err(refuse(
                "the request has no Host: send the name or address that the service was reached by",
            ));
        }
        return Ok(authority.and_then(parse));
    };
    let invalid = || {
        refuse(
            "Host is not valid: it is a name or an address, with a port or without, such as localhost:8080",
        )
    };
    let host = parse(host.as_bytes()).ok_or_else(invalid)?;
    match authority {
        Some(authority) => parse(authority).ok_or_else(invalid).map(Some),
        None => Ok(Some(host)),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2). An empty host is no host of an http address (section 4.2.1).
fn parse(text: &[u8]) -> Option<Host> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside of the brackets of an IPv6 address.
        Some((_, rest)) if rest.ends_with(']') => (text, ""),
        Some((host, port)) => (host, port),
        None => (text, ""),
    };
    let is_port = port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    // Of the characters that a name may have, none is beyond ASCII; what is percent-encoded is nobody's name.
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'%');
    if !is_port || !is_name {
        return None;
    }
    if let Some(address) = host.strip_prefix('[') {
        // The address alone: a zone is for this machine's own use.
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Ipv6(address));
    }
    Host::parse(host).ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    fn settings(listen: &str, hosts: &[&str], public_url: Option<&str>) -> ServerSettings {
        ServerSettings {
            listen: listen.parse().unwrap(),
            allowed_hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            public_url: public_url.map(|url| url.parse().unwrap()),
            ..ServerSettings::default()
        }
    }

    async fn status(
        settings: &ServerSettings,
        version: Version,
        target: &str,
        hosts: &[&[u8]],
    ) -> u16 {
        let app = Router::new()
            .route(
                "/",
                get(async |request: Request| {
                    let host = request.headers().get(HOST).cloned();
                    host.map_or(String::new(), |host| host.to_str().unwrap().to_owned())
                }),
            )
            .route("/healthz", get(async || "well"));
        let mut request = Request::get(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(Body::empty()).unwrap();
        let app = guard(app, AllowedHosts::of(settings));
        app.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_host_is_there_once_and_valid_or_the_request_is_refused_whatever_is_allowed() {
        let any = settings("0.0.0.0:8080", &[], None);
        let get = async |hosts: &[&[u8]]| status(&any, Version::HTTP_11, "/", hosts).await;
        assert_eq!(get(&[]).await, 400);
        assert_eq!(get(&[b"a", b"a"]).await, 400);
        for invalid in [
            &b""[..],
            b" ",
            b":8080",
            b"a b",
            b"a/b",
            b"user@a",
            b"a:b",
            b"a:65536",
            b"a:-1",
            b"[::1",
            b"::1",
            b"[::1]x",
            b"[::1%25eth0]",
            b"a\\b",
            b"a?b",
            b"a#b",
            b"%61",
            b"\xff",
            b"a<b",
            b"1.2.3.256",
        ] {
            assert_eq!(get(&[invalid]).await, 400, "{}", invalid.escape_ascii());
        }
        for valid in [
            &b"a"[..],
            b"a:",
            b"a:80",
            b"pixart_1",
            b"a.example.",
            b"10.0.0.1:8080",
            b"[fe80::1]:80",
            b"xn--bcher-kva.example",
        ] {
            assert_eq!(get(&[valid]).await, 200, "{}", valid.escape_ascii());
        }
        // HTTP/1.0 knew no Host.
        assert_eq!(status(&any, Version::HTTP_10, "/", &[]).await, 200);
        assert_eq!(
            status(&any, Version::HTTP_10, "/", &[b"a", b"b"]).await,
            400
        );
    }

    #[tokio::test]
    async fn on_the_loopback_names_of_others_are_refused_and_health_is_not() {
        let get = async |settings: &ServerSettings, target: &str, host: &str| {
            status(settings, Version::HTTP_11, target, &[host.as_bytes()]).await
        };
        for listen in ["127.0.0.1:8080", "127.8.0.1:1", "[::1]:8080"] {
            let local = settings(listen, &[], Some("https://Pictures.example:8443/draw/"));
            for own in [
                "localhost",
                "LOCALHOST:3",
                "app.localhost:80",
                "localhost.",
                "127.0.0.1",
                "127.200.3.4:9",
                "[::1]:1",
                "pictures.example",
                "PICTURES.example:1",
            ] {
                assert_eq!(get(&local, "/", own).await, 200, "{own}");
            }
            for other in [
                "evil.example",
                "localhost.evil.example",
                "notlocalhost",
                "10.0.0.1",
                "0.0.0.0",
                "[::2]",
                "127.0.0.1.evil.example",
                "a.pictures.example",
            ] {
                assert_eq!(get(&local, "/", other).await, 421, "{other}");
                assert_eq!(get(&local, "/healthz", other).await, 200, "{other}");
                // The address goes before Host.
                assert_eq!(
                    get(&local, &format!("http://{other}/"), "localhost").await,
                    421,
                    "{other}"
                );
            }
            assert_eq!(get(&local, "http://localhost/", "evil.example").await, 200);
        }
    }

    #[tokio::test]
    async fn a_list_adds_to_the_loopback_and_closes_every_other_address() {
        let get = async |settings: &ServerSettings, host: &str| {
            status(settings, Version::HTTP_11, "/", &[host.as_bytes()]).await
        };
        let open = settings("0.0.0.0:8080", &[], Some("https://pictures.example"));
        assert_eq!(get(&open, "pixart:8080").await, 200);
        let listed = settings(
            "0.0.0.0:8080",
            &["pixart", "*.example.org", "10.0.0.7"],
            Some("https://pictures.example"),
        );
        for (host, expected) in [
            ("pixart:8080", 200),
            ("PIXART", 200),
            ("a.example.org", 200),
            ("a.b.example.org.", 200),
            ("10.0.0.7:1", 200),
            ("pictures.example", 200),
            ("example.org", 421),
            ("badexample.org", 421),
            ("localhost", 421),
            ("10.0.0.8", 421),
        ] {
            assert_eq!(get(&listed, host).await, expected, "{host}");
        }
        let local = settings("127.0.0.1:1", &["pixart"], None);
        assert_eq!(get(&local, "pixart").await, 200);
        assert_eq!(get(&local, "localhost").await, 200);
        assert_eq!(get(&local, "evil.example").await, 421);
        let all = settings("127.0.0.1:1", &["*"], None);
        assert_eq!(get(&all, "evil.example").await, 200);
    }
}
