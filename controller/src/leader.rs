//! Which of several controllers writes to the cluster; all of them serve.
//!
//! In: a Lease, time. Out: whether this process leads. It is given back at a clean end, so that nobody waits.
//! Another's lease counts as run out only after nothing changed in it for its whole length by our own clock: clocks of
//! different machines are never compared.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use lateen_rt::{deadline::within, drain::Drain};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// How long a leader that says nothing leads. What waits for a leader are statuses and addresses, never traffic.
const LENGTH: Duration = Duration::from_secs(15);
/// Who could not renew for so long no longer leads; sooner than others may take over.
const RENEW_TIMEOUT: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(2);
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process leads.
pub type Leading = watch::Receiver<bool>;

/// Takes part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    leading: watch::Sender<bool>,
    seen: Option<Seen>,
    renewed: Option<Instant>,
}

/// Another's lease as it was when it last changed.
struct Seen {
    spec: LeaseSpec,
    at: Instant,
}

/// What is to be done about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    /// It was another's or nobody's.
    Take,
    Renew,
    Wait,
}

/// The name of the Lease of a revision.
pub fn lease_name(revision: &str) -> String {
    match revision {
        "" | "default" => "lateen-leader".to_owned(),
        revision => format!("lateen-leader-{revision}"),
    }
}

impl Election {
    /// A member called `identity`, which no other living process is called.
    pub fn new(client: Client, namespace: &str, name: String, identity: String) -> (Self, Leading) {
        let (leading, watched) = watch::channel(false);
        let api = Api::namespaced(client, namespace);
        (Self { api, name, identity, leading, seen: None, renewed: None }, watched)
    }

    /// Takes part until `drain` begins, then gives the lease back.
    pub async fn run(mut self, drain: Drain) {
        loop {
            // A round that is dropped was at most written; the next one reads again.
            tokio::select! {
                round = within("the election", API_TIMEOUT, self.round()) => match round {
                    Ok(Ok(leads)) => self.lead(leads),
                    Ok(Err(error)) => self.failed(&error.to_string()),
                    Err(late) => self.failed(&late.to_string()),
                },
                () = drain.draining() => break,
            }
            tokio::select! {
                () = sleep(EVERY) => {}
                () = drain.draining() => break,
            }
        }
        if *self.leading.borrow() {
            self.lead(false);
            // Others wait for it to run out if this fails.
            let _given_back = within("giving the lease back", API_TIMEOUT, self.give_back()).await;
        }
    }

    fn lead(&self, leads: bool) {
        let changed = self.leading.send_if_modified(|leading| std::mem::replace(leading, leads) != leads);
        if changed {
            tracing::info!(identity = self.identity, leads, "leadership of the controllers");
        }
    }

    fn failed(&self, reason: &str) {
        tracing::debug!(reason, "a round of the election failed");
        if self.renewed.is_none_or(|renewed| renewed.elapsed() > RENEW_TIMEOUT) {
            self.lead(false);
        }
    }

    /// Whether this process leads now.
    async fn round(&mut self) -> Result<bool, kube::Error> {
        let held = self.api.get_opt(&self.name).await?;
        let spec = held.as_ref().and_then(|lease| lease.spec.clone());
        let unchanged = self.unchanged_for(spec.as_ref());
        let act = if held.is_none() { Act::Create } else { decide(spec.as_ref(), &self.identity, unchanged) };
        let params = PostParams::default();
        let written = match act {
            Act::Wait => return Ok(false),
            Act::Create => self.api.create(&params, &self.lease(ObjectMeta::default(), None)).await,
            Act::Take | Act::Renew => {
                let lease = held.unwrap_or_default();
                let renewing = spec.filter(|_| act == Act::Renew);
                // The version read makes sure that nobody came between.
                let meta = ObjectMeta { resource_version: lease.metadata.resource_version, ..ObjectMeta::default() };
                self.api.replace(&self.name, &params, &self.lease(meta, renewing)).await
            }
        };
        match written {
            Ok(_) => {
                self.renewed = Some(Instant::now());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unchanged_for(&mut self, spec: Option<&LeaseSpec>) -> Duration {
        match (&self.seen, spec) {
            (Some(seen), Some(spec)) if seen.spec == *spec => seen.at.elapsed(),
            (_, spec) => {
                self.seen = spec.map(|spec| Seen { spec: spec.clone(), at: Instant::now() });
                Duration::ZERO
            }
        }
    }

    fn lease(&self, metadata: ObjectMeta, renewing: Option<LeaseSpec>) -> Lease {
        let now = || Some(MicroTime(jiff::Timestamp::now()));
        let before = renewing.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LENGTH.as_secs()).ok(),
            acquire_time: before.acquire_time.or_else(now),
            renew_time: now(),
            lease_transitions: before.lease_transitions,
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..metadata };
        Lease { metadata, spec: Some(spec) }
    }

    async fn give_back(&self) -> Result<(), kube::Error> {
        let mut lease = self.api.get(&self.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
    }
}

fn decide(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Act {
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    let length = seconds.map_or(LENGTH, Duration::from_secs);
    match holder {
        "" => Act::Take,
        holder if holder == me => Act::Renew,
        _ if unchanged >= length => Act::Take,
        _ => Act::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_has_run_out() {
        let held = |holder: Option<&str>, seconds| LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        let check = |spec: Option<&LeaseSpec>, unchanged: u64, act: Act| {
            assert_eq!(decide(spec, "me", Duration::from_secs(unchanged)), act, "{spec:?} {unchanged}");
        };
        check(None, 0, Act::Take);
        check(Some(&held(None, None)), 0, Act::Take);
        check(Some(&held(Some(""), Some(15))), 0, Act::Take);
        check(Some(&held(Some("me"), Some(15))), 100, Act::Renew);
        check(Some(&held(Some("other"), Some(30))), 29, Act::Wait);
        check(Some(&held(Some("other"), Some(30))), 30, Act::Take);
        check(Some(&held(Some("other"), None)), 14, Act::Wait);
        check(Some(&held(Some("other"), None)), 15, Act::Take);
    }
}
