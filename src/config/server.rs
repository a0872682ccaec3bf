//! `[server]` and `[openai]`: where the service listens, whom it lets in, what it calls itself.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::hosts::AllowedHost;
use super::range::within;

/// Longest name that a model goes by, in characters. OpenAI's are far below.
const MAX_ALIAS_CHARS: usize = 128;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address that takes requests; port 0 takes any free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Address of `/metrics` and nothing else; none leaves `/metrics` on `listen`.
    #[serde(deserialize_with = "maybe_address", serialize_with = "or_empty")]
    pub metrics_listen: Option<SocketAddr>,
    /// What URLs of pictures begin with; none takes the request's `Host`.
    #[serde(deserialize_with = "maybe_url", serialize_with = "or_empty")]
    pub public_url: Option<PublicUrl>,
    /// Names that requests may come under, beside the loopback's own where `listen` is there; none elsewhere is any.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Open connections; those beyond wait in the system's backlog.
    pub max_connections: usize,
    /// A connection's time to send the head of a request, and how long an idle one is kept.
    pub header_read_seconds: u64,
    /// A request's time to send its body.
    pub body_read_seconds: u64,
    /// How long a reader may take nothing of an answer.
    pub write_stall_seconds: u64,
    /// Largest body of a request.
    pub max_body_kib: usize,
    /// Origins whose pages may call the service, or `*`.
    pub cors_origins: Vec<String>,
    /// How long requests are still taken after SIGTERM, while `/readyz` already sends balancers away.
    pub lame_duck_seconds: u64,
    /// What the running job has to finish after SIGTERM, once nothing more is taken.
    pub grace_seconds: u64,
    /// Whether the system may make core dumps of this process, and of the commands that draw.
    pub core_dumps: bool,
}

/// `[openai]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenaiSettings {
    /// Names that `model` may have beside the model's own; `*` in one stands for any characters.
    pub model_aliases: Vec<String>,
}

/// `http://` or `https://`, a host, perhaps a port and a path; without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Its text, to which `/v1/…` is appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host in it, whatever its port.
    pub fn host(&self) -> Option<AllowedHost> {
        let url = Url::parse(&self.0).ok()?;
        url.host_str()?.parse().ok()
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let makes_sense = rest.is_some_and(|rest| {
            !rest.is_empty()
                && !rest.starts_with('/')
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"?#@\"<>\\".contains(&byte))
        });
        if makes_sense {
            return Ok(Self(text.trim_end_matches('/').to_owned()));
        }
        // The text is not shown: people put passwords into URLs.
        Err(
            "this is no base of URLs: give one such as https://pictures.example.org, without user, query and fragment"
                .to_owned(),
        )
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            metrics_listen: None,
            public_url: None,
            allowed_hosts: Vec::new(),
            max_connections: 512,
            header_read_seconds: 10,
            body_read_seconds: 10,
            write_stall_seconds: 30,
            max_body_kib: 64,
            cors_origins: Vec::new(),
            lame_duck_seconds: 0,
            grace_seconds: 25,
            core_dumps: false,
        }
    }
}

impl Default for OpenaiSettings {
    fn default() -> Self {
        let names = ["gpt-image-*", "chatgpt-image-*", "dall-e-2", "dall-e-3"];
        Self {
            model_aliases: names.map(str::to_owned).to_vec(),
        }
    }
}

impl ServerSettings {
    /// Largest body of a request in bytes.
    pub fn max_body_bytes(&self) -> usize {
        self.max_body_kib.saturating_mul(1024)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within(
            "server.max_connections",
            self.max_connections,
            1..=65_536,
            "connections",
        )?;
        for (key, seconds) in [
            ("server.header_read_seconds", self.header_read_seconds),
            ("server.body_read_seconds", self.body_read_seconds),
            ("server.write_stall_seconds", self.write_stall_seconds),
        ] {
            within(key, seconds, 1..=3600, "seconds")?;
        }
        within("server.max_body_kib", self.max_body_kib, 1..=1024, "KiB")?;
        for (key, seconds) in [
            ("server.lame_duck_seconds", self.lame_duck_seconds),
            ("server.grace_seconds", self.grace_seconds),
        ] {
            within(key, seconds, 0..=3600, "seconds")?;
        }
        if self
            .metrics_listen
            .is_some_and(|address| address.port() != 0 && address == self.listen)
        {
            return Err(format!(
                "server.metrics_listen is {}, as server.listen is: give another port, or leave it empty",
                self.listen
            ));
        }
        let any = self.cors_origins.iter().any(|origin| origin == "*");
        if any && self.cors_origins.len() > 1 {
            return Err(
                "server.cors_origins has '*' beside others: '*' lets all in, give it alone"
                    .to_owned(),
            );
        }
        match self
            .cors_origins
            .iter()
            .find(|origin| !any && !is_origin(origin))
        {
            Some(origin) => Err(format!(
                "server.cors_origins has {origin:?}: give origins as browsers send them, such as https://example.org or \
                 http://localhost:3000, in lower case and without a path, or '*'"
            )),
            None => Ok(()),
        }
    }
}

impl OpenaiSettings {
    /// Whether `name` is an alias, or is what an alias with `*` stands for. The case of letters does not count.
    pub fn has_alias(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.model_aliases
            .iter()
            .any(|alias| is_like(&name, &alias.to_lowercase()))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.chars().count() <= MAX_ALIAS_CHARS
                && !name.chars().any(char::is_control)
        };
        match self.model_aliases.iter().find(|name| !is_name(name)) {
            Some(name) => Err(format!(
                "openai.model_aliases has {name:?}: give names of 1 to {MAX_ALIAS_CHARS} characters"
            )),
            None => Ok(()),
        }
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for any characters, none among them.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = rest.split('*');
    let last = parts.next_back().unwrap_or_default();
    // Each part where it comes first: what that leaves for the others is the most there can be.
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// `scheme://host[:port]`, as the `Origin` header has it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    !scheme.is_empty()
        && !host.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        && !host.contains(['/', '?', '#', '@', '*', ','])
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address: give an IP and a port, such as 127.0.0.1:8080 or [::]:8080"
        )
    })
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn maybe_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    unless_empty(deserializer, parse_address)
}

fn maybe_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PublicUrl>, D::Error> {
    unless_empty(deserializer, str::parse)
}

/// TOML has no null: what is not set is an empty text.
fn unless_empty<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    parse(&text).map(Some).map_err(D::Error::custom)
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn or_empty<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_str(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_loses_the_slash_at_its_end_and_takes_no_query() {
        let parse = |text: &str| text.parse::<PublicUrl>().map(|url| url.to_string());
        assert_eq!(
            parse("https://a.example/pictures/"),
            Ok("https://a.example/pictures".to_owned())
        );
        assert_eq!(parse("http://[::1]:80"), Ok("http://[::1]:80".to_owned()));
        for text in [
            "a.example",
            "ftp://a.example",
            "https://",
            "https:///a",
            "https://a.example?b",
            "https://user:secret@a.example",
            "https://a .example",
            "https://a\r\nset-cookie: b",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("such as https://"), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn origins_are_those_that_browsers_send() {
        for origin in ["https://a.example", "http://localhost:3000", "app://b"] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in [
            "",
            "a.example",
            "https://",
            "https://A.example",
            "https://a.example/",
            "https://*.example",
            "https://a.example\n",
            "null",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }

    #[test]
    fn any_origin_stands_alone() {
        let with = |origins: &[&str]| ServerSettings {
            cors_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            ..ServerSettings::default()
        };
        assert_eq!(with(&["*"]).check(), Ok(()));
        assert_eq!(with(&["https://a.example", "http://b"]).check(), Ok(()));
        assert!(with(&["*", "https://a.example"]).check().is_err());
        let error = with(&["https://a.example/"]).check().unwrap_err();
        assert!(error.contains("server.cors_origins"), "{error}");
    }

    #[test]
    fn metrics_take_another_address_than_requests() {
        let mut settings = ServerSettings {
            metrics_listen: Some(ServerSettings::default().listen),
            ..ServerSettings::default()
        };
        assert!(settings.check().unwrap_err().contains("metrics_listen"));
        // Port 0 is another one each time.
        settings.listen.set_port(0);
        settings.metrics_listen = Some(settings.listen);
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn an_alias_with_an_asterisk_stands_for_many_names() {
        let usual = OpenaiSettings::default();
        for name in [
            "gpt-image-1",
            "gpt-image-2.5-sunburst",
            "GPT-Image-2",
            "chatgpt-image-latest",
            "dall-e-2",
            "DALL-E-3",
        ] {
            assert!(usual.has_alias(name), "{name}");
        }
        for name in [
            "",
            "gpt-image",
            "gpt-5",
            "a-gpt-image-1",
            "dall-e-4",
            "dall-e-33",
        ] {
            assert!(!usual.has_alias(name), "{name}");
        }
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("*.1", "x.1.1", true),
            ("a**", "a", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_host_of_the_public_url_is_known() {
        for (url, host) in [
            (
                "https://Pictures.example.org:8443/draw",
                "pictures.example.org",
            ),
            ("http://10.0.0.7", "10.0.0.7"),
            ("http://[fd00::7]:80/", "[fd00::7]"),
        ] {
            let url: PublicUrl = url.parse().unwrap();
            assert_eq!(url.host().unwrap().to_string(), host);
        }
    }

    #[test]
    fn an_alias_is_a_name() {
        let with = |alias: &str| OpenaiSettings {
            model_aliases: vec![alias.to_owned()],
        };
        assert_eq!(with("gpt-image-1").check(), Ok(()));
        for alias in ["", "a\nb", &"a".repeat(129)] {
            assert!(with(alias).check().is_err(), "{alias:?}");
        }
    }
}
