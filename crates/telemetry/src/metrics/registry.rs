//! Families and their series.
//!
//! In: keys from the crate `metrics`. Out: shared atomics to count in, and a walk over all of them for rendering.
//! A family holds at most [`SERIES_PER_FAMILY_MAX`] series; what comes later counts nowhere and is reported once, because
//! labels carry names that users choose and must not fill the memory of the proxy.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SetRecorderError,
    SharedString, Unit,
};
use parking_lot::{Mutex, RwLock};

/// The most label sets one family keeps.
pub const SERIES_PER_FAMILY_MAX: usize = 100_000;

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One row of a program's metric table.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The family's name, without `_total`.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// Its unit; printed only where the name ends with it, as OpenMetrics demands.
    pub unit: Option<Unit>,
    /// One line for a human.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets, rising; empty for the default ones.
    pub buckets: &'static [f64],
}

/// A value computed at the scrape rather than counted.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The family's name, without `_total`.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One line for a human.
    pub help: &'static str,
    /// Labels in the order they are printed.
    pub labels: Vec<(&'static str, String)>,
    /// The value now.
    pub value: f64,
}

/// Gives values at each scrape.
pub type Collector = Box<dyn Fn(&mut Vec<Sample>) + Send + Sync>;

/// The registry; clones share it.
#[derive(Clone, Default)]
pub struct Registry {
    pub(super) shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) families: RwLock<BTreeMap<String, Family>>,
    pub(super) collectors: Mutex<Vec<Collector>>,
}

pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) unit: Option<Unit>,
    pub(super) help: String,
    pub(super) buckets: Arc<[f64]>,
    pub(super) series: HashMap<Key, Kept>,
    refused: AtomicBool,
}

/// A series, and what `expire` saw of it.
pub(super) struct Kept {
    pub(super) series: Series,
    /// Its value at the last look.
    pub(super) seen: u64,
    /// Looks since it changed.
    pub(super) idle: u8,
}

#[derive(Clone)]
pub(super) enum Series {
    Counter(Arc<CounterCell>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<HistogramCell>),
}

/// A counter; `absolute` never lowers it.
#[derive(Default)]
pub(super) struct CounterCell(pub(super) AtomicU64);

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }
    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A histogram: one count per bucket (the last is `+Inf`), and the sum as the bits of an `f64`.
pub(super) struct HistogramCell {
    pub(super) bounds: Arc<[f64]>,
    pub(super) counts: Vec<AtomicU64>,
    pub(super) sum: AtomicU64,
}

impl HistogramCell {
    fn new(bounds: Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }
}

impl HistogramFn for HistogramCell {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        metrics::GaugeFn::increment(&self.sum, value);
    }
}

const DEFAULT_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

impl Family {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            unit: None,
            help: String::new(),
            buckets: Arc::new(DEFAULT_BUCKETS),
            series: HashMap::new(),
            refused: AtomicBool::new(false),
        }
    }

    fn make(&self) -> Series {
        match self.kind {
            Kind::Counter => Series::Counter(Arc::default()),
            Kind::Gauge => Series::Gauge(Arc::default()),
            Kind::Histogram => Series::Histogram(Arc::new(HistogramCell::new(self.buckets.clone()))),
        }
    }

    fn series(&mut self, key: &Key) -> Option<Series> {
        if let Some(kept) = self.series.get(key) {
            return Some(kept.series.clone());
        }
        if self.series.len() >= SERIES_PER_FAMILY_MAX {
            if !self.refused.swap(true, Ordering::Relaxed) {
                let max = SERIES_PER_FAMILY_MAX;
                tracing::warn!(metric = key.name(), max, "too many label sets, the newest are not counted");
            }
            return None;
        }
        let series = self.make();
        self.series.insert(key.clone(), Kept { series: series.clone(), seen: 0, idle: 0 });
        Some(series)
    }
}

impl Registry {
    /// A registry that knows these families.
    pub fn new(table: &[Description]) -> Self {
        let registry = Self::default();
        let mut families = registry.shared.families.write();
        for row in table {
            let mut family = Family::new(row.kind);
            row.help.clone_into(&mut family.help);
            family.unit = row.unit;
            if !row.buckets.is_empty() {
                family.buckets = row.buckets.into();
            }
            families.insert(row.name.to_owned(), family);
        }
        drop(families);
        registry
    }

    /// Makes this registry the one behind `metrics::counter!` and its kin in the whole process.
    pub fn install(&self) -> Result<(), SetRecorderError<Self>> {
        metrics::set_global_recorder(self.clone())
    }

    /// Asks `collector` for values at every scrape.
    pub fn collect_from(&self, collector: impl Fn(&mut Vec<Sample>) + Send + Sync + 'static) {
        self.shared.collectors.lock().push(Box::new(collector));
    }

    fn describe(&self, kind: Kind, name: &KeyName, unit: Option<Unit>, help: &SharedString) {
        let mut families = self.shared.families.write();
        let family = families.entry(family_name(name.as_str()).to_owned()).or_insert_with(|| Family::new(kind));
        family.unit = unit;
        help.as_ref().clone_into(&mut family.help);
    }

    /// The cell for `key`, or nothing if the family is full or of another kind.
    fn series(&self, kind: Kind, key: &Key) -> Option<Series> {
        let key = &*canonical(key);
        let name = key.name();
        let known = self
            .shared
            .families
            .read()
            .get(name)
            .and_then(|family| family.series.get(key).map(|kept| kept.series.clone()));
        if known.is_some() {
            return known;
        }
        let mut families = self.shared.families.write();
        families.entry(name.to_owned()).or_insert_with(|| Family::new(kind)).series(key)
    }
}

/// A counter may be named with or without `_total`; the family is named without.
fn family_name(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// The key under its family's name, so that both spellings of a counter are one series.
fn canonical(key: &Key) -> Cow<'_, Key> {
    match key.name().strip_suffix("_total") {
        None => Cow::Borrowed(key),
        Some(name) => Cow::Owned(Key::from_parts(name.to_owned(), key.labels().cloned().collect::<Vec<_>>())),
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(Kind::Counter, &key, unit, &help);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(Kind::Gauge, &key, unit, &help);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(Kind::Histogram, &key, unit, &help);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.series(Kind::Counter, key) {
            Some(Series::Counter(cell)) => Counter::from_arc(cell),
            Some(Series::Gauge(_) | Series::Histogram(_)) | None => Counter::noop(),
        }
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.series(Kind::Gauge, key) {
            Some(Series::Gauge(cell)) => Gauge::from_arc(cell),
            Some(Series::Counter(_) | Series::Histogram(_)) | None => Gauge::noop(),
        }
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.series(Kind::Histogram, key) {
            Some(Series::Histogram(cell)) => Histogram::from_arc(cell),
            Some(Series::Counter(_) | Series::Gauge(_)) | None => Histogram::noop(),
        }
    }
}
