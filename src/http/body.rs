//! Reads the JSON object that a request carries, within bounds of bytes, time and depth.
//!
//! What arrives is not trusted: the length is counted while it streams, whatever the headers say, and what is kept is
//! never more than the bound. What the object means is read in [`super::fields`].

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error::{ApiError, ErrorCode};
use super::fields::shown;
use super::json_text;

/// What a body may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Longest body in bytes.
    pub max_bytes: usize,
    /// Time for the whole of it.
    pub time: Duration,
}

/// The top level of a JSON body: names in the order in which they came, each once.
#[derive(Clone, PartialEq)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// The names and values, to look at.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.0
    }

    /// The names and values.
    pub fn into_entries(self) -> Vec<(String, Value)> {
        self.0
    }

    /// Parses the bytes of a body.
    ///
    /// # Errors
    /// When they are not UTF-8, not JSON, nested deeper than 128, no object, or an object with a name twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let text = json_text::text(bytes)?;
        let unreadable = |error| json_text::unreadable(text, &error);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let top = Top::deserialize(&mut deserializer).map_err(unreadable)?;
        deserializer.end().map_err(unreadable)?;
        match top {
            Top::Object {
                duplicate: Some(name),
                ..
            } => {
                let name = shown(&name);
                let what = format!("{name} is there twice: send it once");
                Err(ApiError::new(ErrorCode::DuplicateField, what).about(name))
            }
            Top::Object { entries, .. } => Ok(Self(entries)),
            Top::Other(kind) => {
                let what = format!("the body is {kind}: send a JSON object");
                Err(ApiError::new(ErrorCode::InvalidRequest, what))
            }
        }
    }
}

/// Prompts are in there: names only.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} fields)", self.0.len())
    }
}

/// Reads and parses the body of a request.
///
/// # Errors
/// When it is not JSON by its headers (415), too long (413), too slow (408), or not an object (400, 422).
pub async fn read_object(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Object, ApiError> {
    check_media_type(headers)?;
    check_encoding(headers)?;
    let bytes = match tokio::time::timeout(limits.time, read_bytes(body, limits.max_bytes)).await {
        Ok(bytes) => bytes?,
        Err(_elapsed) => {
            let what = format!(
                "the body was not complete after {} s: send it faster",
                limits.time.as_secs_f64()
            );
            return Err(ApiError::new(ErrorCode::BodyTimeout, what));
        }
    };
    Object::parse(&bytes)
}

/// `application/json` or `application/*+json`, in UTF-8.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |what: &str| {
        Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!("{what}: send Content-Type: application/json"),
        ))
    };
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(media_type) = types.next() else {
        return refuse("the request has no Content-Type");
    };
    if types.next().is_some() {
        return refuse("the request has several Content-Types");
    }
    let media_type = media_type.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let is_json = essence.strip_prefix("application/").is_some_and(|subtype| {
        subtype == "json"
            || subtype
                .strip_suffix("+json")
                .is_some_and(|name| !name.is_empty())
    });
    if !is_json {
        return refuse("the body is not JSON by its Content-Type");
    }
    let is_utf8 = parts
        .filter_map(|parameter| parameter.strip_prefix("charset="))
        .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8"));
    if is_utf8 {
        Ok(())
    } else {
        refuse("the body is not UTF-8 by its Content-Type")
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_plain = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"));
    if is_plain {
        return Ok(());
    }
    let what = "the body is compressed: send it without Content-Encoding";
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, what))
}

/// The bytes of `body`, as long as they are no more than `max_bytes`.
async fn read_bytes(mut body: Body, max_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let what = format!(
            "the body has more than {max_bytes} bytes: the fields of a drawing need far fewer"
        );
        ApiError::new(ErrorCode::BodyTooLarge, what)
    };
    // What Content-Length announces is refused before it is sent.
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |bytes| bytes > max_bytes) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let what = "the body broke off or is not framed as its headers say";
            ApiError::new(ErrorCode::InvalidRequest, what)
        })?;
        // Trailers say nothing that is of use here.
        if let Ok(data) = frame.into_data() {
            if data.len() > max_bytes - bytes.len() {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The top level of a JSON text.
enum Top {
    Object {
        entries: Vec<(String, Value)>,
        /// The first name that came a second time.
        duplicate: Option<String>,
    },
    /// What it is instead, in words.
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TopVisitor)
    }
}

struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        let mut names = HashSet::new();
        let mut duplicate = None;
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if names.insert(name.clone()) {
                entries.push((name, value));
            } else if duplicate.is_none() {
                duplicate = Some(name);
            }
        }
        Ok(Top::Object { entries, duplicate })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Top, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Top::Other("an array"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Top, E> {
        Ok(Top::Other("a string"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Top, E> {
        Ok(Top::Other("true or false"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Top, E> {
        Ok(Top::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Top, E> {
        Ok(Top::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Top, E> {
        Ok(Top::Other("a number"))
    }

    fn visit_unit<E>(self) -> Result<Top, E> {
        Ok(Top::Other("null"))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        max_bytes: 1024,
        time: Duration::from_secs(10),
    };

    fn json_headers() -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
    }

    fn code(result: Result<Object, ApiError>) -> &'static str {
        result.map_or_else(|error| error.code().name(), |_| "ok")
    }

    #[track_caller]
    fn parsed(text: &str) -> &'static str {
        code(Object::parse(text.as_bytes()))
    }

    #[test]
    fn an_object_keeps_its_order_and_numbers() {
        let object = Object::parse(br#"{"b": 18446744073709551615, "a": [1, {"b": null}]}"#);
        let entries = object.unwrap().into_entries();
        assert_eq!(entries[0].0, "b");
        assert_eq!(entries[0].1.as_u64(), Some(u64::MAX));
        assert_eq!(entries[1].0, "a");
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for text in [
            "",
            " ",
            "{",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            r#"{"a":1} x"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"a":1e309}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            "{'a':1}",
            "{\"a\":\"\u{1}\"}",
        ] {
            let error = Object::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidJson, "{text}");
            let message = error.message(None);
            assert!(message.contains("line 1 column"), "{text}: {message}");
        }
        assert_eq!(code(Object::parse(b"{\"a\":\"\xff\"}")), "invalid_json");
    }

    #[test]
    fn what_is_no_object_is_refused_as_what_it_is() {
        for (text, kind) in [
            ("[{}]", "an array"),
            ("\"a\"", "a string"),
            ("-1", "a number"),
            ("1", "a number"),
            ("0.5", "a number"),
            ("null", "null"),
            ("true", "true or false"),
        ] {
            let error = Object::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{text}");
            assert!(error.message(None).contains(kind), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_a_stack() {
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(parsed(&deep(100)), "ok");
        assert_eq!(parsed(&deep(10_000)), "invalid_json");
        assert_eq!(parsed(&"[".repeat(10_000)), "invalid_json");
        assert_eq!(parsed(&"{\"a\":".repeat(10_000)), "invalid_json");
    }

    #[test]
    fn a_name_twice_is_refused_by_name() {
        let error = Object::parse(br#"{"seed": 1, "n": 2, "s\u0065ed": 1}"#).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DuplicateField);
        assert_eq!(error.param(), Some("seed"));
        assert_eq!(parsed(r#"{"a": {"b": 1, "b": 2}}"#), "ok");
    }

    #[tokio::test]
    async fn content_types_that_are_json_are_taken_and_no_others() {
        for (media_type, expected) in [
            ("application/json", "ok"),
            ("Application/JSON ; Charset=\"UTF-8\"", "ok"),
            ("application/json;charset=utf8;x=y", "ok"),
            ("application/merge-patch+json", "ok"),
            ("application/+json", "unsupported_media_type"),
            ("application/json; charset=latin1", "unsupported_media_type"),
            ("application/jsonp", "unsupported_media_type"),
            ("text/json", "unsupported_media_type"),
            (
                "application/x-www-form-urlencoded",
                "unsupported_media_type",
            ),
            ("", "unsupported_media_type"),
        ] {
            let headers =
                HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
            let read = read_object(&headers, Body::from("{}"), LIMITS).await;
            assert_eq!(code(read), expected, "{media_type}");
        }
        let read = read_object(&HeaderMap::new(), Body::from("{}"), LIMITS).await;
        assert_eq!(code(read), "unsupported_media_type");
        let mut twice = json_headers();
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let read = read_object(&twice, Body::from("{}"), LIMITS).await;
        assert_eq!(code(read), "unsupported_media_type");
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused() {
        for (coding, expected) in [
            ("identity", "ok"),
            ("Identity, identity", "ok"),
            ("gzip", "unsupported_media_type"),
            ("identity, br", "unsupported_media_type"),
        ] {
            let mut headers = json_headers();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            let read = read_object(&headers, Body::from("{}"), LIMITS).await;
            assert_eq!(code(read), expected, "{coding}");
        }
    }

    /// A body of unknown length, `count` times `chunk`.
    fn chunks(chunk: &'static [u8], count: usize) -> Body {
        let chunk = Ok::<_, Infallible>(Bytes::from_static(chunk));
        Body::from_stream(stream::iter(std::iter::repeat_n(chunk, count)))
    }

    #[tokio::test]
    async fn a_long_body_is_refused_where_the_bound_is_whatever_it_announced() {
        let padded = |length: usize| Body::from(format!("{{{}}}", " ".repeat(length - 2)));
        let headers = json_headers();
        assert_eq!(
            code(read_object(&headers, padded(1024), LIMITS).await),
            "ok"
        );
        assert_eq!(
            code(read_object(&headers, padded(1025), LIMITS).await),
            "body_too_large"
        );
        for (chunk, count) in [(&b" "[..], 1_000_000), (&[b' '; 1025][..], 1)] {
            let read = read_object(&headers, chunks(chunk, count), LIMITS).await;
            assert_eq!(code(read), "body_too_large");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let read = read_object(&json_headers(), body, LIMITS).await;
        assert_eq!(code(read), "body_timeout");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = stream::iter([
            Ok(Bytes::from_static(b"{")),
            Err(std::io::Error::other("gone")),
        ]);
        let read = read_object(&json_headers(), Body::from_stream(broken), LIMITS).await;
        assert_eq!(code(read), "invalid_request");
    }
}
