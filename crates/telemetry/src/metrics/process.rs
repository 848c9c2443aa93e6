//! What the process and its runtimes say of themselves at a scrape.
//!
//! In: `/proc/self` and tokio's own counters. Out: collectors for [`Registry::collect_from`](super::Registry::collect_from).

use tokio::runtime::{Handle, RuntimeMetrics};

use super::registry::{Kind, Sample};

/// `process_open_fds`, `process_max_fds` and `process_resident_memory_bytes`.
pub fn process_collector(samples: &mut Vec<Sample>) {
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // The listing itself holds one descriptor open.
        let open = entries.count().saturating_sub(1);
        samples.push(gauge("process_open_fds", "Number of open file descriptors", open as f64));
    }
    if let Some(max) = max_fds() {
        samples.push(gauge("process_max_fds", "Maximum number of file descriptors", max));
    }
    if let Some(bytes) = resident() {
        samples.push(gauge("process_resident_memory_bytes", "Memory of the process that is in RAM, in bytes", bytes));
    }
}

fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn max_fds() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The `tokio_*` families of all `runtimes` together.
pub fn runtime_collector(runtimes: Vec<Handle>) -> impl Fn(&mut Vec<Sample>) + Send + Sync + 'static {
    move |samples| {
        let all: Vec<_> = runtimes.iter().map(Handle::metrics).collect();
        let sum = |of: fn(&RuntimeMetrics) -> usize| all.iter().map(of).sum::<usize>() as f64;
        samples.push(gauge("tokio_num_workers", "Number of worker threads", sum(RuntimeMetrics::num_workers)));
        let depth = sum(RuntimeMetrics::global_queue_depth);
        samples.push(gauge("tokio_global_queue_depth", "Tasks in queues that other threads fill", depth));
        samples.push(gauge("tokio_num_alive_tasks", "Tasks alive", sum(RuntimeMetrics::num_alive_tasks)));
        let workers = all.iter().flat_map(|of| (0..of.num_workers()).map(move |worker| (of, worker)));
        for (number, (of, worker)) in workers.enumerate() {
            samples.extend(worker_samples(of, worker, number));
        }
    }
}

fn worker_samples(of: &RuntimeMetrics, worker: usize, number: usize) -> [Sample; 3] {
    let sample = |name, help, value| Sample {
        name,
        kind: Kind::Counter,
        help,
        labels: vec![("worker", number.to_string())],
        value,
    };
    let busy = of.worker_total_busy_duration(worker).as_secs_f64();
    [
        sample("tokio_worker_total_busy_duration_seconds", "Time the worker was busy", busy),
        sample("tokio_worker_park_count", "Times the worker parked", of.worker_park_count(worker) as f64),
        sample(
            "tokio_worker_park_unpark_count",
            "Times the worker parked and unparked",
            of.worker_park_unpark_count(worker) as f64,
        ),
    ]
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample { name, kind: Kind::Gauge, help, labels: Vec::new(), value }
}
