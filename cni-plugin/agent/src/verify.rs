//! `lateen-cni-agent verify`: the rules in pods against the rules they should have.
//!
//! In: the ledger of the agent that runs beside us, the node's pods as Kubernetes has them. Out: one line for each enrolled
//! pod, and the rules themselves where they differ. Absent on purpose: mending, which is the agent's.

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use lateen_cluster::{
    client::{Access, ClientError, connect},
    store::Key,
};
use lateen_net::{netns::Netns, nft};
use lateen_rt::deadline::{Elapsed, within};
use lateen_types::name::PodUid;

use crate::{
    config::Config,
    decide::Stage,
    ledger::{Held, Ledger},
    pods::PodView,
    rules::{
        apply::{Comparer, Found},
        overrides::pod_options,
        plan::{self, PodRules},
    },
};

const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For a person.
    pub text: String,
    /// Whether everything is as it should be.
    pub fine: bool,
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The Kubernetes API.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It refused.
    #[error("listing the node's pods: {0}")]
    List(#[source] Box<kube::Error>),
    /// It does not answer.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
}

/// Looks at every pod that the agent of this node has enrolled.
pub async fn run(config: &Config) -> Result<Report, VerifyError> {
    let client = connect(&Access::Inferred).await?;
    let api: Api<Pod> = Api::all(client);
    let of_node = ListParams::default().fields(&format!("spec.nodeName={}", config.node));
    let listed = within("listing the node's pods", LIST_TIMEOUT, api.list(&of_node)).await?;
    let pods = listed.map_err(|error| VerifyError::List(Box::new(error)))?;
    let pods: HashMap<PodUid, PodView> =
        pods.iter().filter_map(PodView::of).map(|pod| (pod.uid.clone(), pod)).collect();
    let comparer = Comparer::default();
    let mut report = Report { text: String::new(), fine: true };
    for held in Ledger::load(&config.run_dir).all().iter().filter(|held| held.entry.stage > Stage::Known) {
        let finding = match pods.get(&held.entry.pod_uid()) {
            Some(pod) => look(config, &comparer, held, pod).await,
            None => Finding::Ended,
        };
        report.add(&held.entry.key(), &finding);
    }
    if report.text.is_empty() {
        report.text.push_str("no pod of this node is in the mesh\n");
    }
    Ok(report)
}

/// What became of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// As intended.
    Same,
    /// Other rules, or none.
    Differs { live: String, intended: String },
    /// The pod is gone; its entry goes when the agent hears of it.
    Ended,
    /// It could not be looked at.
    Unknown(String),
}

async fn look(config: &Config, comparer: &Comparer, held: &Held, pod: &PodView) -> Finding {
    let Some(netns) = held.netns.clone().or_else(|| held.entry.reopen()) else {
        return Finding::Unknown("its network namespace cannot be opened".into());
    };
    let rules = match pod_options(&config.pods, &pod.annotations) {
        Ok(options) => plan::plan(&options),
        Err(error) => return Finding::Unknown(error.to_string()),
    };
    match comparer.compare(&netns, &rules).await {
        Ok(Found::Same) => Finding::Same,
        Ok(Found::Different | Found::Nothing) => differs(&netns, rules).await,
        Err(error) => Finding::Unknown(error.to_string()),
    }
}

async fn differs(netns: &Netns, rules: PodRules) -> Finding {
    match nft::list(netns, plan::TABLE).await {
        Ok(live) => Finding::Differs { live: live.unwrap_or_default(), intended: rules.nft },
        Err(error) => Finding::Unknown(error.to_string()),
    }
}

impl Report {
    fn add(&mut self, key: &Key, finding: &Finding) {
        let text = &mut self.text;
        let _ = match finding {
            Finding::Same => writeln!(text, "{key}: as intended"),
            Finding::Ended => writeln!(text, "{key}: has ended"),
            Finding::Unknown(reason) => writeln!(text, "{key}: UNKNOWN: {reason}"),
            Finding::Differs { live, intended } if live.is_empty() => {
                writeln!(text, "{key}: NO RULES; intended:\n{intended}")
            }
            Finding::Differs { live, intended } => {
                writeln!(text, "{key}: DIFFERENT; in the pod:\n{live}\nintended:\n{intended}")
            }
        };
        self.fine &= matches!(finding, Finding::Same | Finding::Ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_or_is_unknown_is_not_fine() {
        for (finding, word, fine) in [
            (Finding::Same, "shop/web: as intended", true),
            (Finding::Ended, "has ended", true),
            (Finding::Unknown("nft failed".into()), "UNKNOWN: nft failed", false),
            (Finding::Differs { live: String::new(), intended: "table".into() }, "NO RULES", false),
            (
                Finding::Differs { live: "old".into(), intended: "new".into() },
                "in the pod:\nold\nintended:\nnew",
                false,
            ),
        ] {
            let mut report = Report { text: String::new(), fine: true };
            report.add(&Key::new("shop", "web"), &finding);
            assert!(report.text.contains(word), "{}", report.text);
            assert_eq!(report.fine, fine, "{finding:?}");
        }
    }
}
