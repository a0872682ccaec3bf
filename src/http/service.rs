//! What all handlers share: the jobs, the metrics, the limits of the settings.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::drawing::Limits;
use super::error::{ApiError, ErrorCode};
use super::host::AllowedHosts;
use super::identity::Keys;
use super::links::{LinkKey, Links};
use super::refusals;
use crate::config::{LimitsSettings, OpenaiSettings, Settings};
use crate::jobs::{Jobs, SubmitError, Work};
use crate::pipeline::Planner;
use crate::telemetry::Metrics;

/// Shared by all handlers; clones are the same.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: Jobs,
    metrics: Metrics,
    keys: Arc<Keys>,
    link_key: LinkKey,
    settings: ServiceSettings,
    cleaning: Arc<Semaphore>,
}

/// Captions that are cleaned or wait for it. The longest takes a tenth of a second: the last of them waits about a second.
const CLEANED_AT_ONCE: usize = 16;

/// The settings that handlers look at.
pub(super) struct ServiceSettings {
    pub(super) limits: LimitsSettings,
    pub(super) queue_capacity: usize,
    pub(super) default_deadline: Option<Duration>,
    pub(super) max_body_bytes: usize,
    pub(super) body_read: Duration,
    pub(super) stall: Duration,
    pub(super) ttl: Duration,
    pub(super) openai: OpenaiSettings,
    pub(super) public_url: Option<String>,
    pub(super) allowed_hosts: AllowedHosts,
}

impl Service {
    /// Puts the parts together.
    pub fn new(jobs: Jobs, metrics: Metrics, settings: &Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                jobs,
                metrics,
                cleaning: Arc::new(Semaphore::new(CLEANED_AT_ONCE)),
                keys: Arc::new(Keys::named(settings.auth.keys.named())),
                link_key: LinkKey::random(),
                settings: ServiceSettings {
                    limits: settings.limits.clone(),
                    queue_capacity: settings.queue.capacity,
                    default_deadline: settings.queue.deadline(),
                    max_body_bytes: settings.server.max_body_bytes(),
                    body_read: Duration::from_secs(settings.server.body_read_seconds),
                    stall: Duration::from_secs(settings.worker.stall_seconds),
                    ttl: Duration::from_secs(settings.jobs.ttl_seconds),
                    openai: settings.openai.clone(),
                    public_url: settings
                        .server
                        .public_url
                        .as_ref()
                        .map(|url| url.as_str().trim_end_matches('/').to_owned()),
                    allowed_hosts: AllowedHosts::of(&settings.server),
                },
            }),
        }
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(super) fn settings(&self) -> &ServiceSettings {
        &self.shared.settings
    }

    /// The keys that open the door.
    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.shared.keys)
    }

    /// A place among the captions that are cleaned; none while all are taken.
    pub(super) fn place_for_cleaning(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.cleaning).try_acquire_owned().ok()
    }

    /// What links to images are signed with.
    pub(super) fn link_key(&self) -> &LinkKey {
        &self.shared.link_key
    }

    /// The addresses of images for the caller with these headers.
    pub(super) fn links(&self, headers: &HeaderMap) -> Links {
        Links::new(self.base_url(headers), self.clone())
    }

    /// What one request may ask for.
    pub(super) fn limits(&self) -> Limits {
        let limits = &self.settings().limits;
        Limits {
            max_images: limits.max_images,
            max_steps: limits.max_steps,
            max_side_px: limits.max_side_px,
        }
    }

    /// Where the settings say that this service is reached; empty where they do not.
    pub(super) fn public_url(&self) -> &str {
        self.settings().public_url.as_deref().unwrap_or_default()
    }

    /// Where this service is reached: the setting, or the host that the caller used.
    fn base_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.settings().public_url {
            return url.clone();
        }
        headers
            .get("host")
            .and_then(|host| host.to_str().ok())
            .filter(|host| host.len() <= 255)
            .map(|host| format!("http://{host}"))
            .unwrap_or_default()
    }

    /// Holds that the caller means the model that is loaded: by its name, by one of the aliases, or by none.
    pub(super) fn check_model(
        &self,
        asked: Option<&str>,
        planner: &Planner,
    ) -> Result<(), ApiError> {
        let name = &planner.facts().name;
        match asked {
            Some(asked) if !self.means_model(asked, planner) => Err(ApiError::new(
                ErrorCode::ModelNotFound,
                format!("there is no such model here: leave model out, or ask for '{name}'"),
            )
            .about("model")),
            _ => Ok(()),
        }
    }

    /// Whether `asked` is the loaded model's name, in any case and with `:latest` where tools for other servers add that; or
    /// an alias; or nothing.
    pub(super) fn means_model(&self, asked: &str, planner: &Planner) -> bool {
        let asked = asked.trim();
        let own = planner.facts().name.to_lowercase();
        let lower = asked.to_lowercase();
        asked.is_empty()
            || lower == own
            || lower.strip_suffix(":latest") == Some(own.as_str())
            || self.settings().openai.has_alias(asked)
    }

    /// Holds that all pictures together stay within the bound of a request.
    pub(super) fn check_cost(&self, work: Work, images: u32) -> Result<(), ApiError> {
        let limit = f64::from(self.settings().limits.max_megapixel_steps);
        let cost = megapixel_steps(work, images);
        if cost <= limit {
            return Ok(());
        }
        let once = cost / f64::from(images);
        let advice = if once <= limit && images > 1 {
            format!("ask for n = {} at most", (limit / once).floor())
        } else {
            "ask for fewer steps or a smaller size".to_owned()
        };
        Err(ApiError::new(
            ErrorCode::TooCostly,
            format!(
                "the request costs {cost:.1} megapixel-steps{} and the limit is {limit}: {advice}",
                if work.passes > 1 {
                    " (guidance counts twice)"
                } else {
                    ""
                },
            ),
        ))
    }

    /// Why nothing can be drawn now.
    pub(super) fn not_ready(&self) -> ApiError {
        match self.jobs().ready() {
            Err(error) => refusals::at_once(&error),
            // Ready, and without a model: between two looks.
            Ok(()) => refusals::at_once(&SubmitError::Loading),
        }
    }
}

/// What the networks compute for a request, in megapixel-steps of the model's own size, decoding included.
pub(super) fn megapixel_steps(work: Work, images: u32) -> f64 {
    work.megapixel_steps() * f64::from(images)
}
