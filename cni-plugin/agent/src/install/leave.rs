//! Whether an agent that is told to stop is being replaced or removed.
//!
//! In: what Kubernetes says of our DaemonSet. Out: stay or go. Staying means that new pods on the node wait for the next
//! agent; going takes the plugin away, so that pods start without it. So going needs a clear word.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use lateen_rt::deadline::within;

/// Our DaemonSet, as Istio's is called.
pub const DAEMON_SET: &str = "istio-cni-node";
const TRIES: u32 = 3;
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(300);

/// What to do with the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next agent comes: everything stays where it is.
    Stay,
    /// The mesh is being removed.
    Go,
    /// Nobody knows.
    Unknown,
}

/// Asks a few times. Who cannot be asked decides nothing: then everything stays.
pub async fn verdict(client: Client, namespace: &str) -> Verdict {
    let api: Api<DaemonSet> = Api::namespaced(client, namespace);
    for _ in 0..TRIES {
        if let Ok(answer) = within("reading our DaemonSet", TRY_TIMEOUT, api.get_opt(DAEMON_SET)).await {
            let verdict = judge(&answer);
            if verdict != Verdict::Unknown {
                return verdict;
            }
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    Verdict::Unknown
}

/// What an answer means.
fn judge(answer: &Result<Option<DaemonSet>, kube::Error>) -> Verdict {
    match answer {
        Ok(Some(ours)) if ours.metadata.deletion_timestamp.is_none() => Verdict::Stay,
        Ok(Some(_) | None) => Verdict::Go,
        // Our account or its rights went first, as they do when a release is uninstalled.
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Verdict::Go,
        Err(_) => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> Result<Option<DaemonSet>, kube::Error> {
        Err(kube::Error::Api(Box::new(Status { code, ..Status::default() })))
    }

    #[test]
    fn only_a_clear_word_takes_the_plugin_away() {
        let mut ending = DaemonSet::default();
        assert_eq!(judge(&Ok(Some(ending.clone()))), Verdict::Stay);
        ending.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(judge(&Ok(Some(ending))), Verdict::Go);
        assert_eq!(judge(&Ok(None)), Verdict::Go);
        for (code, verdict) in [
            (401, Verdict::Go),
            (403, Verdict::Go),
            (429, Verdict::Unknown),
            (500, Verdict::Unknown),
            (503, Verdict::Unknown),
        ] {
            assert_eq!(judge(&refused(code)), verdict, "{code}");
        }
    }
}
