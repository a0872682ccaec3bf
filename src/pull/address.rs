//! An address of the hub, as it is pasted from a browser → the repository and the revision that it names.

use url::Url;

use super::repository::InvalidRepository;

/// Hosts of the public hub, `www.` left out.
const PUBLIC_HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];
/// What stands between a repository and a revision in the addresses of its pages and files.
const BEFORE_REVISION: [&str; 9] = [
    "tree", "blob", "resolve", "raw", "commit", "commits", "revision", "edit", "blame",
];
/// Pages of the hub that look like repositories without an owner.
const PAGES: [&str; 16] = [
    "models",
    "docs",
    "blog",
    "papers",
    "collections",
    "settings",
    "login",
    "join",
    "pricing",
    "posts",
    "chat",
    "tasks",
    "learn",
    "organizations",
    "new",
    "search",
];

/// The repository that `text` names, as `OWNER/NAME` or `OWNER/NAME@REVISION`, where it is an address; none where it is no
/// address. `hub` is the address of the hub that will be asked.
pub(super) fn named_by_address(text: &str, hub: &str) -> Result<Option<String>, InvalidRepository> {
    if let Some(path) = without_prefix(text, "hf://") {
        return repository_at(text, path).map(Some);
    }
    for host in PUBLIC_HOSTS {
        if let Some(path) = without_prefix(text, &format!("git@{host}:")) {
            return repository_at(text, path).map(Some);
        }
    }
    let hub = Url::parse(hub).ok();
    if !text.contains("://") {
        // Browsers hide the scheme.
        let first = text.split('/').next().unwrap_or_default();
        let own = hub.as_ref().map(authority);
        let is_host = is_public(first) || own.is_some_and(|own| own.eq_ignore_ascii_case(first));
        if is_host && text.contains('/') {
            return named_by_address(
                &format!("https://{text}"),
                hub.as_ref().map_or("", Url::as_str),
            );
        }
        // As the hub's own tools spell the kinds of repositories.
        let is_kind = ["models/", "datasets/", "spaces/"]
            .iter()
            .any(|kind| text.starts_with(kind));
        return (is_kind && text.split('/').count() == 3)
            .then(|| repository_at(text, text))
            .transpose();
    }
    let no_repository = || InvalidRepository::text(text);
    let url = Url::parse(text).map_err(|_| no_repository())?;
    // What follows a question mark may be a signature, and what precedes the host a password.
    let shown = format!("{}://{}{}", url.scheme(), authority(&url), url.path());
    if !["http", "https"].contains(&url.scheme()) {
        return Err(InvalidRepository::text(&shown));
    }
    let path = match &hub {
        Some(hub) if authority(hub) == authority(&url) => {
            let base = hub.path().trim_end_matches('/');
            url.path().strip_prefix(base).unwrap_or(url.path())
        }
        _ if is_public(url.host_str().unwrap_or_default()) => url.path(),
        _ => {
            return Err(InvalidRepository::OtherHost {
                host: authority(&url),
                text: shown,
            });
        }
    };
    let decoded = decode(path).ok_or_else(|| InvalidRepository::text(&shown))?;
    repository_at(&shown, &decoded).map(Some)
}

/// Reads `[models/]OWNER/NAME[/tree/REVISION[/…]]`; `text` is what errors show.
fn repository_at(text: &str, path: &str) -> Result<String, InvalidRepository> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    if parts.peek() == Some(&"api") {
        parts.next();
    }
    if let Some(kind @ ("datasets" | "spaces")) = parts.peek().copied() {
        return Err(InvalidRepository::OtherKind {
            text: text.to_owned(),
            kind: kind.trim_end_matches('s').to_owned(),
        });
    }
    let mut parts: Vec<&str> = parts.collect();
    if parts.len() > 1 && parts[0] == "models" {
        parts.remove(0);
    }
    let name = match parts[..] {
        [page] if PAGES.contains(&page) => return Err(InvalidRepository::text(text)),
        [] => return Err(InvalidRepository::text(text)),
        // Some old repositories have no owner.
        [name] => name.to_owned(),
        [name, marker, ..] if BEFORE_REVISION.contains(&marker) => name.to_owned(),
        [owner, name, ..] => format!("{owner}/{name}"),
    };
    let rest = &parts[name.split('/').count()..];
    let revision = match rest {
        // The one kind of revision with slashes that the hub makes itself.
        [marker, "refs", kind, name, ..] if BEFORE_REVISION.contains(marker) => {
            Some(format!("refs/{kind}/{name}"))
        }
        [marker, revision, ..] if BEFORE_REVISION.contains(marker) => Some((*revision).to_owned()),
        // The file in `hf://OWNER/NAME/FILE`, or a page about the repository.
        _ => None,
    };
    let name = name.strip_suffix(".git").unwrap_or(&name);
    Ok(match revision {
        Some(revision) => format!("{name}@{revision}"),
        None => name.to_owned(),
    })
}

fn is_public(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    PUBLIC_HOSTS.contains(&host.strip_prefix("www.").unwrap_or(&host))
}

/// Host and port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// `%2F` → `/`. The hub writes revisions with slashes so.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                let digits = [*high, *low];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            (b'%', _) => return None,
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PUBLIC_HUB;

    #[track_caller]
    fn names(text: &str, expected: &str) {
        let named = named_by_address(text, PUBLIC_HUB);
        assert_eq!(named, Ok(Some(expected.to_owned())), "{text}");
    }

    #[test]
    fn every_address_of_a_repository_names_it_and_its_revision() {
        for after in [
            "",
            "/",
            "?library=diffusers",
            "#usage",
            "/discussions/3",
            "/tree",
        ] {
            names(&format!("https://huggingface.co/a/b{after}"), "a/b");
        }
        for (after, revision) in [
            ("tree/main", "main"),
            ("tree/v1/vae/deep", "v1"),
            ("blob/v1/vae/config.json", "v1"),
            ("resolve/c0ffee/model_index.json?download=true", "c0ffee"),
            ("raw/main/README.md", "main"),
            ("commit/c0ffee", "c0ffee"),
            ("tree/refs%2Fpr%2F3", "refs/pr/3"),
            ("tree/refs/pr/3/vae", "refs/pr/3"),
        ] {
            names(
                &format!("https://huggingface.co/a/b/{after}"),
                &format!("a/b@{revision}"),
            );
        }
        for text in [
            "http://huggingface.co/a/b",
            "HTTPS://HuggingFace.co/a/b",
            "https://www.huggingface.co/a/b/",
            "https://hf.co/a/b",
            "https://user:hf_hush@huggingface.co/a/b",
            "huggingface.co/a/b",
            "www.hf.co/a/b/",
            "https://huggingface.co/models/a/b",
            "https://huggingface.co/api/models/a/b",
            "https://huggingface.co/a/b.git",
            "git@hf.co:a/b",
            "hf://a/b",
            "hf://models/a/b",
            "hf://a/b/vae/config.json",
            "models/a/b",
        ] {
            names(text, "a/b");
        }
        names("https://huggingface.co/a/b@v1", "a/b@v1");
        names("hf://a/b@v1/vae/config.json", "a/b@v1");
        names("https://huggingface.co/b", "b");
        names("https://huggingface.co/b/tree/v1", "b@v1");
    }

    #[test]
    fn what_is_no_address_is_left_to_others() {
        for text in [
            "a/b", "a/b@v1", "b", "", "a/b/c", "./hf.co", "hf.co", "models/b",
        ] {
            assert_eq!(named_by_address(text, PUBLIC_HUB), Ok(None), "{text}");
        }
    }

    #[test]
    fn data_sets_spaces_pages_and_other_hosts_are_refused_each_with_its_reason() {
        for (text, part) in [
            ("https://huggingface.co/datasets/a/b", "is a dataset"),
            (
                "https://huggingface.co/datasets/a/b/tree/main",
                "is a dataset",
            ),
            ("https://huggingface.co/spaces/a/b", "is a space"),
            ("hf://datasets/a/b", "is a dataset"),
            ("datasets/a/b", "is a dataset"),
            ("https://huggingface.co/", "names no repository"),
            ("https://huggingface.co/models", "names no repository"),
            ("https://huggingface.co/a/b/tree/%zz", "names no repository"),
            ("https://github.com/a/b", "github.com is not the hub"),
            ("https://huggingface.co.evil.example/a/b", "HF_ENDPOINT"),
            ("ftp://huggingface.co/a/b", "names no repository"),
            ("https://", "names no repository"),
        ] {
            let error = named_by_address(text, PUBLIC_HUB).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn another_hubs_own_addresses_are_taken_with_the_path_before_them() {
        let hub = "http://127.0.0.1:8081/base";
        for text in [
            "http://127.0.0.1:8081/base/a/b/tree/v1",
            "http://127.0.0.1:8081/a/b/tree/v1",
            "127.0.0.1:8081/base/a/b/tree/v1",
            "https://huggingface.co/a/b/tree/v1",
        ] {
            assert_eq!(
                named_by_address(text, hub),
                Ok(Some("a/b@v1".to_owned())),
                "{text}"
            );
        }
        let other = named_by_address("http://127.0.0.1:9/a/b", hub);
        assert!(other.unwrap_err().to_string().contains("127.0.0.1:9"));
    }

    #[test]
    fn no_message_has_a_password_or_a_signature() {
        for text in [
            "https://user:hf_hush@github.com/a/b?signature=hf_hush",
            "https://user:hf_hush@huggingface.co/datasets/a/b?x=hf_hush",
        ] {
            let error = named_by_address(text, PUBLIC_HUB).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        }
    }
}
