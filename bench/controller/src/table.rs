//! Results as tables. In: results. Out: Markdown. Absent on purpose: numbers of its own.

use crate::results::{Column, Memory, Phase, Results, Times};

type Cell = fn(&Column, &Results) -> String;

/// All rows.
const ROWS: &[(&str, Cell)] = &[
    ("start to ready, s (CPU s)", |column, _| phase(&column.ready)),
    ("memory then: RSS / PSS / anonymous, MB", |column, _| memory(&column.ready.memory)),
    ("every proxy has all, s (CPU s)", |column, _| phase(&column.full)),
    ("one proxy was sent: resources, MB", |column, _| {
        format!("{:.0}, {:.2}", column.full_resources, column.full_bytes / 1e6)
    }),
    ("memory then: RSS / PSS / anonymous, MB", |column, _| memory(&column.full.memory)),
    ("most memory until then, MB", |column, _| megabytes(column.full.memory.peak)),
    ("changes a second (asked for)", |column, _| format!("{:.1} ({:.0})", column.churn.rate, column.churn.asked_rate)),
    ("CPU per change, ms", |column, _| format!("{:.2}", per_change(column) * 1e3)),
    ("cores busy under churn", |column, _| {
        format!("{:.2}", column.churn.phase.cpu_seconds / column.churn.phase.seconds.max(1e-9))
    }),
    ("responses per change and proxy", |column, results| {
        format!("{:.4}", column.churn.responses as f64 / column.churn.pairs(results.nodes))
    }),
    ("resources per change and proxy", |column, results| {
        format!("{:.4}", column.churn.resources as f64 / column.churn.pairs(results.nodes))
    }),
    ("bytes per change and proxy", |column, results| {
        format!("{:.1}", column.churn.bytes as f64 / column.churn.pairs(results.nodes))
    }),
    ("proxies concerned by a change", |column, _| {
        format!("{:.1}", column.churn.expected as f64 / column.churn.changes.max(1) as f64)
    }),
    ("change to one proxy's acknowledgement, p50 / p99 / p99.9, ms", |column, _| times(&column.churn.to_one)),
    ("change to the last proxy's, p50 / p99 / p99.9, ms", |column, _| times(&column.churn.to_all)),
    ("memory after churn: RSS / PSS / anonymous, MB", |column, _| memory(&column.churn.phase.memory)),
    ("most memory ever, MB", |column, _| megabytes(column.churn.phase.memory.peak)),
    ("CPU s of churn: controller / API server / proxies and load", |column, _| {
        let churn = &column.churn;
        format!("{:.1} / {:.1} / {:.1}", churn.phase.cpu_seconds, churn.api_cpu_seconds, churn.proxies_cpu_seconds)
    }),
    ("acknowledgements that came, of those that had to", |column, _| {
        format!("{} of {}", column.churn.heard, column.churn.expected)
    }),
];

/// Rows of the README.
const SHORT: &[(&str, Cell)] = &[
    ("start to ready, s (CPU s)", |column, _| phase(&column.ready)),
    ("every proxy has all, s (CPU s)", |column, _| phase(&column.full)),
    ("memory under churn: RSS / PSS / anonymous; most ever, MB", |column, _| {
        let memory_now = &column.churn.phase.memory;
        format!("{}; {}", memory(memory_now), megabytes(memory_now.peak))
    }),
    ("CPU per change, ms", |column, _| format!("{:.2}", per_change(column) * 1e3)),
    ("responses per change and proxy", |column, results| {
        format!("{:.4}", column.churn.responses as f64 / column.churn.pairs(results.nodes))
    }),
    ("change to acknowledgement, p50 / p99 / p99.9, ms", |column, _| times(&column.churn.to_one)),
];

/// Everything.
pub(crate) fn whole(results: &Results) -> String {
    format!("{}{}", said(results), rows(results, ROWS))
}

/// For the README.
pub(crate) fn short(results: &Results) -> String {
    format!("{}{}", said(results), rows(results, SHORT))
}

fn said(results: &Results) -> String {
    let churn =
        results.columns.first().map(|column| (column.churn.asked_rate, column.churn.changes)).unwrap_or_default();
    format!(
        "* `{}`, {}, sources {}\n* {}\n* {} nodes with a proxy each, {} pods, {} services; {} changes a second ({} in all), in \
         turn a pod that leaves and one that comes\n* on demand: a proxy gets its node's workloads unasked, and asks for {} \
         services\n\n",
        results.command,
        results.date,
        results.commit,
        results.machine,
        results.nodes,
        results.pods,
        results.services,
        churn.0,
        churn.1,
        results.used
    )
}

fn rows(results: &Results, rows: &[(&str, Cell)]) -> String {
    let heads = results
        .columns
        .iter()
        .map(|column| format!(" {} ({}), asked for {} |", column.program, column.build, column.ask));
    let mut text = format!("| |{}\n| --- |{}\n", heads.collect::<String>(), " --- |".repeat(results.columns.len()));
    for (name, cell) in rows {
        let cells = results.columns.iter().map(|column| format!(" {} |", cell(column, results)));
        text.push_str(&format!("| {name} |{}\n", cells.collect::<String>()));
    }
    text
}

fn per_change(column: &Column) -> f64 {
    column.churn.phase.cpu_seconds / column.churn.changes.max(1) as f64
}

fn phase(phase: &Phase) -> String {
    format!("{:.2} ({:.2})", phase.seconds, phase.cpu_seconds)
}

fn memory(memory: &Memory) -> String {
    format!("{} / {} / {}", megabytes(memory.rss), megabytes(memory.pss), megabytes(memory.anonymous))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

fn times(times: &Times) -> String {
    format!("{:.0} / {:.0} / {:.0}", times.p50, times.p99, times.p999)
}
