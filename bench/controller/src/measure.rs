//! Measures one controller: how soon it is ready, how soon all proxies have all, what changes cost.
//!
//! In: a program, a filled cluster, tokens. Out: a [`Column`].

use std::{path::Path, sync::Arc, sync::atomic::Ordering, time::Duration};

use lateen_load::histogram::Histogram;
use lateen_rt::deadline::within;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    churn::{Churn, Done},
    config::{Ask, Run, Subject},
    crowd::Size,
    deliveries::{Deliveries, Heard},
    proc::{Memory, cpu_seconds},
    program::{Program, Start, roots},
    proxy::{Counts, Proxy},
    rest::Rest,
    results::{Churned, Column, Phase, Times},
};

/// For all proxies to have all.
const FULL_TIMEOUT: Duration = Duration::from_secs(200);
/// For the last acknowledgements.
const HEARD_TIMEOUT: Duration = Duration::from_secs(60);
/// Between the first pictures and the churn, so that the one's leftovers are not the other's.
const REST: Duration = Duration::from_secs(2);

/// What all columns share.
pub(crate) struct Bed<'a> {
    pub asked: &'a Run,
    pub rest: Rest,
    pub kubeconfig: &'a Path,
    pub directory: &'a Path,
    pub tokens: Vec<String>,
    pub api: u32,
}

/// The crowd of proxies; dropping it ends them.
struct Crowd {
    counts: Arc<Counts>,
    heard: Vec<Arc<Mutex<Heard>>>,
    running: tokio::task::JoinSet<()>,
}

/// Measures one program, asked one way.
pub(crate) async fn measure(
    bed: &Bed<'_>,
    churn: &mut Churn,
    (subject, ask): (&Subject, Ask),
) -> anyhow::Result<Column> {
    let log =
        bed.asked.logs.as_ref().map(|logs| logs.join(format!("{}.{}.log", subject.name, ask.word().replace(' ', "-"))));
    let start = Start { subject, kubeconfig: bed.kubeconfig, directory: bed.directory, log };
    let program = Program::start(&start).await?;
    let ready = phase(program.pid, (program.ready_after, 0.0))?;
    println!("{} ({}): ready after {:.2} s", subject.name, ask.word(), ready.seconds);
    let build = subject.path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let mut column =
        Column { program: subject.name.clone(), build, ask: ask.word().to_owned(), ready, ..Column::default() };
    let changes = bed.asked.changes();
    let size = bed.asked.size();
    let proxies = size.nodes as f64;
    let (left, came) = churn.next(changes);
    let concerned = size.interests(&(left.start..came.end)).proxies;
    let concerns = |pod: usize| match ask {
        Ask::All => u32::try_from(size.nodes).unwrap_or(u32::MAX),
        Ask::OnDemand => concerned[pod - left.start],
    };
    let deliveries = Arc::new(Deliveries::new((left.clone(), came), concerns));
    let (began, spent) = (Instant::now(), cpu_seconds(program.pid)?);
    let crowd = Crowd::connect(bed, (&program, ask), (&*churn, &deliveries)).await?;
    crowd.until_full(size.nodes).await?;
    column.full = phase(program.pid, (began.elapsed(), spent))?;
    println!("  all {} proxies have all after {:.2} s", size.nodes, column.full.seconds);
    sleep(REST).await;
    let counts = &crowd.counts;
    column.full_resources = counts.resources.load(Ordering::Relaxed) as f64 / proxies;
    column.full_bytes = counts.bytes.load(Ordering::Relaxed) as f64 / proxies;
    column.churn = crowd.under_churn(bed, (&program, churn), &deliveries).await?;
    (column.failed_streams, column.failure) = counts.failed.lock().clone();
    drop(crowd);
    program.end().await?;
    Ok(column)
}

/// From `spent` CPU seconds to now.
fn phase(pid: u32, (took, spent): (Duration, f64)) -> anyhow::Result<Phase> {
    Ok(Phase { seconds: took.as_secs_f64(), cpu_seconds: cpu_seconds(pid)? - spent, memory: Memory::of(pid)? })
}

impl Crowd {
    async fn connect(
        bed: &Bed<'_>,
        (program, ask): (&Program, Ask),
        (churn, deliveries): (&Churn, &Arc<Deliveries>),
    ) -> anyhow::Result<Self> {
        let roots = roots(&bed.rest).await?;
        let (size, there) = (bed.asked.size(), churn.there());
        let interests = size.interests(&there).pods;
        let mut crowd = Self { counts: Arc::default(), heard: Vec::new(), running: tokio::task::JoinSet::new() };
        for (node, token) in bed.tokens.iter().enumerate() {
            let heard = Arc::new(Mutex::new(deliveries.nothing()));
            crowd.heard.push(heard.clone());
            let used = size.used_by(node);
            let wanted = wanted(ask, &size, (there.len(), used.len(), interests[node]));
            let proxy = Proxy {
                node,
                port: program.secure,
                roots: roots.clone(),
                token: token.clone(),
                ask,
                used,
                wanted,
                counts: crowd.counts.clone(),
                deliveries: deliveries.clone(),
                heard,
            };
            crowd.running.spawn(proxy.run());
        }
        Ok(crowd)
    }

    async fn until_full(&self, nodes: usize) -> anyhow::Result<()> {
        let mut full = self.counts.full.subscribe();
        let waited = timeout(FULL_TIMEOUT, full.wait_for(|full| *full >= nodes)).await;
        if waited.is_err() {
            let (failed, why) = self.counts.failed.lock().clone();
            let full = *self.counts.full.borrow();
            anyhow::bail!("{full} of {nodes} proxies had all after {FULL_TIMEOUT:?}; {failed} streams failed: {why}");
        }
        Ok(())
    }

    async fn under_churn(
        &self,
        bed: &Bed<'_>,
        (program, churn): (&Program, &mut Churn),
        deliveries: &Arc<Deliveries>,
    ) -> anyhow::Result<Churned> {
        let spent = || -> anyhow::Result<[f64; 3]> {
            Ok([cpu_seconds(program.pid)?, cpu_seconds(bed.api)?, cpu_seconds(std::process::id())?])
        };
        let counted = || {
            [&self.counts.responses, &self.counts.resources, &self.counts.bytes].map(|it| it.load(Ordering::Relaxed))
        };
        let batches = program.counter("pilot_xds_pushes").await;
        let (before, counted_before, began) = (spent()?, counted(), Instant::now());
        let done: Done = churn.run(bed.asked.changes(), bed.asked.churn, deliveries).await?;
        let all_heard = async {
            while deliveries.progress().0 < deliveries.progress().1 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        // What is missing then is counted, and said.
        let _late = within("the last acknowledgements", HEARD_TIMEOUT, all_heard).await;
        let (after, counted_after) = (spent()?, counted());
        let (heard, expected) = deliveries.progress();
        let batches_after = program.counter("pilot_xds_pushes").await;
        Ok(Churned {
            changes: done.changes,
            asked_rate: bed.asked.churn,
            rate: done.changes as f64 / done.took.as_secs_f64(),
            phase: phase(program.pid, (began.elapsed(), before[0]))?,
            api_cpu_seconds: after[1] - before[1],
            proxies_cpu_seconds: after[2] - before[2],
            batches: batches_after.zip(batches).map(|(after, before)| after - before),
            responses: counted_after[0] - counted_before[0],
            resources: counted_after[1] - counted_before[1],
            bytes: counted_after[2] - counted_before[2],
            expected,
            heard,
            to_one: self.to_one(),
            to_all: times(&deliveries.to_the_last()),
        })
    }

    fn to_one(&self) -> Times {
        let mut all = Histogram::default();
        self.heard.iter().for_each(|one| all.merge(&one.lock().times.take()));
        times(&all)
    }
}

/// How many resources are all there are for a proxy. (The cluster's own service comes on top.)
fn wanted(ask: Ask, size: &Size, (pods, used, of_interest): (usize, usize, usize)) -> usize {
    match ask {
        Ask::All => pods + size.nodes + size.services,
        // Its own pod, the services it uses, and the pods of these and of its node.
        Ask::OnDemand => 1 + used + of_interest,
    }
}

fn times(histogram: &Histogram) -> Times {
    let milliseconds = |share: f64| histogram.percentile(share) as f64 / 1e6;
    Times { p50: milliseconds(0.5), p99: milliseconds(0.99), p999: milliseconds(0.999) }
}
