//! Who asks: API keys, compared in constant time, and an opaque name for their holder.
//!
//! Keys themselves are not kept: only their SHA-256, of which the first half of the caller's name is made. The name that the
//! settings give a key is for the log.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::error::{ApiError, ErrorCode};
use crate::jobs::Owner;

type KeyDigest = [u8; 32];

/// Who asks. Two requests with one key have the same caller, and nothing about the key can be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller(Option<[u8; 16]>);

impl Caller {
    /// Anybody, where no keys are configured.
    pub const ANONYMOUS: Self = Self(None);

    /// Whose the jobs are that it asks for.
    pub fn owner(self) -> Owner {
        Owner(self.0)
    }

    /// Whether it is anybody.
    pub fn is_anonymous(self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Caller(with a key)",
            None => "Caller(anonymous)",
        })
    }
}

/// What the settings call the holder of a key, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(pub Arc<str>);

/// The keys that open the door. With none, it stands open.
#[derive(Clone, Default)]
pub struct Keys {
    digests: Vec<KeyDigest>,
    names: HashMap<Caller, KeyName>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.digests.len())
    }
}

impl Keys {
    /// Takes keys without names.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Self {
        Self {
            digests: keys.into_iter().map(|key| digest(key.as_ref())).collect(),
            names: HashMap::new(),
        }
    }

    /// Takes the keys of the settings, with the names that they have.
    pub fn named<'a>(keys: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut named = Self::default();
        for (key, name) in keys {
            let digest = digest(key.as_bytes());
            if let (Some(name), Some(half)) = (name, digest.first_chunk()) {
                let name = KeyName(name.into());
                named.names.insert(Caller(Some(*half)), name);
            }
            named.digests.push(digest);
        }
        named
    }

    /// Whether anybody may come in.
    pub fn is_open(&self) -> bool {
        self.digests.is_empty()
    }

    /// What the log calls this caller.
    fn name(&self, caller: Caller) -> Option<KeyName> {
        self.names.get(&caller).cloned()
    }

    /// Says whose key a request carries, in `Authorization: Bearer` or `x-api-key`.
    ///
    /// # Errors
    /// When keys are configured and the request has none of them.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        if self.is_open() {
            return Ok(Caller::ANONYMOUS);
        }
        let refuse = |what: &str| {
            let message = format!("{what}: send Authorization: Bearer KEY, or x-api-key: KEY");
            ApiError::new(ErrorCode::InvalidApiKey, message)
        };
        let given = [
            headers
                .get(AUTHORIZATION)
                .and_then(|value| bearer(value.as_bytes())),
            headers.get("x-api-key").map(HeaderValue::as_bytes),
        ];
        if given.iter().all(Option::is_none) {
            return Err(refuse("the request has no API key"));
        }
        given
            .into_iter()
            .flatten()
            .find_map(|key| self.find(key))
            .ok_or_else(|| refuse("the API key is not valid here"))
    }

    /// The holder of `key`. Takes as long whether and wherever it is found.
    fn find(&self, key: &[u8]) -> Option<Caller> {
        let digest = digest(key);
        let mut found = Choice::from(0);
        let mut name = [0_u8; 16];
        for known in &self.digests {
            let same = known.ct_eq(&digest);
            for (byte, known) in name.iter_mut().zip(known) {
                byte.conditional_assign(known, same);
            }
            found |= same;
        }
        bool::from(found).then_some(Caller(Some(name)))
    }
}

/// `Bearer KEY` → `KEY`; the scheme's name has no case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}

fn digest(key: &[u8]) -> KeyDigest {
    Sha256::digest(key).into()
}

/// Middleware that lets requests with a valid key through, their [`Caller`] in their extensions, and the [`KeyName`] of a key
/// that has one in those of the request and of the answer.
pub async fn require_key(
    State(keys): State<Arc<Keys>>,
    mut request: Request,
    next: Next,
) -> Response {
    match keys.identify(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            let Some(name) = keys.name(caller) else {
                return next.run(request).await;
            };
            request.extensions_mut().insert(name.clone());
            let mut response = next.run(request).await;
            response.extensions_mut().insert(name);
            response
        }
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Extension, Router, middleware};
    use tower::ServiceExt;

    use super::*;

    const KEYS: [&str; 2] = ["key-of-the-first-client", "key-of-the-second-client"];

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn identify(lines: &[(&'static str, &str)]) -> Option<Caller> {
        Keys::new(KEYS).identify(&headers(lines)).ok()
    }

    #[test]
    fn without_keys_anybody_comes_in() {
        let headers = headers(&[("authorization", "Bearer whatever")]);
        let caller = Keys::default().identify(&headers).unwrap();
        assert_eq!(caller, Caller::ANONYMOUS);
    }

    #[test]
    fn a_key_is_taken_from_either_header() {
        let first = identify(&[("authorization", "Bearer key-of-the-first-client")]).unwrap();
        assert!(!first.is_anonymous());
        assert_eq!(
            identify(&[("authorization", "bEARER  key-of-the-first-client")]),
            Some(first)
        );
        assert_eq!(
            identify(&[("x-api-key", "key-of-the-first-client")]),
            Some(first)
        );
        let second = identify(&[("x-api-key", "key-of-the-second-client")]).unwrap();
        assert_ne!(first, second);
        // SDKs send a placeholder beside the key that a proxy adds.
        let both = [
            ("authorization", "Bearer none"),
            ("x-api-key", "key-of-the-first-client"),
        ];
        assert_eq!(identify(&both), Some(first));
    }

    #[test]
    fn anything_else_stays_outside() {
        for lines in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "key-of-the-first-client")],
            &[("authorization", "Basic key-of-the-first-client")],
            &[("authorization", "Bearer key-of-the-first-clien")],
            &[("authorization", "Bearer key-of-the-first-clientt")],
            &[("authorization", "Bearer KEY-OF-THE-FIRST-CLIENT")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(identify(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let caller = identify(&[("x-api-key", KEYS[0])]).unwrap();
        let shown = format!("{caller:?} {:?}", Keys::new(KEYS));
        assert_eq!(shown, "Caller(with a key) Keys(2)");
    }

    #[tokio::test]
    async fn the_log_learns_the_name_of_a_key_that_has_one() {
        let keys = Keys::named([(KEYS[0], Some("alice")), (KEYS[1], None)]);
        let app = Router::new()
            .route(
                "/",
                get(async |name: Option<Extension<KeyName>>| {
                    name.map_or_else(String::new, |Extension(name)| name.0.to_string())
                }),
            )
            .layer(middleware::from_fn_with_state(Arc::new(keys), require_key));
        for (key, name) in [(KEYS[0], "alice"), (KEYS[1], "")] {
            let request = Request::get("/").header("x-api-key", key);
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let told = response.extensions().get::<KeyName>().cloned();
            assert_eq!(
                told.map(|name| name.0),
                (!name.is_empty()).then(|| name.into())
            );
            let body = crate::http::context::whole(response).await;
            assert_eq!(body, name.as_bytes());
        }
    }

    #[tokio::test]
    async fn the_middleware_answers_401_and_names_the_scheme() {
        let app = Router::new()
            .route(
                "/",
                get(async |Extension(caller): Extension<Caller>| format!("{caller:?}")),
            )
            .layer(middleware::from_fn_with_state(
                Arc::new(Keys::new(KEYS)),
                require_key,
            ));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let request = Request::get("/")
            .header("x-api-key", KEYS[1])
            .body(Body::empty())
            .unwrap();
        assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
    }
}
