//! Addresses of finished images, which open by themselves where the service has keys.
//!
//! A browser's `<img>` and most programs that are handed a URL send no key with it. So the address carries a signature: that
//! of one image of one job up to a time, by a key that this process has drawn and tells nobody. It gives that image and
//! nothing else. Without keys there is nothing to sign for.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use super::answer::unix_seconds;
use super::error::{ApiError, ErrorCode};
use super::service::Service;
use crate::jobs::{Job, JobId};

/// What is signed begins with this, so that no signature of another kind can ever pass for one of these.
const PURPOSE: &[u8] = b"pixart image link 1\0";
/// A job that has not ended may take this long; as long is the longest deadline. Images of one that has are kept for
/// `jobs.ttl_seconds`.
const LONGEST_JOB: Duration = Duration::from_secs(86_400);

/// The key of one process. Two processes never open each other's links; their jobs are their own as well.
pub(super) struct LinkKey(Hmac<Sha256>);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey")
    }
}

impl LinkKey {
    /// A new one, of 244 bits from the system's generator.
    pub(super) fn random() -> Self {
        let key = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
        Self(Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"))
    }

    fn signing(&self, job: JobId, index: usize, expires: u64) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(PURPOSE);
        // A job's name has no slash, and the numbers are written in one way.
        mac.update(format!("{job}/{index}/{expires}").as_bytes());
        mac
    }

    fn sign(&self, job: JobId, index: usize, expires: u64) -> String {
        let mac = self.signing(job, index, expires).finalize();
        URL_SAFE_NO_PAD.encode(mac.into_bytes())
    }

    /// Compares in constant time.
    fn is_signed(&self, job: JobId, index: usize, signature: &Signature<'_>) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(signature.text) else {
            return false;
        };
        let signing = self.signing(job, index, signature.expires);
        signing.verify_slice(&bytes).is_ok()
    }
}

/// What a link has in its query.
#[derive(Debug, PartialEq, Eq)]
struct Signature<'query> {
    expires: u64,
    text: &'query str,
}

impl<'query> Signature<'query> {
    fn read(query: &'query str) -> Option<Self> {
        let value = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            expires: value("expires")?.parse().ok()?,
            text: value("signature")?,
        })
    }
}

/// A request for an image by a valid signature: its handler asks for no caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed;

/// How the images of an answer are addressed.
#[derive(Clone)]
pub(super) struct Links {
    base: String,
    service: Service,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

impl Links {
    /// Below `base`, where the service is reached.
    pub(super) fn new(base: String, service: Service) -> Self {
        Self { base, service }
    }

    /// Where image `index` of a job can be fetched while it is kept. Asked for twice, the address is the same as long as the
    /// job has not ended in between: caches know it by its address.
    pub(super) fn image(&self, job: &Job, index: usize) -> String {
        let id = job.id();
        let address = format!("{}/v1/jobs/{id}/images/{index}", self.base);
        if self.service.keys().is_open() {
            return address;
        }
        let expires = match self.service.jobs().expires(job) {
            // Rounded up: the image is there to the end.
            Some(expires) => unix_seconds(expires) + 1,
            None => unix_seconds(job.created() + LONGEST_JOB + self.service.settings().ttl),
        };
        let signature = self.service.link_key().sign(id, index, expires);
        format!("{address}?expires={expires}&signature={signature}")
    }
}

/// Middleware of the one route that links lead to: lets a request with a valid signature through, and leaves any other to
/// the keys.
pub(super) async fn open_by_signature(
    State(service): State<Service>,
    path: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(signature) = request.uri().query().and_then(Signature::read) else {
        return require_key(&service, request, next).await;
    };
    let mut id = None;
    let mut index = None;
    for (name, value) in &path {
        match name {
            "id" => id = value.parse::<JobId>().ok(),
            "index" => index = value.parse::<usize>().ok(),
            _ => {}
        }
    }
    let is_signed = id
        .zip(index)
        .is_some_and(|(id, index)| service.link_key().is_signed(id, index, &signature));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(u64::MAX, |since| since.as_secs());
    if is_signed && now <= signature.expires {
        request.extensions_mut().insert(Signed);
        return next.run(request).await;
    }
    if service.keys().identify(request.headers()).is_ok() {
        return require_key(&service, request, next).await;
    }
    let what = if is_signed {
        "this link has expired: GET /v1/jobs/{id} has a new one while the image is kept"
    } else {
        "the signature of this link is not valid here: ask for the job again, or send Authorization: Bearer KEY"
    };
    ApiError::new(ErrorCode::InvalidApiKey, what).into_response()
}

async fn require_key(service: &Service, request: Request, next: Next) -> Response {
    super::identity::require_key(State(service.keys()), request, next).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_image_its_time_and_its_process_alone() {
        let (own, other) = (LinkKey::random(), LinkKey::random());
        let id = |digit: &str| digit.repeat(32).parse::<JobId>().unwrap();
        let (job, another) = (id("1"), id("2"));
        let text = own.sign(job, 1, 1000);
        let signature = |text, expires| Signature { expires, text };
        assert!(own.is_signed(job, 1, &signature(&text, 1000)));
        assert!(!own.is_signed(job, 0, &signature(&text, 1000)));
        assert!(!own.is_signed(another, 1, &signature(&text, 1000)));
        assert!(!own.is_signed(job, 1, &signature(&text, 1001)));
        assert!(!other.is_signed(job, 1, &signature(&text, 1000)));
        for broken in ["", "a", &text[1..], &text[..20], &format!("{text}A"), "ä"] {
            assert!(!own.is_signed(job, 1, &signature(broken, 1000)), "{broken}");
        }
    }

    #[test]
    fn a_signature_is_read_from_the_query() {
        let read = |query| Signature::read(query).map(|it| (it.expires, it.text));
        assert_eq!(read("expires=5&signature=abc"), Some((5, "abc")));
        assert_eq!(read("a=b&signature=&expires=5"), Some((5, "")));
        for query in [
            "",
            "expires=5",
            "signature=a",
            "expires=-5&signature=a",
            "expires=x&signature=a",
        ] {
            assert_eq!(read(query), None, "{query}");
        }
    }
}
