//! The page: what its files are sent with, how large they are, and that none is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use reqwest::Method;

use super::{Answer, Server, Studio, send};

/// What a browser loads altogether may be this long.
const MOST_BYTES: usize = 100_000;

/// The paths of every file of the folder, as they are served.
fn paths() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
    let mut names = BTreeSet::new();
    for folder in [root.clone(), root.join("js")] {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                names.insert(entry.file_name().into_string().unwrap());
            }
        }
    }
    assert!(names.remove("index.html"));
    let files = names.into_iter().map(|name| format!("/page/{name}"));
    ["/".to_owned()].into_iter().chain(files).collect()
}

#[track_caller]
fn hold_headers(path: &str, answer: &Answer) {
    assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
    let policy: BTreeSet<&str> = answer
        .header("content-security-policy")
        .split("; ")
        .collect();
    let expected = BTreeSet::from([
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]);
    assert_eq!(policy, expected, "{path}");
    let media_type = match path.rsplit_once('.') {
        None => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        Some(_) => panic!("say how {path} is sent"),
    };
    assert_eq!(answer.header("content-type"), media_type, "{path}");
}

#[tokio::test]
async fn the_page_is_whole_strict_and_small() {
    let server = Server::start(&Studio::open(), &[]).await;
    let mut bytes = 0;
    for path in paths() {
        let answer = server.get(&path).await.is(200);
        hold_headers(&path, &answer);
        bytes += answer.body.len();
    }
    assert!(
        bytes <= MOST_BYTES,
        "the page is {bytes} bytes long, {MOST_BYTES} at most"
    );
}

#[tokio::test]
async fn the_page_names_only_files_that_are_there_and_nothing_from_elsewhere() {
    let server = Server::start(&Studio::open(), &[]).await;
    let index = server.get("/").await.is(200);
    let known: BTreeSet<String> = paths().into_iter().collect();
    let mut named = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in index.text().split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            if !target.is_empty() && !target.starts_with('#') {
                named += 1;
                assert!(known.contains(&format!("/{target}")), "{target}");
            }
        }
    }
    assert!(named >= 4, "{named}");
    for mark in [
        "<style",
        "style=",
        "onclick",
        "javascript:",
        "http:",
        "https:",
    ] {
        assert!(!index.text().contains(mark), "{mark}");
    }
    for path in known
        .iter()
        .filter(|path| path.strip_suffix(".js").is_some())
    {
        let script = server.get(path).await.is(200);
        for rest in script.text().split(" from \"./").skip(1) {
            let module = rest.split('"').next().unwrap();
            assert!(
                known.contains(&format!("/page/{module}")),
                "{path}: {module}"
            );
        }
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!script.text().contains(sink), "{path}: {sink}");
        }
        assert!(
            script.text().starts_with("// "),
            "{path} says what it is for"
        );
    }
}

#[tokio::test]
async fn what_the_browser_has_already_is_not_sent_again() {
    let server = Server::start(&Studio::open(), &[]).await;
    for path in ["/", "/page/style.css"] {
        let first = server.get(path).await.is(200);
        let tag = first.header("etag").to_owned();
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
            "*".to_owned(),
        ] {
            let asked = server
                .request(Method::GET, path)
                .header("if-none-match", &known);
            let answer = send(asked).await.is(304);
            assert_eq!(answer.body, b"", "{known}");
            assert_eq!(answer.header("etag"), tag);
        }
        let asked = server
            .request(Method::GET, path)
            .header("if-none-match", "\"other\"");
        assert_eq!(send(asked).await.is(200).body, first.body);
        let head = send(server.request(Method::HEAD, path)).await.is(200);
        assert_eq!(head.header("content-length"), first.body.len().to_string());
        assert_eq!(head.header("etag"), tag);
    }
}

#[tokio::test]
async fn the_page_needs_no_key_and_what_it_asks_does() {
    let flags = [("auth.keys", "a-key-of-sixteen-and-more")];
    let server = Server::start(&Studio::open(), &flags).await;
    for path in paths() {
        server.get(&path).await.is(200);
    }
    server
        .get("/v1/capabilities")
        .await
        .refused(401, "invalid_api_key");
}

#[tokio::test]
async fn what_is_no_file_of_the_page_is_not_found() {
    let server = Server::start(&Studio::open(), &[]).await;
    for path in [
        "/page/other.js",
        "/page/..%2Findex.html",
        "/page/js%2Fmain.js",
        "/page/Style.css",
    ] {
        let error = server.get(path).await.refused(404, "not_found");
        assert_eq!(error["param"], "file", "{path}");
    }
    for path in ["/page", "/page/", "/page/js/main.js", "/index.html"] {
        server.get(path).await.refused(404, "not_found");
    }
}
