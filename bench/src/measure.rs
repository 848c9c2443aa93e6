//! What is measured, and how one measure is taken.
//!
//! In: a client's and a server's place, the proxies between them. Out: numbers of one window of time.
//! The window is ours: both ends and the proxies are read at its begin and its end, the load goes on around it.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use lateen_load::{
    histogram::{Buckets, Histogram},
    report::Report,
};
use lateen_net::netns::Netns;

use crate::{load::Load, pods::Role, proc, profile};

/// How long load runs before the window: slow start, first certificates, pools that fill.
const WARM: Duration = Duration::from_millis(300);

/// Which way the traffic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// From one node to another.
    Cross,
    /// Within one node.
    Same,
}

impl Route {
    /// Who answers.
    pub fn server(self) -> Role {
        match self {
            Self::Cross => Role::Far,
            Self::Same => Role::Near,
        }
    }
}

/// What the load does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Job {
    /// Bulk data towards the server.
    Up(usize),
    /// Bulk data towards the client.
    Down(usize),
    /// Requests on this many connections, as many as possible.
    Requests(usize),
    /// Requests on this many connections at this rate.
    Paced(usize, u32),
    /// New connections, this many at once.
    Connects(usize),
    /// New connections at this rate.
    ConnectsPaced(u32),
}

/// One measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measure {
    /// Which way.
    pub route: Route,
    /// What.
    pub job: Job,
    /// Whether the quick run takes it.
    pub quick: bool,
}

/// Everything that can be measured with load.
pub(crate) fn all() -> Vec<Measure> {
    let jobs = [
        (Job::Up(1), true),
        (Job::Down(1), false),
        (Job::Up(8), true),
        (Job::Down(8), false),
        (Job::Up(64), false),
        (Job::Down(64), false),
        (Job::Requests(64), true),
        (Job::Requests(1), false),
        (Job::Paced(16, 500), true),
        (Job::Connects(32), true),
        (Job::ConnectsPaced(600), true),
    ];
    // Of the steady rates the quick run takes one.
    let quick = |route, job| route == Route::Cross || !matches!(job, Job::ConnectsPaced(_));
    let of = |route| {
        let one = move |(job, often): &(Job, bool)| Measure { route, job: *job, quick: *often && quick(route, *job) };
        jobs.iter().map(one)
    };
    of(Route::Cross).chain(of(Route::Same)).collect()
}

/// One number of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    /// What of the measure.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The number.
    pub value: f64,
}

/// What one window came to.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// The numbers.
    pub numbers: Vec<Number>,
    /// All latencies, where there are any.
    pub latency: Buckets,
    /// What makes the numbers doubtful.
    pub doubt: Option<String>,
}

impl Measure {
    /// As on the command line.
    pub fn name(&self) -> String {
        let route = match self.route {
            Route::Cross => "cross",
            Route::Same => "same",
        };
        match self.job {
            Job::Up(count) => format!("{route}.tcp{count}.up"),
            Job::Down(count) => format!("{route}.tcp{count}.down"),
            Job::Requests(count) => format!("{route}.requests{count}"),
            Job::Paced(_, rate) => format!("{route}.latency{rate}"),
            Job::Connects(_) => format!("{route}.connects"),
            Job::ConnectsPaced(rate) => format!("{route}.connects{rate}"),
        }
    }

    /// How long its window is, where an ordinary one is `ordinary`.
    pub fn window(&self, ordinary: Duration, quick: bool) -> Duration {
        match self.job {
            // Enough requests for the last of a thousand to mean something.
            Job::Paced(..) => ordinary * 2,
            Job::ConnectsPaced(_) if quick => ordinary * 10,
            Job::ConnectsPaced(_) => Duration::from_secs(60),
            _ => ordinary,
        }
    }

    fn words(&self, to: std::net::SocketAddr) -> Vec<String> {
        let (verb, connections, rest) = match self.job {
            Job::Up(count) => ("stream", count, vec!["--direction".to_owned(), "up".to_owned()]),
            Job::Down(count) => ("stream", count, vec!["--direction".to_owned(), "down".to_owned()]),
            Job::Requests(count) => ("request", count, Vec::new()),
            Job::Paced(count, rate) => ("request", count, vec!["--rate".to_owned(), rate.to_string()]),
            Job::Connects(count) => ("connect", count, Vec::new()),
            Job::ConnectsPaced(rate) => ("connect", 1, vec!["--rate".to_owned(), rate.to_string()]),
        };
        let mut words = vec![verb.to_owned(), to.to_string(), "--connections".to_owned(), connections.to_string()];
        words.extend(rest);
        words
    }
}

/// Where a measure is taken.
pub(crate) struct Stage<'a> {
    /// The load program.
    pub program: &'a Path,
    /// The client's network.
    pub client: Netns,
    /// The server.
    pub server: &'a mut Load,
    /// The server's address.
    pub to: std::net::SocketAddr,
    /// The proxies that may be on the way.
    pub proxies: Vec<i32>,
    /// What the load is told beside the measure's own words.
    pub more: &'a [String],
}

/// Everything that is read at the two ends of a window.
struct Look {
    client: Report,
    server: Report,
    proxies: proc::Spent,
    machine: Duration,
}

/// What happened between two looks.
struct Window {
    seconds: f64,
    proxies: Duration,
    machine: Duration,
    client: Report,
    server: Report,
}

impl Stage<'_> {
    /// Takes one measure.
    pub fn take(&mut self, measure: &Measure, window: Duration) -> anyhow::Result<Sample> {
        let mut client = Load::start(self.program, &self.client, &self.words(measure))
            .with_context(|| format!("the load of {}", measure.name()))?;
        std::thread::sleep(WARM);
        // Where a rate is held for long, its parts say whether it went on as it began.
        let parts = if matches!(measure.job, Job::ConnectsPaced(_)) { 3 } else { 1 };
        let mut looks = vec![self.look(&mut client)?];
        for _ in 0..parts {
            std::thread::sleep(window / parts);
            looks.push(self.look(&mut client)?);
        }
        Ok(sample(measure, &looks))
    }

    /// Folded stacks of the proxies under a measure's load.
    pub fn profile(&self, measure: &Measure, time: Duration) -> anyhow::Result<String> {
        let directory = tempfile::tempdir().context("a directory for a recording")?;
        let _load = Load::start(self.program, &self.client, &self.words(measure))?;
        std::thread::sleep(WARM);
        profile::folded(&self.proxies, time, directory.path())
    }

    fn words(&self, measure: &Measure) -> Vec<String> {
        let mut words = measure.words(self.to);
        words.extend_from_slice(self.more);
        words
    }

    fn look(&mut self, client: &mut Load) -> anyhow::Result<Look> {
        Ok(Look {
            client: client.report()?,
            server: self.server.report()?,
            proxies: proc::Spent::by(&self.proxies)?,
            machine: proc::busy()?,
        })
    }
}

fn between(before: &Look, after: &Look) -> Window {
    let less = |after: &Report, before: &Report| Report {
        at: after.at - before.at,
        read: after.read - before.read,
        written: after.written - before.written,
        replies: after.replies - before.replies,
        opened: after.opened - before.opened,
        failed: after.failed - before.failed,
        dropped: after.dropped - before.dropped,
        latency: after.latency.clone(),
    };
    let client = less(&after.client, &before.client);
    Window {
        seconds: Duration::from_nanos(client.at).as_secs_f64(),
        proxies: after.proxies.since(&before.proxies),
        machine: after.machine.saturating_sub(before.machine),
        client,
        server: less(&after.server, &before.server),
    }
}

fn sample(measure: &Measure, looks: &[Look]) -> Sample {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Sample::default() };
    let window = between(first, last);
    let mut latency = Histogram::default();
    let parts: Vec<&Buckets> = looks.iter().skip(1).map(|look| &look.client.latency).collect();
    parts.iter().for_each(|part| latency.merge(part));
    let mut numbers = match measure.job {
        // The reader's count: the writer's kernel holds what has not gone anywhere yet.
        Job::Up(_) => bulk(window.server.read, &window),
        Job::Down(_) => bulk(window.client.read, &window),
        Job::Requests(_) | Job::Connects(_) => {
            [rate(&window), costs(&window), percentiles(&latency, &[50, 99])].concat()
        }
        Job::Paced(..) => [percentiles(&latency, &[50, 99, 999]), costs(&window)].concat(),
        Job::ConnectsPaced(_) => {
            let flat = Number { what: "p99 at the end / at the begin", unit: "x", value: flatness(&parts) };
            [percentiles(&latency, &[50, 99, 999]), costs(&window), vec![flat]].concat()
        }
    };
    numbers.retain(|number| number.value.is_finite());
    let lost = window.client.failed + window.client.dropped;
    let doubt = (lost > 0).then(|| {
        format!(
            "{} failed, {} dropped, {} answered",
            window.client.failed, window.client.dropped, window.client.replies
        )
    });
    Sample { numbers, latency: latency.take(), doubt }
}

fn bulk(bytes: u64, window: &Window) -> Vec<Number> {
    let gigabytes = bytes as f64 / 1e9;
    vec![
        Number { what: "throughput", unit: "Gbit/s", value: gigabytes * 8.0 / window.seconds },
        Number { what: "CPU of the proxies", unit: "s/GB", value: window.proxies.as_secs_f64() / gigabytes },
        Number { what: "CPU of the machine", unit: "s/GB", value: window.machine.as_secs_f64() / gigabytes },
    ]
}

fn rate(window: &Window) -> Vec<Number> {
    vec![Number { what: "rate", unit: "/s", value: window.client.replies as f64 / window.seconds }]
}

fn costs(window: &Window) -> Vec<Number> {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / window.client.replies as f64;
    vec![
        Number { what: "CPU of the proxies", unit: "us each", value: each(window.proxies) },
        Number { what: "CPU of the machine", unit: "us each", value: each(window.machine) },
    ]
}

fn percentiles(latency: &Histogram, which: &[u32]) -> Vec<Number> {
    let one = |which: &u32| {
        let (what, share) = match which {
            50 => ("p50", 0.5),
            99 => ("p99", 0.99),
            _ => ("p99.9", 0.999),
        };
        Number { what, unit: "us", value: latency.percentile(share) as f64 / 1e3 }
    };
    which.iter().map(one).collect()
}

/// How the last part's p99 compares with the first's.
fn flatness(parts: &[&Buckets]) -> f64 {
    let p99 = |part: Option<&&Buckets>| {
        let mut histogram = Histogram::default();
        part.into_iter().for_each(|part| histogram.merge(part));
        histogram.percentile(0.99) as f64
    };
    p99(parts.last()) / p99(parts.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, bytes: u64, replies: u64, micros: &[u64]) -> Look {
        let mut latency = Histogram::default();
        micros.iter().for_each(|micros| latency.record(micros * 1000));
        let client = Report { at: at * 1_000_000_000, replies, latency: latency.take(), ..Report::default() };
        let server = Report { read: bytes, ..Report::default() };
        Look { client, server, proxies: proc::Spent::default(), machine: Duration::from_secs(at) }
    }

    fn value(sample: &Sample, what: &str) -> f64 {
        sample.numbers.iter().find(|number| number.what == what).map_or(f64::NAN, |number| number.value)
    }

    #[test]
    fn bulk_is_what_the_reader_read_in_the_window() {
        let measure = Measure { route: Route::Cross, job: Job::Up(1), quick: true };
        let sample = sample(&measure, &[look(1, 500, 0, &[]), look(3, 2_000_000_500, 0, &[])]);
        assert_eq!(value(&sample, "throughput"), 8.0);
        assert_eq!(value(&sample, "CPU of the machine"), 1.0);
    }

    #[test]
    fn requests_before_the_window_do_not_count() {
        let measure = Measure { route: Route::Same, job: Job::Requests(64), quick: true };
        let sample = sample(&measure, &[look(0, 0, 10, &[1_000_000]), look(2, 0, 30, &[100, 100, 120])]);
        assert_eq!(value(&sample, "rate"), 10.0);
        assert_eq!(value(&sample, "CPU of the machine"), 100_000.0);
        assert!((value(&sample, "p99") - 120.0).abs() < 1.2);
    }

    #[test]
    fn a_rate_that_gets_slower_shows() {
        let measure = Measure { route: Route::Same, job: Job::ConnectsPaced(600), quick: false };
        let looks = [look(0, 0, 0, &[]), look(1, 0, 1, &[100]), look(2, 0, 2, &[150]), look(3, 0, 3, &[300])];
        let flat = value(&sample(&measure, &looks), "p99 at the end / at the begin");
        assert!((flat - 3.0).abs() < 0.1, "{flat}");
    }
}
