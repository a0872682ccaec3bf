//! `GET /` and `GET /page/{file}`: the page that draws in the browser, out of the binary.
//!
//! What it is not: a file server. The files are compiled in, their names are the whole list, and nothing is read from disk.
//! The page asks for nothing but this service: its policy forbids scripts and styles that stand in the page itself or come
//! from elsewhere. It is public also where keys are configured; what it asks of `/v1` then takes one.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::error::{ApiError, ErrorCode};

/// Pictures are shown from memory (`blob:`) and previews from events (`data:`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

/// A file of `page/js/`.
macro_rules! script {
    ($name:literal) => {
        Asset {
            name: $name,
            media_type: SCRIPT,
            content: include_bytes!(concat!("../../page/js/", $name)),
        }
    };
}

const INDEX: &str = "index.html";

/// All of them: a test holds that none of the folder is left out.
const ASSETS: &[Asset] = &[
    Asset {
        name: INDEX,
        media_type: HTML,
        content: include_bytes!("../../page/index.html"),
    },
    Asset {
        name: "style.css",
        media_type: CSS,
        content: include_bytes!("../../page/style.css"),
    },
    Asset {
        name: "icon.svg",
        media_type: SVG,
        content: include_bytes!("../../page/icon.svg"),
    },
    script!("album.js"),
    script!("api.js"),
    script!("compare.js"),
    script!("dom.js"),
    script!("estimate.js"),
    script!("events.js"),
    script!("examples.js"),
    script!("form.js"),
    script!("job.js"),
    script!("main.js"),
    script!("notice.js"),
    script!("progress.js"),
    script!("result.js"),
    script!("shapes.js"),
    script!("snippets.js"),
    script!("store.js"),
    script!("strip.js"),
    script!("theme.js"),
    script!("words.js"),
];

/// The `ETag` of each, in the same order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| ASSETS.iter().map(tag).collect());

/// The page.
pub(super) async fn index(headers: HeaderMap) -> Response {
    answer(INDEX, &headers)
}

/// A file that the page is made of.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some(position) = ASSETS.iter().position(|asset| asset.name == name) else {
        let what = "the page has no such file: it begins at /";
        return ApiError::new(ErrorCode::NotFound, what)
            .about("file")
            .into_response();
    };
    let asset = &ASSETS[position];
    let tag = TAGS[position].as_str();
    // Asked for again each time, and sent again when it has changed: a new binary is a new page.
    let about: [(HeaderName, &str); 6] = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CONTENT_TYPE, asset.media_type),
        (ETAG, tag),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if is_known(headers, tag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, asset.content).into_response()
}

fn tag(asset: &Asset) -> String {
    let digest = Sha256::digest(asset.content);
    let digits = u128::from_be_bytes(digest[..16].try_into().expect("SHA-256 has 32 bytes"));
    format!("\"{digits:032x}\"")
}

/// Whether the browser has it already (RFC 9110, section 13.1.2: the comparison is a weak one).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}
