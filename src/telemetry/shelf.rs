//! Makes the series of the metrics: under one prefix, registered as they are made.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::machine;

/// Makes metrics and puts them into the registry.
pub(super) struct Shelf(pub(super) Registry);

/// Why making and registering a metric cannot fail.
const SOUND: &str =
    "names, labels and buckets are constants, which a test holds to be sound and unique";
/// What all names begin with, before a `_`.
const PREFIX: &str = "pixart";

impl Shelf {
    pub(super) fn put(&self, metric: impl Collector + 'static) {
        self.0.register(Box::new(metric)).expect(SOUND);
    }

    /// What the process is given: it stands from the start, and only the system changes it.
    pub(super) fn put_what_stands(&self, queue_capacity: usize) {
        // The system's own numbers of this process, under the names that every Prometheus client uses.
        self.put(ProcessCollector::for_self());
        let capacity = self.level(
            "queue_capacity",
            "Jobs that may wait beside the running one.",
        );
        capacity.set(whole(queue_capacity));
        let cpus = self.level(
            "cpus",
            "Cores that the process may use, quotas and affinity considered.",
        );
        cpus.set(whole(machine::cpus()));
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.counter_of(Opts::new(name, help))
    }

    /// A counter of seconds.
    pub(super) fn seconds(&self, name: &str, help: &str) -> Counter {
        let opts = Opts::new(name, help).namespace(PREFIX);
        let counter = Counter::with_opts(opts).expect(SOUND);
        self.put(counter.clone());
        counter
    }

    /// One counter for each value of a label.
    pub(super) fn counters<const N: usize>(
        &self,
        (name, help): (&str, &str),
        (label, values): (&str, [&str; N]),
    ) -> [IntCounter; N] {
        values.map(|value| self.counter_of(Opts::new(name, help).const_label(label, value)))
    }

    fn counter_of(&self, opts: Opts) -> IntCounter {
        let counter = counter_of(opts);
        self.put(counter.clone());
        counter
    }

    /// A gauge of whole numbers.
    pub(super) fn level(&self, name: &str, help: &str) -> IntGauge {
        let opts = Opts::new(name, help).namespace(PREFIX);
        let gauge = IntGauge::with_opts(opts).expect(SOUND);
        self.put(gauge.clone());
        gauge
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Gauge {
        let opts = Opts::new(name, help).namespace(PREFIX);
        let gauge = Gauge::with_opts(opts).expect(SOUND);
        self.put(gauge.clone());
        gauge
    }

    pub(super) fn info(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let opts = Opts::new(name, help).namespace(PREFIX);
        let gauges = IntGaugeVec::new(opts, labels).expect(SOUND);
        self.put(gauges.clone());
        gauges
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.histogram_of(HistogramOpts::new(name, help), buckets)
    }

    /// One histogram for each value of a label, all with the same buckets.
    pub(super) fn histograms<const N: usize>(
        &self,
        (name, help): (&str, &str),
        (label, values): (&str, [&str; N]),
        buckets: &[f64],
    ) -> [Histogram; N] {
        values.map(|value| {
            let opts = HistogramOpts::new(name, help).const_label(label, value);
            self.histogram_of(opts, buckets)
        })
    }

    fn histogram_of(&self, opts: HistogramOpts, buckets: &[f64]) -> Histogram {
        let opts = opts.namespace(PREFIX).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(opts).expect(SOUND);
        self.put(histogram.clone());
        histogram
    }
}

/// A counter that nobody has registered yet.
pub(super) fn counter_of(opts: Opts) -> IntCounter {
    IntCounter::with_opts(opts.namespace(PREFIX)).expect(SOUND)
}

/// A number of things as a gauge's value.
pub(super) fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
