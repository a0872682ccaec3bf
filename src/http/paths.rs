//! Paths as people's clients join them: some are served as they are meant, of the others it is told which was meant.
//!
//! A base address with a slash at its end gives `//v1/…` and `/v1//images/…`: such paths are read without the slashes too many,
//! before the router sees them, so that a POST keeps its body, and keys, metrics and logs are those of the route. A redirect
//! would lose the body with many clients.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use tower::util::MapRequest;

use super::error::{ApiError, ErrorCode};

/// The router under paths without empty segments.
pub(super) fn joined(router: Router) -> Router {
    Router::new().fallback_service(MapRequest::new(router, |mut request: Request| {
        if let Some(uri) = without_empty_segments(request.uri()) {
            *request.uri_mut() = uri;
        }
        request
    }))
}

/// The same address with single slashes and none at its end; none where it is like that already.
fn without_empty_segments(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let is_plain = !path.contains("//") && (path.len() < 2 || !path.ends_with('/'));
    if is_plain || !path.starts_with('/') {
        return None;
    }
    let mut target = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        target.push('/');
        target.push_str(segment);
    }
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// The refusal of a path that the service does not have.
pub(super) fn nowhere(uri: &Uri) -> ApiError {
    let what = match meant(uri.path()) {
        Meant::Api(path) => format!(
            "nothing is at this path: did you mean {path}? A client's base_url ends in /v1, once, such as http://127.0.0.1:8080/v1"
        ),
        Meant::Page(path) => format!("nothing is at this path: did you mean {path}?"),
        Meant::Base => "nothing is at this path itself: it is a client's base_url, below which are /v1/images/generations, \
                        /v1/images and others; /openapi.yaml lists what there is"
            .to_owned(),
        Meant::FromImages => "nothing is at this path: this service draws from text alone, at /v1/images/generations and \
                              /v1/images, and neither edits nor varies images"
            .to_owned(),
        Meant::Language => "nothing is at this path: this service draws images, at /v1/images/generations and /v1/images, and \
                            has no language model"
            .to_owned(),
        Meant::Nothing => "nothing is at this path: /openapi.yaml lists what there is".to_owned(),
    };
    ApiError::new(ErrorCode::NotFound, what)
}

/// What a path that is not there was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meant {
    /// A route below `/v1`, under another beginning.
    Api(&'static str),
    /// Another route.
    Page(&'static str),
    /// The base of all that is below `/v1`.
    Base,
    /// What makes images of images.
    FromImages,
    /// What answers in words.
    Language,
    Nothing,
}

/// Routes by the end of their paths, the longest first. `{}` is one segment, whatever it is.
const ENDS: [(&str, &str); 9] = [
    ("/jobs/{}/images/{}", "/v1/jobs/{id}/images/{index}"),
    ("/jobs/{}/events", "/v1/jobs/{id}/events"),
    ("/images/generations", "/v1/images/generations"),
    ("/images/estimate", "/v1/images/estimate"),
    ("/jobs/{}", "/v1/jobs/{id}"),
    ("/models/{}", "/v1/models/{model}"),
    ("/images", "/v1/images"),
    ("/jobs", "/v1/jobs"),
    ("/models", "/v1/models"),
];
/// Words that other services call theirs by.
const WORDS: [(&[&str], Meant); 9] = [
    (
        &["edits", "variations", "img2img", "inpaint"],
        Meant::FromImages,
    ),
    (
        &["completions", "responses", "embeddings", "messages", "chat"],
        Meant::Language,
    ),
    (
        &[
            "generations",
            "generation",
            "txt2img",
            "generate",
            "text2image",
            "predictions",
        ],
        Meant::Api("/v1/images/generations"),
    ),
    (&["image"], Meant::Api("/v1/images")),
    (&["capabilities"], Meant::Api("/v1/capabilities")),
    (
        &[
            "health",
            "healthz",
            "healthcheck",
            "livez",
            "live",
            "liveness",
            "ping",
            "status",
        ],
        Meant::Page("/healthz"),
    ),
    (&["ready", "readyz", "readiness"], Meant::Page("/readyz")),
    (
        &[
            "openapi.json",
            "openapi.yml",
            "openapi.yaml",
            "openapi",
            "swagger.json",
            "docs",
            "redoc",
            "swagger",
        ],
        Meant::Page("/openapi.yaml"),
    ),
    (&["index.html", "index.htm", "ui"], Meant::Page("/")),
];

fn meant(path: &str) -> Meant {
    let path = path.to_ascii_lowercase();
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let ends_so = |end: &str| {
        let end: Vec<&str> = end
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        segments.len() >= end.len()
            && segments[segments.len() - end.len()..]
                .iter()
                .zip(&end)
                .all(|(segment, wanted)| *wanted == "{}" || segment == wanted)
    };
    let Some(&last) = segments.last() else {
        return Meant::Nothing;
    };
    let found = ENDS.iter().find(|(end, _)| ends_so(end));
    if let Some(&(_, route)) = found {
        return Meant::Api(route);
    }
    if last
        .strip_prefix('v')
        .is_some_and(|number| number.parse::<u8>().is_ok())
    {
        return Meant::Base;
    }
    WORDS
        .iter()
        .find(|(words, _)| words.contains(&last))
        .map_or(Meant::Nothing, |&(_, meant)| meant)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn slashes_too_many_are_left_out_and_nothing_else_changes() {
        for (path, joined) in [
            ("/", None),
            ("/v1/images", None),
            ("/v1/images?size=a//b/", None),
            ("/v1/a%2F%2Fb", None),
            ("//", Some("/")),
            ("//v1/images/generations", Some("/v1/images/generations")),
            (
                "/v1//images///generations//?a=//",
                Some("/v1/images/generations?a=//"),
            ),
            ("/healthz/", Some("/healthz")),
            ("http://a.example//v1/", Some("http://a.example/v1")),
            ("/a%2F/", Some("/a%2F")),
        ] {
            let uri: Uri = path.parse().unwrap();
            let got = without_empty_segments(&uri).map(|uri| uri.to_string());
            assert_eq!(got.as_deref(), joined, "{path}");
        }
    }

    #[tokio::test]
    async fn a_body_comes_through_and_the_route_is_known() {
        let app = Router::new().route(
            "/v1/things",
            post(async |path: axum::extract::MatchedPath, body: String| {
                format!("{} {body}", path.as_str())
            }),
        );
        let request = Request::post("//v1//things/")
            .body(Body::from("abc"))
            .unwrap();
        let response = joined(app).oneshot(request).await.unwrap();
        assert_eq!(
            super::super::context::whole(response).await,
            b"/v1/things abc"
        );
    }

    #[test]
    fn the_path_that_was_meant_is_named() {
        for (path, expected) in [
            ("/images/generations", Meant::Api("/v1/images/generations")),
            (
                "/v1/v1/images/generations",
                Meant::Api("/v1/images/generations"),
            ),
            (
                "/v3/images/generations",
                Meant::Api("/v1/images/generations"),
            ),
            (
                "/V1/Images/Generations",
                Meant::Api("/v1/images/generations"),
            ),
            (
                "/openai/deployments/dall-e-3/images/generations",
                Meant::Api("/v1/images/generations"),
            ),
            ("/api/v1/models", Meant::Api("/v1/models")),
            ("/models/a", Meant::Api("/v1/models/{model}")),
            (
                "/jobs/1/images/0",
                Meant::Api("/v1/jobs/{id}/images/{index}"),
            ),
            ("/images", Meant::Api("/v1/images")),
            ("/v1/generations", Meant::Api("/v1/images/generations")),
            ("/sdapi/v1/txt2img", Meant::Api("/v1/images/generations")),
            ("/v1/images/edits", Meant::FromImages),
            ("/v1/images/variations", Meant::FromImages),
            ("/v1/chat/completions", Meant::Language),
            ("/v1", Meant::Base),
            ("/v2", Meant::Base),
            ("/health", Meant::Page("/healthz")),
            ("/v1/health", Meant::Page("/healthz")),
            ("/v1/readyz", Meant::Page("/readyz")),
            ("/docs", Meant::Page("/openapi.yaml")),
            ("/index.html", Meant::Page("/")),
            ("/", Meant::Nothing),
            ("/v1/nothing", Meant::Nothing),
            ("/%ff", Meant::Nothing),
        ] {
            assert_eq!(meant(path), expected, "{path}");
        }
        let message = nowhere(&"/a-secret/images/generations".parse().unwrap()).message(None);
        assert!(message.contains("/v1/images/generations"), "{message}");
        assert!(message.contains("base_url ends in /v1"), "{message}");
        assert!(!message.contains("a-secret"), "{message}");
    }
}
