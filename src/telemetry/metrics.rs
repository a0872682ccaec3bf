//! Every metric: its name, what it counts, its unit, and its buckets with the reason for them.
//!
//! All series stand at 0 from the start, but for `pixart_build_info`, whose labels are known once the model is loaded: so rates
//! begin with the first event and an alert on "no data" means what it says. They are looked up once, here; recording adds to an
//! atomic number and can neither fail nor block.
//!
//! A scrape has at most 300 series, each bucket being one. Buckets are what costs: a metric with nine outcomes and nineteen
//! buckets is two thirds of that. So what is refused is a metric of its own, with few.
//!
//! All series of a metric have the same buckets. With a layout for each value of a label, a quantile over all of them is wrong
//! without a word: what lies beyond the last bucket of one is counted into the largest bucket of another.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Counter, Gauge, Histogram, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use prometheus::proto::MetricFamily;

use super::labels::{JobOutcome, RequestOutcome, RestartReason, Stage};
use super::process::ProcessMemory;
use super::shelf::{Shelf, counter_of, whole};

/// Seconds of what takes as long as a picture, and of waiting for it: from a tenth (the embedded model at few steps) to the ten
/// minutes that clients wait by default.
const PICTURE: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0,
    180.0, 300.0, 600.0,
];
/// Seconds of a refusal: it promises to take less than 50 ms, and what takes longer is of interest only as such.
const REFUSALS: &[f64] = &[0.05, 0.5];
/// Seconds of one step: from the embedded model's to PixArt's at 1024 px with guidance on two cores.
const STEP: &[f64] = &[
    0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0,
];
/// Seconds of a stage: from parsing, a millisecond, by the VAE, 17 s for 1024 px on two cores and ten times that where it swaps, to
/// the ten minutes that all steps may take. Coarse, as sums and counts are what stages are mostly asked for.
const STAGE: &[f64] = &[0.001, 0.01, 0.05, 0.25, 1.0, 5.0, 20.0, 90.0, 600.0];
/// Longest value of a label that names a build, in characters.
const MAX_LABEL_CHARS: usize = 64;

/// All metrics of the service. A clone counts into the same numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

/// What runs here, for `pixart_build_info`. Names and versions only, never paths.
#[derive(Debug, Clone, Copy)]
pub struct BuildInfo<'a> {
    /// Of pixart.
    pub version: &'a str,
    /// Of the OpenVINO runtime.
    pub openvino: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// How its weights are stored.
    pub weights: &'a str,
    /// The arithmetic in force.
    pub precision: &'a str,
}

struct Series {
    registry: Registry,
    requests: RequestSeries,
    jobs_accepted: IntCounter,
    jobs_finished: [IntCounter; JobOutcome::ALL.len()],
    queue_wait: Histogram,
    requests_running: IntGauge,
    requests_waiting: IntGauge,
    predicted_wait: Gauge,
    stage_duration: [Histogram; Stage::ALL.len()],
    step_duration: Histogram,
    steps: IntCounter,
    steps_saved: IntCounter,
    images: IntCounter,
    image_pixels: IntCounter,
    ready: IntGauge,
    draining: IntGauge,
    worker_up: IntGauge,
    worker_last_progress: Gauge,
    worker_restarts: [IntCounter; RestartReason::ALL.len()],
    text: TextSeries,
    sizes_prepared: IntCounter,
    size_preparation: Counter,
    memory_limit: Gauge,
    memory_peak: Gauge,
    model_load: Gauge,
    variants_elsewhere: IntGauge,
    build_info: IntGaugeVec,
}

/// Requests for images, by how they ended.
struct RequestSeries {
    ended: [IntCounter; RequestOutcome::ALL.len()],
    duration: [Histogram; RequestOutcome::SERVED.len()],
    refusal_duration: [Histogram; RequestOutcome::REFUSED.len()],
}

/// The text encoder and what is kept of its work.
struct TextSeries {
    hits: IntCounter,
    disk_hits: IntCounter,
    misses: IntCounter,
    held_bytes: IntGauge,
    resident: IntGauge,
    loads: IntCounter,
    load_time: Counter,
}

impl Metrics {
    /// Media type of [`Self::encode`]'s text.
    pub const MEDIA_TYPE: &'static str = prometheus::TEXT_FORMAT;

    /// All metrics at 0, and how many jobs may wait.
    pub fn new(queue_capacity: usize) -> Self {
        Self(Arc::new(Series::new(queue_capacity)))
    }

    /// A request for a picture has ended.
    pub fn request(&self, outcome: RequestOutcome, took: Duration) {
        self.0.requests.ended[outcome as usize].inc();
        let of = |outcomes: &[RequestOutcome]| outcomes.iter().position(|&it| it == outcome);
        let duration = of(&RequestOutcome::SERVED)
            .map(|place| &self.0.requests.duration[place])
            .or_else(|| {
                of(&RequestOutcome::REFUSED).map(|place| &self.0.requests.refusal_duration[place])
            });
        if let Some(duration) = duration {
            duration.observe(took.as_secs_f64());
        }
    }

    /// A job got a place.
    pub fn accepted(&self) {
        self.0.jobs_accepted.inc();
    }

    /// An accepted job has ended.
    pub fn finished(&self, outcome: JobOutcome) {
        self.0.jobs_finished[outcome as usize].inc();
    }

    /// A job's turn has come after so long.
    pub fn queue_wait(&self, waited: Duration) {
        self.0.queue_wait.observe(waited.as_secs_f64());
    }

    /// How many jobs run and wait now.
    pub fn set_line(&self, running: usize, waiting: usize) {
        self.0.requests_running.set(whole(running));
        self.0.requests_waiting.set(whole(waiting));
    }

    /// What a request that came now would wait before its turn.
    pub fn set_predicted_wait(&self, wait: Duration) {
        self.0.predicted_wait.set(wait.as_secs_f64());
    }

    /// A stage is done.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.0.stage_duration[stage as usize].observe(took.as_secs_f64());
    }

    /// A denoising step is done.
    pub fn step(&self, took: Duration) {
        self.0.steps.inc();
        self.0.step_duration.observe(took.as_secs_f64());
    }

    /// So many steps need not be run, because their job has ended.
    pub fn steps_saved(&self, steps: u64) {
        self.0.steps_saved.inc_by(steps);
    }

    /// A picture of so many pixels is drawn.
    pub fn picture(&self, pixels: u64) {
        self.0.images.inc();
        self.0.image_pixels.inc_by(pixels);
    }

    /// Whether requests are taken.
    pub fn set_ready(&self, is_ready: bool) {
        self.0.ready.set(i64::from(is_ready));
    }

    /// Whether the service is shutting down.
    pub fn set_draining(&self, is_draining: bool) {
        self.0.draining.set(i64::from(is_draining));
    }

    /// Whether the thread that draws is alive.
    pub fn set_worker_up(&self, is_up: bool) {
        self.0.worker_up.set(i64::from(is_up));
    }

    /// The worker has just got on.
    pub fn worker_progress_now(&self) {
        // A clock before 1970 tells nothing better than 0.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.0.worker_last_progress.set(now.as_secs_f64());
    }

    /// The worker begins anew.
    pub fn worker_restarted(&self, reason: RestartReason) {
        self.0.worker_restarts[reason as usize].inc();
    }

    /// So many prompts had their embeddings at hand, so many of them on disk alone, and so many had to be encoded.
    pub fn prompt_cache(&self, hits: u64, from_disk: u64, misses: u64) {
        self.0.text.hits.inc_by(hits);
        self.0.text.disk_hits.inc_by(from_disk);
        self.0.text.misses.inc_by(misses);
    }

    /// So many bytes of text embeddings are held in memory.
    pub fn set_prompt_cache_bytes(&self, bytes: usize) {
        self.0.text.held_bytes.set(whole(bytes));
    }

    /// Whether the text encoder is in memory.
    pub fn set_text_encoder_resident(&self, is_resident: bool) {
        self.0.text.resident.set(i64::from(is_resident));
    }

    /// The text encoder was not in memory and is now.
    pub fn text_encoder_loaded(&self, took: Duration) {
        self.0.text.loads.inc();
        self.0.text.load_time.inc_by(took.as_secs_f64());
        self.set_text_encoder_resident(true);
    }

    /// The first picture of a size is drawn, whose kernels took so long to prepare.
    pub fn size_prepared(&self, took: Duration) {
        self.0.sizes_prepared.inc();
        self.0.size_preparation.inc_by(took.as_secs_f64());
    }

    /// The model is checked, read and compiled.
    pub fn model_loaded(&self, took: Duration) {
        self.0.model_load.set(took.as_secs_f64());
    }

    /// So many variants of the model do not draw because they were measured on another processor alone.
    pub fn set_variants_measured_elsewhere(&self, variants: usize) {
        self.0.variants_elsewhere.set(whole(variants));
    }

    /// What runs here. It replaces what was told before.
    pub fn build_info(&self, build: &BuildInfo<'_>) {
        let values = [
            build.version,
            build.openvino,
            build.model,
            build.weights,
            build.precision,
        ]
        .map(label);
        self.0.build_info.reset();
        self.0.build_info.with_label_values(&values).set(1);
    }

    /// The memory limit in force; 0 is none.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.0.memory_limit.set(bytes as f64);
    }

    /// The state of all series now, sorted by name.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let peak = ProcessMemory::now().map_or(0, |memory| memory.peak_bytes);
        self.0.memory_peak.set(peak as f64);
        self.0.registry.gather()
    }

    /// Families as text in Prometheus' format, of [`Self::MEDIA_TYPE`].
    pub fn encode(families: &[MetricFamily]) -> String {
        // What `gather` returns has names and series, which is all that the encoder asks for.
        TextEncoder::new()
            .encode_to_string(families)
            .unwrap_or_else(|error| format!("# {error}\n"))
    }
}

/// The lines of the log that were dropped. The log is there before the metrics are, and once a process: so is its counter.
pub(super) fn log_lines_dropped() -> IntCounter {
    static COUNTER: LazyLock<IntCounter> = LazyLock::new(|| {
        counter_of(Opts::new(
            "log_lines_dropped_total",
            "Lines of the log that were dropped, because they were not read in time or could not be written.",
        ))
    });
    COUNTER.clone()
}

impl Series {
    fn new(queue_capacity: usize) -> Self {
        let shelf = Shelf(Registry::new());
        shelf.put_what_stands(queue_capacity);
        shelf.put(log_lines_dropped());
        Self {
            requests: RequestSeries::new(&shelf),
            jobs_accepted: shelf.counter(
                "jobs_accepted_total",
                "Jobs that got a place. Equals the finished ones and those that run and wait.",
            ),
            jobs_finished: shelf.counters(
                ("jobs_finished_total", "Accepted jobs, by how they ended."),
                ("outcome", JobOutcome::ALL.map(JobOutcome::name)),
            ),
            queue_wait: shelf.histogram(
                "queue_wait_seconds",
                "Seconds from a job's acceptance to its turn.",
                PICTURE,
            ),
            requests_running: shelf.level("requests_running", "Jobs that are being drawn, 0 or 1."),
            requests_waiting: shelf.level("requests_waiting", "Jobs that wait for their turn."),
            predicted_wait: shelf.gauge(
                "predicted_wait_seconds",
                "Seconds that a request which came now would wait for its turn; 0 before anything was drawn.",
            ),
            stage_duration: shelf.histograms(
                (
                    "stage_duration_seconds",
                    "Seconds of each stage of a picture.",
                ),
                ("stage", Stage::ALL.map(Stage::name)),
                STAGE,
            ),
            step_duration: shelf.histogram(
                "denoise_step_duration_seconds",
                "Seconds of one denoising step, both halves of guidance included.",
                STEP,
            ),
            steps: shelf.counter("denoise_steps_total", "Denoising steps that were run."),
            steps_saved: shelf.counter(
                "steps_saved_by_cancel_total",
                "Denoising steps that were not run, because their job ended before them.",
            ),
            images: shelf.counter("images_total", "Pictures drawn."),
            image_pixels: shelf.counter("image_pixels_total", "Pixels of the pictures drawn."),
            ready: shelf.level(
                "ready",
                "1 when requests are taken: model loaded, worker up, not draining.",
            ),
            draining: shelf.level("draining", "1 when the service is shutting down."),
            worker_up: shelf.level("worker_up", "1 when the thread that draws is alive."),
            worker_last_progress: shelf.gauge(
                "worker_last_progress_timestamp_seconds",
                "Unix time of the worker's last sign of progress; 0 before the first.",
            ),
            worker_restarts: shelf.counters(
                ("worker_restarts_total", "How often the worker began anew, by reason."),
                ("reason", RestartReason::ALL.map(RestartReason::name)),
            ),
            text: TextSeries::new(&shelf),
            sizes_prepared: shelf.counter(
                "sizes_prepared_total",
                "Pictures that were the first of their size, whose kernels were prepared then.",
            ),
            size_preparation: shelf.seconds(
                "size_preparation_seconds_total",
                "Seconds that the first steps of such pictures took beyond the others.",
            ),
            memory_limit: shelf.gauge(
                "memory_limit_bytes",
                "The memory limit in force: of the settings or the process' control group; 0 where none is set.",
            ),
            memory_peak: shelf.gauge(
                "memory_peak_bytes",
                "The most memory that was resident at once since the start; 0 where the system does not show it.",
            ),
            model_load: shelf.gauge(
                "model_load_seconds",
                "Seconds of checking, reading and compiling the model; 0 before it is loaded.",
            ),
            variants_elsewhere: shelf.level(
                "variants_measured_elsewhere",
                "Variants of the model that do not draw because they were measured on another processor alone.",
            ),
            build_info: shelf.info(
                "build_info",
                "1, with what runs here as labels.",
                &["version", "openvino", "model", "weights", "precision"],
            ),
            registry: shelf.0,
        }
    }
}

impl RequestSeries {
    fn new(shelf: &Shelf) -> Self {
        Self {
            ended: shelf.counters(
                ("requests_total", "Requests for pictures, by how they ended."),
                ("outcome", RequestOutcome::ALL.map(RequestOutcome::name)),
            ),
            duration: shelf.histograms(
                (
                    "request_duration_seconds",
                    "Seconds from a request's head to its answer, of requests that were not refused.",
                ),
                ("outcome", RequestOutcome::SERVED.map(RequestOutcome::name)),
                PICTURE,
            ),
            refusal_duration: shelf.histograms(
                (
                    "refusal_duration_seconds",
                    "Seconds from a request's head to its refusal.",
                ),
                ("outcome", RequestOutcome::REFUSED.map(RequestOutcome::name)),
                REFUSALS,
            ),
        }
    }
}

impl TextSeries {
    fn new(shelf: &Shelf) -> Self {
        Self {
            hits: shelf.counter(
                "prompt_cache_hits_total",
                "Prompts whose embeddings were at hand.",
            ),
            disk_hits: shelf.counter(
                "prompt_cache_disk_hits_total",
                "Prompts whose embeddings were on disk alone. They are among the hits.",
            ),
            misses: shelf.counter(
                "prompt_cache_misses_total",
                "Prompts that had to be encoded.",
            ),
            held_bytes: shelf.level(
                "prompt_cache_bytes",
                "Bytes of the text embeddings that are held in memory.",
            ),
            resident: shelf.level(
                "text_encoder_resident",
                "1 when the text encoder is in memory; with model.text_encoder = on_demand it comes and goes.",
            ),
            loads: shelf.counter(
                "text_encoder_loads_total",
                "How often the text encoder was loaded for a prompt, as model.text_encoder = on_demand has it.",
            ),
            load_time: shelf.seconds(
                "text_encoder_load_seconds_total",
                "Seconds of loading the text encoder for prompts.",
            ),
        }
    }
}

/// A text as a label's value: short, and without what would need escaping.
fn label(text: &str) -> String {
    text.chars()
        .take(MAX_LABEL_CHARS)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '+' | '/' | ':' | ' ' => c,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Values of a scrape by name and labels, as they stand in it.
    type Scrape = BTreeMap<String, String>;

    const BUILD: BuildInfo<'static> = BuildInfo {
        version: "0.1.0",
        openvino: "2026.4.1-21345-releases/2026/4",
        model: "sketchbook",
        weights: "int8",
        precision: "bf16",
    };

    /// Reads the text format strictly, as far as it is used here.
    fn scrape(metrics: &Metrics) -> Scrape {
        let is_name = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let text = Metrics::encode(&metrics.gather());
        assert!(text.ends_with('\n'));
        let mut series = Scrape::new();
        let mut helped = BTreeSet::new();
        let mut family = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.ends_with('.'), "{line}");
                assert!(helped.insert(name), "{name} comes twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split_once(' ').unwrap();
                assert!(helped.contains(family.0), "{line}");
                assert!(
                    ["counter", "gauge", "histogram"].contains(&family.1),
                    "{line}"
                );
            } else {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = match key.split_once('{') {
                    Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                    None => (key, ""),
                };
                let suffix = name.strip_prefix(family.0).unwrap();
                let suffixes: &[&str] = match family.1 {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(is_name(name) && suffixes.contains(&suffix), "{line}");
                for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
                    let (label, value) = pair.split_once('=').unwrap();
                    let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
                    assert!(is_name(label) && !value.contains(['"', '\\']), "{line}");
                }
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
                assert_eq!(
                    series.insert(key.to_owned(), value.to_owned()),
                    None,
                    "{line}"
                );
            }
        }
        series
    }

    fn names(metrics: &Metrics) -> Vec<String> {
        metrics
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect()
    }

    #[test]
    fn these_are_the_metrics_and_no_others() {
        let metrics = Metrics::new(8);
        let mut expected = vec![
            "pixart_cpus",
            "pixart_denoise_step_duration_seconds",
            "pixart_denoise_steps_total",
            "pixart_draining",
            "pixart_image_pixels_total",
            "pixart_images_total",
            "pixart_jobs_accepted_total",
            "pixart_jobs_finished_total",
            "pixart_log_lines_dropped_total",
            "pixart_memory_limit_bytes",
            "pixart_memory_peak_bytes",
            "pixart_model_load_seconds",
            "pixart_predicted_wait_seconds",
            "pixart_prompt_cache_bytes",
            "pixart_prompt_cache_disk_hits_total",
            "pixart_prompt_cache_hits_total",
            "pixart_prompt_cache_misses_total",
            "pixart_queue_capacity",
            "pixart_queue_wait_seconds",
            "pixart_ready",
            "pixart_refusal_duration_seconds",
            "pixart_request_duration_seconds",
            "pixart_requests_running",
            "pixart_requests_total",
            "pixart_requests_waiting",
            "pixart_size_preparation_seconds_total",
            "pixart_sizes_prepared_total",
            "pixart_stage_duration_seconds",
            "pixart_steps_saved_by_cancel_total",
            "pixart_text_encoder_load_seconds_total",
            "pixart_text_encoder_loads_total",
            "pixart_text_encoder_resident",
            "pixart_variants_measured_elsewhere",
            "pixart_worker_last_progress_timestamp_seconds",
            "pixart_worker_restarts_total",
            "pixart_worker_up",
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ];
        assert_eq!(names(&metrics), expected);
        metrics.build_info(&BUILD);
        expected.push("pixart_build_info");
        expected.sort_unstable();
        assert_eq!(names(&metrics), expected);
    }

    #[test]
    fn a_scrape_has_at_most_three_hundred_series() {
        let metrics = Metrics::new(8);
        metrics.build_info(&BUILD);
        let count = scrape(&metrics).len();
        assert!(
            count <= 300,
            "{count} series: a new metric pays with buckets of another"
        );
    }

    #[test]
    fn all_series_of_a_histogram_have_the_same_buckets() {
        let mut layouts: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
        for family in Metrics::new(8).gather() {
            for metric in family.get_metric() {
                let bounds: Vec<String> = metric
                    .get_histogram()
                    .get_bucket()
                    .iter()
                    .map(|bucket| bucket.upper_bound().to_string())
                    .collect();
                let layouts = layouts.entry(family.name().to_owned()).or_default();
                layouts.insert(bounds);
            }
        }
        for (name, layouts) in layouts {
            assert_eq!(layouts.len(), 1, "{name}: {layouts:?}");
        }
    }

    #[test]
    fn every_value_of_every_label_is_there_at_zero() {
        let series = scrape(&Metrics::new(8));
        let mut expected: Vec<String> = Vec::new();
        for outcome in [
            "ok",
            "invalid",
            "too_large",
            "queue_full",
            "draining",
            "not_ready",
            "timeout",
            "cancelled",
            "error",
        ] {
            expected.push(format!("pixart_requests_total{{outcome=\"{outcome}\"}}"));
            let metric = match outcome {
                "ok" | "timeout" | "cancelled" | "error" => "request",
                _ => "refusal",
            };
            expected.push(format!(
                "pixart_{metric}_duration_seconds_count{{outcome=\"{outcome}\"}}"
            ));
        }
        assert!(!series.contains_key("pixart_request_duration_seconds_count{outcome=\"invalid\"}"));
        assert!(!series.contains_key("pixart_refusal_duration_seconds_count{outcome=\"ok\"}"));
        for outcome in ["succeeded", "failed", "cancelled", "expired", "drained"] {
            expected.push(format!(
                "pixart_jobs_finished_total{{outcome=\"{outcome}\"}}"
            ));
        }
        for stage in [
            "parse",
            "tokenize",
            "text_encode",
            "denoise",
            "vae_decode",
            "png_encode",
            "respond",
        ] {
            expected.push(format!(
                "pixart_stage_duration_seconds_count{{stage=\"{stage}\"}}"
            ));
        }
        for reason in ["panic", "engine", "memory"] {
            expected.push(format!(
                "pixart_worker_restarts_total{{reason=\"{reason}\"}}"
            ));
        }
        for key in expected {
            assert_eq!(series.get(&key).map(String::as_str), Some("0"), "{key}");
        }
        for (key, value) in &series {
            let of_machine = ["pixart_cpus", "pixart_memory_peak_bytes"].contains(&key.as_str());
            let stands =
                of_machine || key.starts_with("process_") || key == "pixart_queue_capacity";
            assert!(stands || value == "0", "{key} {value}");
        }
        assert_eq!(series["pixart_queue_capacity"], "8");
        assert_ne!(series["pixart_cpus"], "0");
    }

    /// What is recorded, and the series that it moves with their new values.
    type Case = (fn(&Metrics), &'static [(&'static str, &'static str)]);
    const CASES: [Case; 23] = [
        (
            |metrics| metrics.request(RequestOutcome::QueueFull, Duration::from_millis(750)),
            &[
                ("pixart_requests_total{outcome=\"queue_full\"}", "1"),
                (
                    "pixart_refusal_duration_seconds_bucket{outcome=\"queue_full\",le=\"+Inf\"}",
                    "1",
                ),
                (
                    "pixart_refusal_duration_seconds_sum{outcome=\"queue_full\"}",
                    "0.75",
                ),
                (
                    "pixart_refusal_duration_seconds_count{outcome=\"queue_full\"}",
                    "1",
                ),
            ],
        ),
        (
            |metrics| metrics.request(RequestOutcome::Ok, Duration::from_secs(250)),
            &[
                ("pixart_requests_total{outcome=\"ok\"}", "1"),
                (
                    "pixart_request_duration_seconds_bucket{outcome=\"ok\",le=\"300\"}",
                    "1",
                ),
                (
                    "pixart_request_duration_seconds_bucket{outcome=\"ok\",le=\"600\"}",
                    "1",
                ),
                (
                    "pixart_request_duration_seconds_bucket{outcome=\"ok\",le=\"+Inf\"}",
                    "1",
                ),
                ("pixart_request_duration_seconds_sum{outcome=\"ok\"}", "250"),
                ("pixart_request_duration_seconds_count{outcome=\"ok\"}", "1"),
            ],
        ),
        (Metrics::accepted, &[("pixart_jobs_accepted_total", "1")]),
        (
            |metrics| metrics.finished(JobOutcome::Drained),
            &[("pixart_jobs_finished_total{outcome=\"drained\"}", "1")],
        ),
        (
            |metrics| metrics.queue_wait(Duration::from_secs(1000)),
            &[
                ("pixart_queue_wait_seconds_bucket{le=\"+Inf\"}", "1"),
                ("pixart_queue_wait_seconds_sum", "1000"),
                ("pixart_queue_wait_seconds_count", "1"),
            ],
        ),
        (
            |metrics| metrics.set_line(1, 3),
            &[
                ("pixart_requests_running", "1"),
                ("pixart_requests_waiting", "3"),
            ],
        ),
        (
            |metrics| metrics.set_predicted_wait(Duration::from_millis(2500)),
            &[("pixart_predicted_wait_seconds", "2.5")],
        ),
        (
            |metrics| metrics.stage(Stage::VaeDecode, Duration::from_secs(17)),
            &[
                (
                    "pixart_stage_duration_seconds_bucket{stage=\"vae_decode\",le=\"20\"}",
                    "1",
                ),
                (
                    "pixart_stage_duration_seconds_bucket{stage=\"vae_decode\",le=\"90\"}",
                    "1",
                ),
                (
                    "pixart_stage_duration_seconds_bucket{stage=\"vae_decode\",le=\"600\"}",
                    "1",
                ),
                (
                    "pixart_stage_duration_seconds_bucket{stage=\"vae_decode\",le=\"+Inf\"}",
                    "1",
                ),
                (
                    "pixart_stage_duration_seconds_sum{stage=\"vae_decode\"}",
                    "17",
                ),
                (
                    "pixart_stage_duration_seconds_count{stage=\"vae_decode\"}",
                    "1",
                ),
            ],
        ),
        (
            |metrics| metrics.step(Duration::from_secs(16)),
            &[
                ("pixart_denoise_steps_total", "1"),
                (
                    "pixart_denoise_step_duration_seconds_bucket{le=\"20\"}",
                    "1",
                ),
                (
                    "pixart_denoise_step_duration_seconds_bucket{le=\"+Inf\"}",
                    "1",
                ),
                ("pixart_denoise_step_duration_seconds_sum", "16"),
                ("pixart_denoise_step_duration_seconds_count", "1"),
            ],
        ),
        (
            |metrics| metrics.steps_saved(3),
            &[("pixart_steps_saved_by_cancel_total", "3")],
        ),
        (
            |metrics| metrics.picture(65_536),
            &[
                ("pixart_images_total", "1"),
                ("pixart_image_pixels_total", "65536"),
            ],
        ),
        (|metrics| metrics.set_ready(true), &[("pixart_ready", "1")]),
        (
            |metrics| metrics.set_draining(true),
            &[("pixart_draining", "1")],
        ),
        (
            |metrics| metrics.set_worker_up(true),
            &[("pixart_worker_up", "1")],
        ),
        (
            |metrics| metrics.worker_restarted(RestartReason::Engine),
            &[("pixart_worker_restarts_total{reason=\"engine\"}", "1")],
        ),
        (
            |metrics| metrics.prompt_cache(2, 1, 5),
            &[
                ("pixart_prompt_cache_disk_hits_total", "1"),
                ("pixart_prompt_cache_hits_total", "2"),
                ("pixart_prompt_cache_misses_total", "5"),
            ],
        ),
        (
            |metrics| metrics.set_prompt_cache_bytes(65_536),
            &[("pixart_prompt_cache_bytes", "65536")],
        ),
        (
            |metrics| metrics.set_text_encoder_resident(true),
            &[("pixart_text_encoder_resident", "1")],
        ),
        (
            |metrics| metrics.text_encoder_loaded(Duration::from_millis(7500)),
            &[
                ("pixart_text_encoder_loads_total", "1"),
                ("pixart_text_encoder_load_seconds_total", "7.5"),
                ("pixart_text_encoder_resident", "1"),
            ],
        ),
        (
            |metrics| metrics.size_prepared(Duration::from_millis(1500)),
            &[
                ("pixart_sizes_prepared_total", "1"),
                ("pixart_size_preparation_seconds_total", "1.5"),
            ],
        ),
        (
            |metrics| metrics.model_loaded(Duration::from_millis(2500)),
            &[("pixart_model_load_seconds", "2.5")],
        ),
        (
            |metrics| metrics.set_variants_measured_elsewhere(2),
            &[("pixart_variants_measured_elsewhere", "2")],
        ),
        (
            |metrics| metrics.build_info(&BUILD),
            &[(
                "pixart_build_info{model=\"sketchbook\",openvino=\"2026.4.1-21345-releases/2026/4\",precision=\"bf16\",\
                     version=\"0.1.0\",weights=\"int8\"}",
                "1",
            )],
        ),
    ];

    #[test]
    fn everything_recorded_moves_its_own_series() {
        let own = |series: Scrape| -> Scrape {
            series
                .into_iter()
                .filter(|(key, _)| key.starts_with("pixart_"))
                // Other tests of this process move it meanwhile.
                .filter(|(key, _)| key != "pixart_memory_peak_bytes")
                .collect()
        };
        for (record, moved) in CASES {
            let metrics = Metrics::new(8);
            let mut expected = own(scrape(&metrics));
            expected.extend(
                moved
                    .iter()
                    .map(|&(key, value)| (key.to_owned(), value.to_owned())),
            );
            record(&metrics.clone());
            assert_eq!(own(scrape(&metrics)), expected);
        }
    }

    #[test]
    fn progress_is_told_as_the_time_of_day() {
        let metrics = Metrics::new(8);
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        metrics.worker_progress_now();
        let told = &scrape(&metrics)["pixart_worker_last_progress_timestamp_seconds"];
        let told: f64 = told.parse().unwrap();
        assert!(told >= before.as_secs_f64(), "{told}");
    }

    #[test]
    fn a_build_is_told_once_and_its_labels_are_short_and_plain() {
        let metrics = Metrics::new(8);
        metrics.build_info(&BUILD);
        let model = format!("a\"b\\c\nd{}", "ü".repeat(100));
        metrics.build_info(&BuildInfo {
            model: &model,
            ..BUILD
        });
        let builds: Vec<String> = scrape(&metrics)
            .into_keys()
            .filter(|key| key.starts_with("pixart_build_info"))
            .collect();
        assert_eq!(builds.len(), 1, "{builds:?}");
        assert!(
            builds[0].contains(&format!("model=\"a_b_c_d{}\"", "_".repeat(57))),
            "{builds:?}"
        );
    }

    #[test]
    fn buckets_grow_and_reach_what_they_are_for() {
        for buckets in [PICTURE, REFUSALS, STEP, STAGE] {
            assert!(buckets.is_sorted_by(|one, next| one < next), "{buckets:?}");
        }
        assert_eq!(PICTURE.last(), Some(&600.0));
    }

    #[test]
    fn two_services_in_one_process_count_apart() {
        let (one, other) = (Metrics::new(1), Metrics::new(2));
        one.accepted();
        assert_eq!(scrape(&one)["pixart_jobs_accepted_total"], "1");
        assert_eq!(scrape(&other)["pixart_jobs_accepted_total"], "0");
    }
}
