//! Jobs: pods until enough have succeeded, or too many have failed.
//!
//! In: the board. Out: pods to make or delete, and the jobs' status.
//! Absent on purpose: indexed completion, pod failure policies, CronJobs, back-off between retries.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt as _;

use super::{
    action::{Action, Kind},
    board::Board,
    pods::{from_template, is_active, is_controlled_by, is_ready, phase},
};

/// What to do about every Job.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    board.jobs.live().flat_map(|job| plan_one(board, job, now)).collect()
}

/// How the pods of a job stand.
struct Tally {
    active: Vec<String>,
    ready: i32,
    succeeded: i32,
    failed: i32,
}

fn plan_one(board: &Board, job: &Job, now: Timestamp) -> Vec<Action> {
    let Some(spec) = &job.spec else { return Vec::new() };
    if is_over(job) {
        return Vec::new();
    }
    let uid = job.metadata.uid.as_deref();
    let pods: Vec<&Pod> = board.pods.all().filter(|pod| is_controlled_by(&pod.metadata, uid)).collect();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let active: Vec<&Pod> = pods.iter().copied().filter(|pod| is_active(pod)).collect();
    let tally = Tally {
        active: active.iter().map(|pod| pod.name_any()).collect(),
        ready: count(&|pod| is_active(pod) && is_ready(pod)),
        succeeded: count(&|pod| phase(pod) == "Succeeded"),
        failed: count(&|pod| phase(pod) == "Failed"),
    };
    let end = end(spec, &tally);
    let mut actions = Vec::new();
    if end.is_none() && spec.suspend != Some(true) {
        let missing = missing(spec, &tally);
        actions.extend((0..missing).map(|_| Action::create(Kind::Pod, &new_pod(spec, job))));
    } else {
        actions.extend(active.into_iter().map(|pod| Action::delete(Kind::Pod, pod)));
    }
    let status = status(job, &tally, end, now);
    if job.status.as_ref() != Some(&status) {
        actions.push(Action::status(Kind::Job, job, &status));
    }
    actions
}

/// How a job ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    TooManyFailures,
}

fn end(spec: &JobSpec, tally: &Tally) -> Option<End> {
    let done = match spec.completions {
        Some(wanted) => tally.succeeded >= wanted,
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    if done {
        Some(End::Complete)
    } else if tally.failed > spec.backoff_limit.unwrap_or(6) {
        Some(End::TooManyFailures)
    } else {
        None
    }
}

fn missing(spec: &JobSpec, tally: &Tally) -> i32 {
    let parallel = spec.parallelism.unwrap_or(1).max(0);
    let active = i32::try_from(tally.active.len()).unwrap_or(i32::MAX);
    let left = match spec.completions {
        Some(wanted) => (wanted - tally.succeeded).max(0),
        // A work queue: the first success says that there is no more to do.
        None if tally.succeeded > 0 => 0,
        None => parallel,
    };
    (parallel.min(left) - active).max(0)
}

fn new_pod(spec: &JobSpec, job: &Job) -> Pod {
    let mut pod = from_template(&spec.template, job);
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    pod.metadata.labels.get_or_insert_default().extend([
        ("job-name".to_owned(), name.clone()),
        ("batch.kubernetes.io/job-name".to_owned(), name),
        ("batch.kubernetes.io/controller-uid".to_owned(), uid.clone()),
        ("controller-uid".to_owned(), uid),
    ]);
    pod
}

fn is_over(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")
}

fn status(job: &Job, tally: &Tally, end: Option<End>, now: Timestamp) -> JobStatus {
    let held = job.status.clone().unwrap_or_default();
    let over = |type_: &str, reason: &str| {
        vec![JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            last_probe_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
            ..JobCondition::default()
        }]
    };
    JobStatus {
        active: Some(i32::try_from(tally.active.len()).unwrap_or(i32::MAX)),
        ready: Some(tally.ready),
        succeeded: Some(tally.succeeded),
        failed: Some(tally.failed),
        start_time: held.start_time.clone().or(Some(Time(now))),
        completion_time: matches!(end, Some(End::Complete)).then_some(Time(now)),
        conditions: match end {
            Some(End::Complete) => Some(over("Complete", "CompletionsReached")),
            Some(End::TooManyFailures) => Some(over("Failed", "BackoffLimitExceeded")),
            None => held.conditions.clone(),
        },
        ..held
    }
}
