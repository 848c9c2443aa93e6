//! Which endpoint of a cluster.

use lateen_cluster::api::{ConsistentHash, LoadBalancer, LocalitySetting};
use lateen_wire::proxy::{self as wire, consistent_hash, load_balancer, locality};

use super::{Blocks, on_wire};
use crate::{
    derive::backend::Backend,
    facts::{DestinationRule, Distribution},
};

const RING_MIN: u64 = 1024;
const MAGLEV_SIZE: u64 = 65537;
/// Of a new endpoint's share, in percent.
const WARMUP_PERCENT: f64 = 10.0;

pub(super) fn derive(backend: &Backend, blocks: &Blocks<'_>) -> wire::LoadBalancer {
    let asked = blocks.load_balancer;
    let hash = asked.and_then(|asked| asked.consistent_hash.as_ref()).and_then(hash);
    let simple = asked.and_then(|asked| asked.simple.as_deref()).map_or(Simple::LeastRequest, simple);
    let ramps = hash.is_none() && matches!(simple, Simple::LeastRequest | Simple::RoundRobin);
    wire::LoadBalancer {
        kind: Some(hash.map_or(load_balancer::Kind::Simple(simple.into()), load_balancer::Kind::Hash)),
        locality: locality(backend, blocks).map(|mode| wire::Locality { mode: Some(mode) }),
        warmup: asked.filter(|_| ramps).and_then(warmup),
    }
}

use load_balancer::Simple;

fn simple(word: &str) -> Simple {
    match word {
        "ROUND_ROBIN" => Simple::RoundRobin,
        "RANDOM" => Simple::Random,
        "PASSTHROUGH" => Simple::Passthrough,
        _ => Simple::LeastRequest,
    }
}

fn hash(asked: &ConsistentHash) -> Option<wire::ConsistentHash> {
    let key = if let Some(header) = &asked.http_header_name {
        consistent_hash::Key::Header(header.to_ascii_lowercase())
    } else if let Some(cookie) = &asked.http_cookie {
        let attributes = cookie.attributes.iter().map(|one| wire::Header {
            name: one.name.clone(),
            value: one.value.clone(),
            literal: true,
        });
        consistent_hash::Key::Cookie(consistent_hash::Cookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            ttl: cookie.ttl.map(|ttl| on_wire(ttl.0)),
            attributes: attributes.collect(),
        })
    } else if asked.use_source_ip == Some(true) {
        consistent_hash::Key::SourceIp(true)
    } else {
        consistent_hash::Key::Query(asked.http_query_parameter_name.clone()?)
    };
    let algorithm = match &asked.maglev {
        Some(table) => consistent_hash::Algorithm::Maglev(table.table_size.unwrap_or(MAGLEV_SIZE)),
        None => {
            let size = asked.ring_hash.as_ref().and_then(|ring| ring.minimum_ring_size).or(asked.minimum_ring_size);
            consistent_hash::Algorithm::Ring(size.filter(|size| *size > 0).unwrap_or(RING_MIN))
        }
    };
    Some(wire::ConsistentHash { key: Some(key), algorithm: Some(algorithm) })
}

fn warmup(asked: &LoadBalancer) -> Option<wire::Warmup> {
    let written = asked.warmup.as_ref();
    let duration = written.and_then(|warmup| warmup.duration).or(asked.warmup_duration_secs)?;
    Some(wire::Warmup {
        duration: Some(on_wire(duration.0)),
        minimum_percent: written.and_then(|warmup| warmup.minimum_percent).unwrap_or(WARMUP_PERCENT),
        aggression: written.and_then(|warmup| warmup.aggression).unwrap_or(1.0),
    })
}

/// Fixed shares hold always; going elsewhere needs to know who fails, so without outlier detection it is not said.
/// What a service's own distribution asks for holds without it.
fn locality(backend: &Backend, blocks: &Blocks<'_>) -> Option<locality::Mode> {
    let asked = blocks.load_balancer;
    let failing = blocks.outlier_detection.is_some();
    if asked.is_some_and(|asked| asked.zone_aware_lb_setting.is_some()) {
        // A waypoint does not weigh zones against each other, as in the reference.
        return failing.then(|| locality::Mode::Failover(locality::Failover::default()));
    }
    if let Some(setting) = asked.and_then(|asked| asked.locality_lb_setting.as_ref()) {
        return written(setting, failing);
    }
    match backend.preference {
        Some(Distribution::PreferClose) => Some(priorities(&CLOSE)),
        Some(Distribution::PreferSameNode) => Some(priorities(&SAME_NODE)),
        Some(Distribution::Any) => None,
        None => failing.then(|| locality::Mode::Failover(locality::Failover::default())),
    }
}

const CLOSE: [&str; 3] = ["topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"];
const SAME_NODE: [&str; 5] = [
    "topology.istio.io/network",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/hostname",
];
/// Beside these: what proxies know of a workload without its labels.
const CLUSTER: &str = "topology.istio.io/cluster";

fn priorities(labels: &[&str]) -> locality::Mode {
    locality::Mode::Priorities(locality::Priorities { labels: labels.iter().map(|&label| label.to_owned()).collect() })
}

fn written(setting: &LocalitySetting, failing: bool) -> Option<locality::Mode> {
    if setting.enabled == Some(false) {
        return None;
    }
    if !setting.distribute.is_empty() {
        let share =
            |one: &lateen_cluster::api::Distribute| locality::Share { from: one.from.clone(), to: one.to.clone() };
        let shares = setting.distribute.iter().map(share).collect();
        return Some(locality::Mode::Distribute(locality::Distribute { shares }));
    }
    if !failing {
        return None;
    }
    if !setting.failover_priority.is_empty() {
        let labels = setting.failover_priority.clone();
        return Some(locality::Mode::Priorities(locality::Priorities { labels }));
    }
    let regions = setting.failover.iter().map(|one| (one.from.clone(), one.to.clone())).collect();
    Some(locality::Mode::Failover(locality::Failover { regions }))
}

/// The keys of the labels by which a rule chooses endpoints.
pub fn label_keys(rule: &DestinationRule) -> impl Iterator<Item = &str> {
    let spec = &rule.spec;
    let policies = spec.traffic_policy.iter().chain(spec.subsets.iter().filter_map(|one| one.traffic_policy.as_ref()));
    let balancers = policies.flat_map(|policy| {
        policy
            .load_balancer
            .iter()
            .chain(policy.port_level_settings.iter().filter_map(|one| one.load_balancer.as_ref()))
    });
    let settings = balancers.filter_map(|one| one.locality_lb_setting.as_ref());
    let written = settings.flat_map(|setting| &setting.failover_priority);
    let compared = written.map(|text| text.split_once('=').map_or(text.as_str(), |(key, _)| key));
    let compared = compared.filter(|key| *key != CLUSTER && !SAME_NODE.contains(key));
    spec.subsets.iter().flat_map(|subset| subset.labels.keys().map(String::as_str)).chain(compared)
}
