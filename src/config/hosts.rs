//! `server.allowed_hosts`: names under which the service answers.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Host;

/// An entry of `server.allowed_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`: any name.
    Any,
    /// `*.example.org`: every name below this one, which is kept without its dot.
    Below(String),
    /// A name in lower case or an address, under any port.
    One(Host),
}

impl AllowedHost {
    /// Whether `host` is meant by it. A dot at a name's end says only that the name is whole.
    pub fn is(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(parent), Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.strip_suffix(parent.as_str())
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Below(_), _) => false,
            (Self::One(Host::Domain(own)), Host::Domain(name)) => {
                own == name.strip_suffix('.').unwrap_or(name)
            }
            (Self::One(own), host) => own == host,
        }
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || {
            format!(
                "server.allowed_hosts has {text:?}: give names or addresses without scheme, port and path, such as \
                 pixart.example.org, *.example.org, 10.0.0.7 or [fd00::7], or '*' for any"
            )
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        let (is_parent, name) = match text.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, text),
        };
        if name.contains(['*', '%']) {
            return Err(refuse());
        }
        let host = match Host::parse(name).map_err(|_| refuse())? {
            // As one may write it, and as it may come in.
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
                if name.is_empty() {
                    return Err(refuse());
                }
                Host::Domain(name)
            }
            host => host,
        };
        match (is_parent, host) {
            (true, Host::Domain(parent)) => Ok(Self::Below(parent)),
            (true, _) => Err(refuse()),
            (false, host) => Ok(Self::One(host)),
        }
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::One(host) => host.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for AllowedHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for AllowedHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_taken_and_what_is_more_than_a_host_is_not() {
        for (text, shown) in [
            ("*", "*"),
            ("Pixart.Example.", "pixart.example"),
            ("*.Example.org", "*.example.org"),
            ("pixart_1", "pixart_1"),
            ("10.0.0.7", "10.0.0.7"),
            ("[FD00::7]", "[fd00::7]"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<AllowedHost>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            ".",
            "*.",
            "a:80",
            "https://a",
            "a/b",
            "a b",
            "a@b",
            "*.10.0.0.7",
            "a.*",
            "**",
            "fd00::7",
            "%61",
        ] {
            let error = text.parse::<AllowedHost>().unwrap_err();
            assert!(error.contains("server.allowed_hosts"), "{text}: {error}");
        }
    }
}
