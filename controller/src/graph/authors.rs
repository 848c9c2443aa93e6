//! What authors of routes and destination rules are told.
//!
//! | condition | asks |
//! | --- | --- |
//! | `lateen.io/Accepted` | does a proxy act on it? |
//! | `lateen.io/ResolvedRefs` | is all there that it names? |
//! | `lateen.io/UnsupportedFields` | does it say something that does nothing here? |
//! | `lateen.io/Replaced` | do routes of the Gateway API count in its place? |

use std::collections::BTreeSet;

use lateen_cluster::store::Key;

use super::{
    Graph, Made, Thing,
    proxies::{Looked, taken},
    told::{Kind, Object, Reporter, Told},
    world::LABEL_KEYS_MAX,
};
use crate::{
    derive::{
        backend::{Backend, ServiceName},
        destination, host_matches, route,
        word::{Truth, Word},
    },
    facts::{DestinationRule, VirtualService},
};

/// What becomes of a virtual service.
#[derive(Default)]
struct Acting {
    /// The services that waypoints serve by it.
    services: BTreeSet<ServiceName>,
    /// What of it cannot work there.
    problems: BTreeSet<String>,
    /// Those of the services to which routes of the Gateway API are attached.
    replaced: BTreeSet<ServiceName>,
    /// The gateways that listen by it.
    gates: BTreeSet<Key>,
}

/// As much as a person reads.
const PROBLEMS_MAX: usize = 8;

impl Graph {
    /// What the author of a virtual service is told.
    pub(super) fn author_of_routes(&self, key: &Key) -> Made {
        let Some(service) = self.world.virtual_services.find(key) else {
            return Made { told: vec![gone(Kind::VirtualService, key)], ..Made::default() };
        };
        let looked = Looked::default();
        let mut acting = self.acted_on(key, service, &looked);
        let (gates, at_gates) = self.acting_at(key, service, &looked);
        acting.gates = gates;
        acting.problems.extend(at_gates);
        let mut words = vec![accepted(service, &acting)];
        let Acting { services, problems, replaced, gates } = acting;
        if !services.is_empty() || !gates.is_empty() {
            words.push(problem_word(&problems));
        }
        words.extend(unsupported(&service.unused));
        words.extend(hidden(&replaced));
        let told = Told {
            object: Object { kind: Kind::VirtualService, key: key.clone() },
            reporter: Reporter::Routes,
            generation: service.generation,
            words,
            was_said: service.has_condition,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone: false,
        };
        Made { told: vec![told], looked_at: taken(looked), ..Made::default() }
    }

    /// The services that waypoints serve by it, and what of it cannot work there.
    fn acted_on(&self, key: &Key, service: &VirtualService, looked: &Looked) -> Acting {
        let mut acting = Acting::default();
        for host in &service.spec.hosts {
            let host = self.mesh.fqdn(host, &key.namespace);
            looked.borrow_mut().insert(Thing::Bound(host.clone()));
            for (name, gateway) in self.bindings.serving(|hostname| host_matches(&host, hostname)) {
                looked.borrow_mut().insert(Thing::Bound(name.hostname.to_string()));
                let eyes = self.eyes(gateway, looked);
                let counts = eyes.chosen(name).iter().any(|(one, _)| *one == key);
                let Some(backend) = self.backend(name, looked).filter(|_| counts) else { continue };
                let mut attached = backend.ports.iter().map(|port| eyes.attached(&backend, port));
                if attached.any(|one| one.of_requests || one.of_connections) {
                    acting.replaced.insert(name.clone());
                }
                acting.services.insert(name.clone());
                acting.problems.extend(self.problems(&eyes, &backend, (key, service)));
            }
        }
        acting
    }

    fn problems(
        &self,
        eyes: &super::eyes::Eyes<'_>,
        backend: &Backend,
        (key, service): (&Key, &VirtualService),
    ) -> Vec<String> {
        let ports = backend.ports.iter().flat_map(|port| {
            let asker = eyes.asker(port.number);
            let http = route::http(asker, key, service).problems;
            let tls = route::tls(asker, key, service, Some(&backend.name.hostname)).problems;
            http.into_iter().chain(tls).chain(route::tcp(asker, key, service).problems)
        });
        ports.collect()
    }

    /// Whether a rule chooses by labels of which there are too many.
    fn too_many(&self, rule: &DestinationRule) -> Option<Word> {
        let label = destination::label_keys(rule).find(|label| !self.world.label_keys.contains(*label))?;
        let message = format!(
            "endpoints are chosen by {LABEL_KEYS_MAX} labels in the whole mesh at most, and {label} came after them: what \
             chooses by it is refused; choose by fewer labels, and restart the controller, which forgets those of old"
        );
        Some(Word { kind: RESOLVED, truth: Truth::False, reason: "TooManyLabels", message })
    }

    /// What the author of a destination rule is told.
    pub(super) fn author_of_rules(&self, key: &Key) -> Made {
        let Some(rule) = self.world.rules.find(key) else {
            return Made { told: vec![gone(Kind::DestinationRule, key)], ..Made::default() };
        };
        let looked = Looked::default();
        let host = self.mesh.fqdn(&rule.spec.host, &key.namespace);
        looked.borrow_mut().insert(Thing::Bound(host.clone()));
        let mut used = BTreeSet::new();
        for place in self.bindings.sent(|hostname| host_matches(&host, hostname)) {
            looked.borrow_mut().insert(Thing::Host(place.service.hostname.to_string()));
            let labels = self.labels_of(&place.gateway);
            let merged = self.merged((&place.gateway, &labels), &place.service);
            if merged.is_some_and(|merged| merged.rules.contains(&key)) {
                used.insert(place.service.clone());
            }
        }
        let word = match used.len() {
            0 => Word {
                kind: ACCEPTED,
                truth: Truth::False,
                reason: "NotUsed",
                message: format!("no waypoint or gateway sends to {host} by it, so nothing acts on it"),
            },
            _ => Word {
                kind: ACCEPTED,
                truth: Truth::True,
                reason: "Accepted",
                message: format!("it decides how proxies send to {}", listed(&used)),
            },
        };
        let told = Told {
            object: Object { kind: Kind::DestinationRule, key: key.clone() },
            reporter: Reporter::Routes,
            generation: rule.generation,
            words: [word].into_iter().chain(self.too_many(rule)).chain(unsupported(&rule.unused)).collect(),
            was_said: rule.has_condition,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone: false,
        };
        Made { told: vec![told], looked_at: taken(looked), ..Made::default() }
    }
}

/// The types of the conditions.
pub const ACCEPTED: &str = "lateen.io/Accepted";
pub const RESOLVED: &str = "lateen.io/ResolvedRefs";
pub const UNSUPPORTED: &str = "lateen.io/UnsupportedFields";
pub const REPLACED: &str = "lateen.io/Replaced";

fn gone(kind: Kind, key: &Key) -> Told {
    Told {
        object: Object { kind, key: key.clone() },
        reporter: Reporter::Routes,
        generation: 0,
        words: Vec::new(),
        was_said: false,
        parents: Vec::new(),
        listeners: Vec::new(),
        is_gone: true,
    }
}

fn accepted(service: &VirtualService, acting: &Acting) -> Word {
    let word = |truth, reason, message| Word { kind: ACCEPTED, truth, reason, message };
    if service.spec.hosts.is_empty() {
        return word(Truth::True, "Delegate", "it holds where another VirtualService delegates to it".to_owned());
    }
    let is_of_mesh = service.spec.gateways.is_empty() || service.spec.gateways.iter().any(|name| name == "mesh");
    if acting.services.is_empty() && acting.gates.is_empty() {
        if !is_of_mesh {
            let message = "no gateway listens by the Gateways it names, so nothing acts on it; see their status";
            return word(Truth::False, "NoGateway", message.to_owned());
        }
        let message =
            "no waypoint serves its hosts, so nothing acts on it; label their services with istio.io/use-waypoint";
        return word(Truth::False, "NoWaypoint", message.to_owned());
    }
    let mut parts = Vec::new();
    if !acting.services.is_empty() {
        parts.push(format!("waypoints serve {} by it", listed(&acting.services)));
    }
    if !acting.gates.is_empty() {
        let names: Vec<String> = acting.gates.iter().take(PROBLEMS_MAX).map(ToString::to_string).collect();
        parts.push(format!("the gateways {} listen by it", names.join(", ")));
    }
    word(Truth::True, "Accepted", parts.join("; "))
}

pub(super) fn problem_word(problems: &BTreeSet<String>) -> Word {
    let word = |truth, reason, message| Word { kind: RESOLVED, truth, reason, message };
    if problems.is_empty() {
        return word(Truth::True, "ResolvedRefs", "all it names is there".to_owned());
    }
    let shown: Vec<&str> = problems.iter().take(PROBLEMS_MAX).map(String::as_str).collect();
    let mut message = shown.join("; ");
    if problems.len() > PROBLEMS_MAX {
        message.push_str(&format!("; and {} more", problems.len() - PROBLEMS_MAX));
    }
    word(Truth::False, "BackendNotFound", message)
}

pub(super) fn unsupported(unused: &[String]) -> Option<Word> {
    (!unused.is_empty()).then(|| Word {
        kind: UNSUPPORTED,
        truth: Truth::True,
        reason: "UnsupportedFields",
        message: unused.join("; "),
    })
}

fn hidden(replaced: &BTreeSet<ServiceName>) -> Option<Word> {
    let message = format!(
        "routes of the Gateway API are attached to {}, and count there in place of what is written here",
        listed(replaced)
    );
    let word = Word { kind: REPLACED, truth: Truth::True, reason: "GatewayAPI", message };
    (!replaced.is_empty()).then_some(word)
}

fn listed(names: &BTreeSet<ServiceName>) -> String {
    let shown: Vec<&str> = names.iter().take(PROBLEMS_MAX).map(|name| &*name.hostname).collect();
    let more =
        if names.len() > PROBLEMS_MAX { format!(" and {} more", names.len() - PROBLEMS_MAX) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
