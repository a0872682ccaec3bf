//! Which face of an answer a client asks for by `Accept` (RFC 9110, section 12.5.1).
//!
//! Among what it takes equally gladly, what it names more exactly comes first, then what it names earlier, then JSON.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::error::{ApiError, ErrorCode};
use crate::domain::OutputFormat;

/// The face of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `application/json`.
    Json,
    /// The picture itself, in this format; None where the request leaves the format open.
    Bytes(Option<OutputFormat>),
    /// `text/event-stream`.
    Events,
}

/// What an endpoint can answer with, beside JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Whether it can send the picture itself.
    pub bytes: bool,
    /// Whether it can send events.
    pub events: bool,
    /// The format that the request's own field asks for.
    pub format: Option<OutputFormat>,
    /// Whether the request's own field asks for events.
    pub stream: bool,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// Ranges that are looked at; a client that names more has named what it likes best among the first.
const MOST_RANGES: usize = 64;

/// One range of `Accept`, such as `image/*;q=0.5`.
#[derive(Debug, PartialEq)]
struct Range {
    kind: String,
    subtype: String,
    /// 0 to 1000: q has three decimals at most.
    q: u16,
}

impl Range {
    /// None for what has no such syntax.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        if kind.is_empty() || subtype.is_empty() || (kind == "*" && subtype != "*") {
            return None;
        }
        let q = parts
            .find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
            })
            .map_or(Some(1000), thousandths)?;
        Some(Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            q,
        })
    }

    /// How exactly it names `media_type`, if it covers it: 2 by name, 1 by its kind, 0 as anything.
    fn covers(&self, media_type: &str) -> Option<u8> {
        let (kind, subtype) = media_type.split_once('/')?;
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", "*") => Some(0),
            (own, "*") if own == kind => Some(1),
            (own, name) if own == kind && name == subtype => Some(2),
            _ => None,
        }
    }
}

/// `0.5` → 500. None outside 0 to 1 and with more than three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1")
        || decimals.len() > 3
        || !decimals.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let q: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (q <= 1000).then_some(q)
}

/// How gladly something is taken: q, how exactly it is named, how early (later is smaller).
type Gladness = (u16, u8, isize);

/// By the most exact range that covers it, None where that one says no.
fn gladness(ranges: &[Range], media_type: &str) -> Option<Gladness> {
    (0_isize..)
        .zip(ranges)
        .filter_map(|(at, range)| Some((range.covers(media_type)?, -at, range.q)))
        .max()
        .filter(|&(_, _, q)| q > 0)
        .map(|(exactness, at, q)| (q, exactness, at))
}

/// Chooses the face of the answer.
///
/// # Errors
/// When the client takes nothing that is on offer (406).
pub fn negotiate(headers: &HeaderMap, offer: Offer) -> Result<Answer, ApiError> {
    let ranges: Vec<Range> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(MOST_RANGES)
        .filter_map(|text| Range::parse(text.trim()))
        .collect();
    let glad = |media_type: &str| {
        if ranges.is_empty() {
            // No header, or none that says anything: whatever is usual.
            return Some((1000, 0, 0));
        }
        gladness(&ranges, media_type)
    };
    if offer.stream && offer.events {
        // SDKs ask for a stream in the body and for JSON in the header.
        return match glad(EVENTS).or_else(|| glad(JSON)) {
            Some(_) => Ok(Answer::Events),
            None => Err(not_acceptable(&[EVENTS])),
        };
    }
    let mut faces = vec![(JSON, Answer::Json)];
    if offer.bytes {
        let formats = OutputFormat::ALL
            .into_iter()
            .filter(|&format| offer.format.is_none_or(|asked| asked == format));
        faces.extend(formats.map(|format| (format.media_type(), Answer::Bytes(Some(format)))));
    }
    if offer.events {
        faces.push((EVENTS, Answer::Events));
    }
    let best = faces
        .iter()
        // Of equals, `max_by_key` takes the last: ours are offered in reverse.
        .rev()
        .filter_map(|&(media_type, answer)| Some((glad(media_type)?, answer)))
        .max_by_key(|&(gladness, _)| gladness);
    match best {
        // Named as no more than a picture: the format is still open.
        Some(((_, 0 | 1, _), Answer::Bytes(_))) => Ok(Answer::Bytes(offer.format)),
        Some((_, answer)) => Ok(answer),
        None => {
            let offered: Vec<&str> = faces.iter().map(|&(media_type, _)| media_type).collect();
            Err(not_acceptable(&offered))
        }
    }
}

fn not_acceptable(offered: &[&str]) -> ApiError {
    let what = format!(
        "nothing that Accept names can be sent: ask for {}",
        offered.join(", ")
    );
    ApiError::new(ErrorCode::NotAcceptable, what)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use Answer::{Bytes, Events, Json};
    use OutputFormat::{Jpeg, Png, Webp};

    const ALL: Offer = Offer {
        bytes: true,
        events: true,
        format: None,
        stream: false,
    };

    fn answer(accept: &str, offer: Offer) -> Option<Answer> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        negotiate(&headers, offer).ok()
    }

    #[test]
    fn the_client_chooses_the_face() {
        for (accept, expected) in [
            ("", Some(Json)),
            ("*/*", Some(Json)),
            ("application/json", Some(Json)),
            ("Application/JSON; charset=utf-8", Some(Json)),
            ("application/*", Some(Json)),
            ("image/png", Some(Bytes(Some(Png)))),
            ("image/jpeg", Some(Bytes(Some(Jpeg)))),
            ("image/*", Some(Bytes(None))),
            ("image/*, image/webp", Some(Bytes(Some(Webp)))),
            ("image/png;q=0.5, image/webp;q=0.9", Some(Bytes(Some(Webp)))),
            ("image/jpeg, image/png", Some(Bytes(Some(Jpeg)))),
            ("image/png;q=0, image/jpeg;q=0.1", Some(Bytes(Some(Jpeg)))),
            ("image/*;q=0.5, */*;q=0.1", Some(Bytes(None))),
            ("application/json;q=0.5, image/*;q=0.4", Some(Json)),
            ("text/event-stream", Some(Events)),
            ("text/event-stream, application/json", Some(Events)),
            ("text/event-stream, */*", Some(Events)),
            ("*/*;q=0.001", Some(Json)),
            ("application/json;q=0, */*", Some(Bytes(None))),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(Json)),
            // What makes no sense says nothing.
            ("garbage", Some(Json)),
            ("image/png;q=2", Some(Json)),
            ("text/html", None),
            ("image/gif", None),
            ("image/avif, text/plain;q=0.5", None),
            ("*/*;q=0", None),
            ("application/json;q=0.000", None),
        ] {
            assert_eq!(answer(accept, ALL), expected, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), ALL).ok(), Some(Json));
    }

    #[test]
    fn a_format_asked_for_in_the_body_must_be_acceptable() {
        let jpeg = Offer {
            format: Some(Jpeg),
            ..ALL
        };
        assert_eq!(answer("image/png", jpeg), None);
        assert_eq!(answer("image/jpeg", jpeg), Some(Bytes(Some(Jpeg))));
        assert_eq!(answer("image/*", jpeg), Some(Bytes(Some(Jpeg))));
        assert_eq!(
            answer("image/webp, image/*;q=0.1", jpeg),
            Some(Bytes(Some(Jpeg)))
        );
        assert_eq!(answer("image/png, */*;q=0.1", jpeg), Some(Json));
    }

    #[test]
    fn a_stream_asked_for_in_the_body_is_sent_unless_it_is_refused() {
        let stream = Offer {
            stream: true,
            ..ALL
        };
        for accept in ["", "*/*", "application/json", "text/event-stream"] {
            assert_eq!(answer(accept, stream), Some(Events), "{accept}");
        }
        assert_eq!(answer("image/png", stream), None);
    }

    #[test]
    fn what_an_endpoint_does_not_offer_is_not_chosen() {
        let json = Offer {
            bytes: false,
            events: false,
            format: None,
            stream: false,
        };
        assert_eq!(
            answer("image/png, application/json;q=0.1", json),
            Some(Json)
        );
        assert_eq!(answer("image/png", json), None);
        assert_eq!(answer("text/event-stream", json), None);
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/html"));
        headers.append(ACCEPT, HeaderValue::from_static("image/webp"));
        assert_eq!(negotiate(&headers, ALL).ok(), Some(Bytes(Some(Webp))));
    }
}
