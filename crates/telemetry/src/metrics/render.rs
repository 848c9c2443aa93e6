//! OpenMetrics text, <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.
//!
//! In: the registry's families and the collectors' samples. Out: one text ending in `# EOF`. Families without samples
//! are left out; families come in name order, labels in the order they were given.

use std::{collections::BTreeMap, fmt::Write as _, sync::atomic::Ordering};

use super::registry::{Family, HistogramCell, Kind, Registry, Sample, Series};

impl Registry {
    /// Everything counted until now, as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut samples = Vec::new();
        for collector in self.shared.collectors.lock().iter() {
            collector(&mut samples);
        }
        // Each family's text under its name, so that counted and collected ones come in one order.
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        for (name, family) in self.shared.families.read().iter().filter(|(_, family)| !family.series.is_empty()) {
            texts.insert(name.clone(), family_text(name, family));
        }
        for sample in &samples {
            let text = texts.entry(sample.name.to_owned()).or_insert_with(|| collected_head(sample));
            collected_line(text, sample);
        }
        let mut out: String = texts.into_values().collect();
        out.push_str("# EOF\n");
        out
    }
}

fn head(out: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    if !help.is_empty() {
        let _infallible = writeln!(out, "# HELP {name} {}", escaped(help));
    }
    let _infallible = writeln!(out, "# TYPE {name} {kind}");
}

fn family_text(name: &str, family: &Family) -> String {
    let mut out = String::new();
    head(&mut out, name, family.kind, &family.help);
    if let Some(unit) = family.unit.map(|unit| unit.as_str())
        && name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
    {
        let _infallible = writeln!(out, "# UNIT {name} {unit}");
    }
    let mut keys: Vec<_> = family.series.iter().collect();
    keys.sort_by_key(|(key, _)| *key);
    for (key, kept) in keys {
        let labels = label_text(key.labels().map(|label| (label.key(), label.value())));
        match &kept.series {
            Series::Counter(cell) => line(&mut out, &format!("{name}_total"), &labels, cell.0.load(Ordering::Relaxed)),
            Series::Gauge(cell) => {
                line(&mut out, name, &labels, number(f64::from_bits(cell.load(Ordering::Relaxed))));
            }
            Series::Histogram(cell) => histogram(&mut out, name, &labels, cell),
        }
    }
    out
}

fn histogram(out: &mut String, name: &str, labels: &str, cell: &HistogramCell) {
    let counts: Vec<u64> = cell.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let total: u64 = counts.iter().sum();
    line(out, &format!("{name}_sum"), labels, format!("{:?}", f64::from_bits(cell.sum.load(Ordering::Relaxed))));
    line(out, &format!("{name}_count"), labels, total);
    let mut below = 0;
    let bounds = cell.bounds.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&counts) {
        below += count;
        let comma = if labels.is_empty() { "" } else { "," };
        line(out, &format!("{name}_bucket"), &format!("{labels}{comma}le=\"{bound}\""), below);
    }
}

fn collected_head(sample: &Sample) -> String {
    let mut out = String::new();
    head(&mut out, sample.name, sample.kind, sample.help);
    out
}

fn collected_line(out: &mut String, sample: &Sample) {
    let suffix = if sample.kind == Kind::Counter { "_total" } else { "" };
    let labels = label_text(sample.labels.iter().map(|(key, value)| (*key, value.as_str())));
    line(out, &format!("{}{suffix}", sample.name), &labels, number(sample.value));
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _infallible =
        if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") };
}

fn label_text<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let mut out = String::new();
    for (key, value) in labels {
        let comma = if out.is_empty() { "" } else { "," };
        let _infallible = write!(out, "{comma}{key}=\"{}\"", escaped(value));
    }
    out
}

/// Backslash, quote and line feed are what the format cannot carry plainly.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Whole numbers without a fraction, as scrapers of the reference are used to.
fn number(value: f64) -> String {
    // 2^53: below it every whole f64 is exact.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        format!("{value:.0}")
    } else {
        format!("{value:?}")
    }
}
