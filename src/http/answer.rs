//! Finished pictures as callers get them: JSON with base64 or a URL, or the bytes themselves with everything else in headers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::drawing::{Note, ResponseFormat};
use super::links::Links;
use super::pieces::{self, File};
use crate::domain::{Generated, Receipt, Timings, Warning};
use crate::jobs::Job;
use crate::pipeline::ModelFacts;

/// The job's name, of every answer that has one.
pub(super) const JOB_ID: HeaderName = HeaderName::from_static("x-job-id");
const SEED: HeaderName = HeaderName::from_static("x-seed");
const RECEIPT: HeaderName = HeaderName::from_static("x-receipt");
const WARNINGS: HeaderName = HeaderName::from_static("x-warnings");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How pictures are put into JSON.
#[derive(Debug, Clone)]
pub(super) enum Pictures {
    /// Their bytes, in base64.
    Base64,
    /// Where they can be fetched.
    Url(Links),
}

impl Pictures {
    /// As the request wants them.
    pub(super) fn of(format: ResponseFormat, links: Links) -> Self {
        match format {
            ResponseFormat::B64Json => Self::Base64,
            ResponseFormat::Url => Self::Url(links),
        }
    }

    /// The key and value of picture `index`; of one in base64 a hole for its file.
    fn of_picture(&self, job: &Job, index: usize) -> (&'static str, Value) {
        match self {
            Self::Base64 => (pieces::BASE64_KEY, pieces::hole()),
            Self::Url(links) => ("url", links.image(job, index).into()),
        }
    }

    /// What goes into the hole of `picture`.
    pub(super) fn file(&self, picture: &Arc<Generated>) -> Option<File> {
        matches!(self, Self::Base64).then(|| pieces::file(picture))
    }
}

/// Seconds since 1970, whole, as OpenAI's `created`.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One picture of the answer's `data`.
pub(super) fn picture(pictures: &Pictures, job: &Job, index: usize, picture: &Generated) -> Value {
    let (key, value) = pictures.of_picture(job, index);
    let mut entry = Map::new();
    entry.insert(key.to_owned(), value);
    entry.insert("seed".to_owned(), seed(picture).into());
    entry.insert("timings".to_owned(), timings(&picture.timings));
    entry.insert("receipt".to_owned(), receipt(&picture.receipt));
    entry.into()
}

/// The whole answer, without its `data`.
pub(super) fn envelope(job: &Job, facts: &ModelFacts, notes: &[Note]) -> Map<String, Value> {
    let progress = job.progress();
    let request = &job.order().first;
    let whole: Duration = progress
        .pictures
        .iter()
        .map(|picture| picture.timings.total())
        .sum();
    let Value::Object(envelope) = json!({
        "id": job.id().to_string(),
        "created": unix_seconds(job.created()),
        "model": facts.name,
        "output_format": request.output_format.name(),
        "size": request.size.to_string(),
        "timings": {
            "queue_wait_seconds": progress.queue_wait.unwrap_or_default().as_secs_f64(),
            "total_seconds": whole.as_secs_f64(),
        },
        "warnings": warnings(&told(job, &progress.pictures), notes),
        "usage": usage(job, facts),
    }) else {
        unreachable!("the literal above is an object");
    };
    envelope
}

/// What OpenAI's clients count: tokens of the text, and of the pictures, which are the transformer's own.
pub(super) fn usage(job: &Job, facts: &ModelFacts) -> Value {
    let plan = &job.order().plan;
    let text = plan.prompt.read
        + plan
            .negative_prompt
            .as_ref()
            .map_or(0, |tokens| tokens.read);
    let token_px = (facts.vae_scale_factor * facts.patch_size) as u64;
    let pixels = job.order().work.pixels * u64::from(job.order().images);
    let image = pixels / (token_px * token_px);
    json!({
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": image,
        "total_tokens": text as u64 + image,
    })
}

/// The warnings of the plan, and those that only the finished pictures could give.
pub(super) fn told<'a>(job: &'a Job, pictures: &'a [Arc<Generated>]) -> Vec<&'a Warning> {
    let mut told: Vec<&Warning> = job.order().plan.warnings.iter().collect();
    for warning in pictures.iter().flat_map(|picture| &picture.warnings) {
        if !told.contains(&warning) {
            told.push(warning);
        }
    }
    told
}

/// Warnings as JSON, those of the request's own text last.
pub(super) fn warnings(warnings: &[&Warning], notes: &[Note]) -> Value {
    let of_model = warnings.iter().map(|warning| {
        json!({"code": warning.code(), "message": warning.to_string(), "param": warning.field()})
    });
    let of_request = notes
        .iter()
        .map(|note| json!({"code": note.code, "message": note.message, "param": note.param}));
    of_model.chain(of_request).collect()
}

/// Time of each stage, in seconds.
pub fn timings(timings: &Timings) -> Value {
    let mut entries: Map<String, Value> = timings
        .stages()
        .into_iter()
        .map(|(stage, time)| (format!("{stage}_seconds"), json!(time.as_secs_f64())))
        .collect();
    entries.insert(
        "text_encoder_load_seconds".to_owned(),
        json!(timings.text_encoder_load.as_secs_f64()),
    );
    let cache = timings.prompt_cache;
    entries.insert(
        "prompt_cache".to_owned(),
        json!({"hits": cache.hits, "from_disk": cache.from_disk, "misses": cache.misses}),
    );
    let steps: Vec<f64> = timings.steps.iter().map(Duration::as_secs_f64).collect();
    entries.insert("steps_seconds".to_owned(), json!(steps));
    entries.insert(
        "total_seconds".to_owned(),
        json!(timings.total().as_secs_f64()),
    );
    entries.into()
}

/// The receipt. Numbers are numbers for programs, and yes and no are true and false.
pub fn receipt(receipt: &Receipt) -> Value {
    let request = &receipt.request;
    let mut entries: Map<String, Value> = receipt
        .fields()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect();
    for (name, value) in [
        ("seed", json!(request.seed.value())),
        ("steps", json!(request.steps.count())),
        ("guidance_scale", number(request.guidance.scale())),
        ("resolution_binning", json!(request.resolution_binning)),
        ("clean_caption", json!(request.clean_caption)),
    ] {
        entries.insert(name.to_owned(), value);
    }
    if let Some(compression) = request.compression() {
        entries.insert(
            "output_compression".to_owned(),
            compression.percent().into(),
        );
    }
    if let Some(processor) = &receipt.processor {
        entries.insert("threads".to_owned(), processor.threads.into());
    }
    entries.into()
}

/// An f32 as people wrote it: 7.1, not 7.099999904632568.
pub(super) fn number(value: f32) -> Value {
    value
        .to_string()
        .parse::<f64>()
        .map_or(Value::Null, |value| json!(value))
}

/// The picture itself, with everything else in headers.
pub(super) fn bytes(job: &Job, picture: &Arc<Generated>, warnings: &[&str]) -> Response<Body> {
    // However many fetch it slowly, it is in memory once.
    let mut response = Response::new(Body::from(pieces::file(picture)));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let format = picture.receipt.request.output_format;
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.media_type()),
    );
    set(headers, JOB_ID, &job.id().to_string());
    set(headers, SEED, &seed(picture).to_string());
    set(headers, RECEIPT, &receipt(&picture.receipt).to_string());
    if !warnings.is_empty() {
        set(headers, WARNINGS, &warnings.join(", "));
    }
    server_timing(headers, job);
    response
}

/// `Server-Timing`: milliseconds of the wait and of each stage, over all pictures.
pub(super) fn server_timing(headers: &mut HeaderMap, job: &Job) {
    let progress = job.progress();
    let wait = progress.queue_wait.unwrap_or_default();
    let mut entries = vec![("queue", wait)];
    for picture in &progress.pictures {
        for (stage, time) in picture.timings.stages() {
            match entries.iter_mut().find(|(name, _)| *name == stage) {
                Some((_, sum)) => *sum += time,
                None => entries.push((stage, time)),
            }
        }
    }
    let text: Vec<String> = entries
        .iter()
        .map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3))
        .collect();
    set(headers, SERVER_TIMING, &text.join(", "));
}

fn seed(picture: &Generated) -> u64 {
    picture.receipt.request.seed.value()
}

/// Sets a header to a text of visible ASCII; other text (a model's name may be anything) is left out.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
