//! Controllers tell the one that leads what their proxies hold, so that it tells authors of all proxies.
//!
//! ```text
//! follower: own report ──► its key of the ConfigMap lateen-enforcement ──► leader: reports of the others
//! ```
//! In: own counts, who leads. Out: others' reports, for `Enforcement`. A report that did not change for [`STALE`] by our
//! own clock is of a controller that is gone. One controller alone writes nothing.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use lateen_rt::deadline::within;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Enforcement, report::Report};
use crate::leader::Leading;

const EVERY: Duration = Duration::from_secs(2);
/// A report is written again after this although nothing changed.
const BEAT: Duration = Duration::from_secs(20);
const STALE: Duration = Duration::from_secs(60);
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// An object of the API is at most a MiB; several controllers share this one.
const REPORT_BYTES_MAX: usize = 200 << 10;

/// Shares what is counted.
pub struct Sharing {
    /// The API.
    pub client: Client,
    /// The controllers' namespace.
    pub namespace: String,
    /// The ConfigMap.
    pub name: String,
    /// This process, by its pod's name.
    pub identity: String,
    /// Who leads.
    pub leading: Leading,
    /// What is counted.
    pub enforcement: Enforcement,
}

/// The name of the ConfigMap of a revision.
pub fn config_map(revision: &str) -> String {
    match revision {
        "" | "default" => "lateen-enforcement".to_owned(),
        revision => format!("lateen-enforcement-{revision}"),
    }
}

impl Sharing {
    /// For ever.
    pub async fn run(self) {
        let mut written = Written::default();
        let mut seen = Seen::default();
        loop {
            let leads = *self.leading.borrow();
            let round = if leads { self.read(&mut seen).await } else { self.write(&mut written).await };
            if let Err(reason) = round {
                tracing::debug!(reason, leads, "sharing what proxies hold failed; trying again");
            }
            sleep(EVERY).await;
        }
    }

    /// Follows: writes the own report, if it is news or time.
    async fn write(&self, written: &mut Written) -> Result<(), String> {
        // Who does not lead tells authors nothing.
        self.enforcement.others(None);
        let text = bounded(self.enforcement.report());
        let now = Instant::now();
        if !written.is_due(&text, now) {
            return Ok(());
        }
        // The beat makes the same report a change.
        let value = json!({"beat": jiff::Timestamp::now().as_second(), "report": text}).to_string();
        self.patch(Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "data": {self.identity.as_str(): value},
        })))
        .await?;
        *written = Written { text, at: Some(now) };
        Ok(())
    }

    /// Leads: reads the others' reports, and removes what is left of those that are gone.
    async fn read(&self, seen: &mut Seen) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = within("reading reports", API_TIMEOUT, api.get_opt(&self.name)).await;
        let found = found.map_err(|late| late.to_string())?.map_err(|error| error.to_string())?;
        let data = found.and_then(|map| map.data).unwrap_or_default();
        let (fresh, stale) = seen.sort(data, &self.identity, Instant::now());
        self.enforcement.others(Some(fresh));
        if stale.is_empty() {
            return Ok(());
        }
        let gone: BTreeMap<String, Value> = stale.into_iter().map(|key| (key, Value::Null)).collect();
        self.patch(Patch::Merge(json!({ "data": gone }))).await
    }

    async fn patch(&self, patch: Patch<Value>) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        // Each controller owns its own key.
        let mut params = PatchParams::apply(&format!("lateen-enforcement-{}", self.identity));
        params.force = matches!(patch, Patch::Apply(_));
        let written = within("writing a report", API_TIMEOUT, api.patch(&self.name, &params, &patch)).await;
        written.map_err(|late| late.to_string())?.map_err(|error| error.to_string()).map(drop)
    }
}

/// The report as text; of one that is too long only who is connected, so that its proxies count as not holding.
fn bounded(report: Report) -> String {
    let text = |report: &Report| serde_json::to_string(report).unwrap_or_default();
    let whole = text(&report);
    if whole.len() <= REPORT_BYTES_MAX {
        return whole;
    }
    tracing::warn!(bytes = whole.len(), "the report of what proxies hold is too long: the leader is told of none");
    text(&Report { policies: BTreeMap::new(), ..report })
}

#[derive(Default)]
struct Written {
    text: String,
    at: Option<Instant>,
}

impl Written {
    fn is_due(&self, text: &str, now: Instant) -> bool {
        self.text != text || self.at.is_none_or(|at| now.duration_since(at) >= BEAT)
    }
}

/// Others' reports with when they last changed.
#[derive(Default)]
struct Seen(BTreeMap<String, (String, Instant)>);

impl Seen {
    /// The reports that count now, and the keys of those that are of nobody any more.
    fn sort(&mut self, data: BTreeMap<String, String>, me: &str, now: Instant) -> (Vec<Report>, Vec<String>) {
        self.0.retain(|key, _| data.contains_key(key));
        let (mut fresh, mut stale) = (Vec::new(), Vec::new());
        for (key, value) in data {
            if key == me {
                stale.push(key);
                continue;
            }
            let (held, at) = self.0.entry(key.clone()).or_insert_with(|| (value.clone(), now));
            if *held != value {
                (*held, *at) = (value, now);
            }
            if now.duration_since(*at) >= STALE {
                stale.push(key);
            } else {
                fresh.push(read(key, held));
            }
        }
        (fresh, stale)
    }
}

/// One report. What cannot be read is of a controller of which nothing is known but that it is there.
fn read(from: String, value: &str) -> Report {
    let outer: Option<Value> = serde_json::from_str(value).ok();
    let inner = outer.as_ref().and_then(|outer| outer["report"].as_str());
    match inner.and_then(|text| serde_json::from_str::<Report>(text).ok()) {
        Some(report) => Report { from, ..report },
        None => Report { from, connected: 1, policies: BTreeMap::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(connected: usize, beat: u32) -> String {
        let report = Report { connected, ..Report::default() };
        json!({"beat": beat, "report": bounded(report)}).to_string()
    }

    #[test]
    fn a_report_counts_while_its_controller_lives() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let data = |beat| BTreeMap::from([("me".to_owned(), value(9, 0)), ("c2".to_owned(), value(3, beat))]);
        let mut at = |beat, seconds| seen.sort(data(beat), "me", start + Duration::from_secs(seconds));
        let (fresh, stale) = at(1, 0);
        assert_eq!((fresh.len(), fresh[0].connected, fresh[0].from.as_str()), (1, 3, "c2"));
        assert_eq!(stale, ["me"], "what this process wrote before it led");
        assert_eq!(at(1, 59).0.len(), 1);
        assert_eq!(at(2, 61).0.len(), 1, "it beat");
        let (fresh, stale) = at(2, 121);
        assert!(fresh.is_empty() && stale.contains(&"c2".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_holds_nothing() {
        let report = read("c2".to_owned(), "no JSON");
        assert_eq!((report.connected, report.policies.len()), (1, 0));
    }

    #[test]
    fn a_report_that_is_too_long_says_who_is_connected() {
        let line = super::super::report::Line { waiting: vec!["z".repeat(1 << 10)], ..Default::default() };
        let policies = (0..300).map(|number| (number.to_string(), line.clone())).collect();
        let text = bounded(Report { from: String::new(), connected: 4, policies });
        assert_eq!(text, r#"{"connected":4,"policies":{}}"#);
    }
}
