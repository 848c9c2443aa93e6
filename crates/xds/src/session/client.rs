//! The client's end of one or more delta subscriptions.
//!
//! In: responses, the verdict on each resource, keys to ask for. Out: requests; which keys were answered; whether the
//! first picture is complete. It outlives streams: what is held is told to the server on reconnect.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use lateen_wire::{
    core::Node,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    rpc::Status,
};

use super::{EVERYTHING, version::Version};

/// How a type is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of it, unasked.
    Wildcard,
    /// Key by key.
    OnDemand,
}

/// A type the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The type.
    pub type_url: &'static str,
    /// How.
    pub mode: Mode,
}

/// A resource the client cannot use, and why; both go into the NACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The resource's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What there is to say after a response was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The ACK or NACK.
    pub request: DeltaDiscoveryRequest,
    /// Keys somebody may wait for: names and aliases that came, and removals. Empty for wildcard types.
    pub answered: Vec<String>,
}

/// The most keys asked for and not answered; further ones are refused until some are answered.
pub const ASKED_MAX: usize = 10_000;

/// The client's state.
#[derive(Debug, Clone)]
pub struct ClientSession {
    node: Node,
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone)]
struct Kind {
    subscription: Subscription,
    /// Name to version of what was applied. A rejected update leaves the entry before it: that is what we hold, and
    /// the server, seeing an older version on reconnect, sends the newer one again.
    held: HashMap<Arc<str>, Version>,
    /// Keys asked for without an answer yet.
    asked: BTreeSet<String>,
    acknowledged: bool,
}

impl ClientSession {
    /// A client that has nothing yet and wants `subscriptions`, asked for in this order.
    pub fn new(node: Node, subscriptions: &[Subscription]) -> Self {
        let kind = |subscription: &Subscription| Kind {
            subscription: *subscription,
            held: HashMap::new(),
            asked: BTreeSet::new(),
            acknowledged: false,
        };
        Self { node, kinds: subscriptions.iter().map(kind).collect() }
    }

    /// The requests that begin a stream, one per type.
    pub fn open(&self) -> Vec<DeltaDiscoveryRequest> {
        self.kinds.iter().map(|kind| kind.opening(&self.node)).collect()
    }

    /// Asks for `key`. Nothing if the type is not on demand, or if [`ASKED_MAX`] keys wait already.
    pub fn demand(&mut self, type_url: &str, key: &str) -> Option<DeltaDiscoveryRequest> {
        let kind = self.kind(type_url).filter(|kind| kind.subscription.mode == Mode::OnDemand)?;
        if kind.asked.len() >= ASKED_MAX && !kind.asked.contains(key) {
            return None;
        }
        kind.asked.insert(key.to_owned());
        Some(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: vec![key.to_owned()],
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// The answer to `response`, of which `rejected` could not be used and everything else is applied.
    pub fn applied(&mut self, response: &Summary, rejected: &[Rejected]) -> Applied {
        let mut answered = Vec::new();
        if let Some(kind) = self.kind(&response.type_url) {
            kind.take(response, rejected);
            if kind.subscription.mode == Mode::OnDemand {
                answered = response.keys();
                answered.iter().for_each(|key| _ = kind.asked.remove(key));
            }
        }
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error_detail(rejected),
            ..DeltaDiscoveryRequest::default()
        };
        Applied { request, answered }
    }

    /// What has to be remembered of `response` while its resources are being applied.
    pub fn summary(&self, response: &DeltaDiscoveryResponse) -> Summary {
        let kind = self.kinds.iter().find(|kind| kind.subscription.type_url == response.type_url);
        let is_on_demand = kind.is_some_and(|kind| kind.subscription.mode == Mode::OnDemand);
        let named = response.resources.iter().map(|one| Named {
            name: kind.and_then(|kind| kind.name(&one.name)).unwrap_or_else(|| one.name.as_str().into()),
            version: one.version.as_str().into(),
            aliases: if is_on_demand { one.aliases.clone() } else { Vec::new() },
        });
        Summary {
            type_url: response.type_url.clone(),
            nonce: response.nonce.clone(),
            resources: named.collect(),
            removed: response.removed_resources.clone(),
        }
    }

    /// Whether the client subscribed to this type.
    pub fn knows(&self, type_url: &str) -> bool {
        self.kinds.iter().any(|kind| kind.subscription.type_url == type_url)
    }

    /// Whether every wildcard type was acknowledged once, so that the first picture is complete.
    pub fn is_synced(&self) -> bool {
        self.kinds.iter().all(|kind| kind.acknowledged || kind.subscription.mode == Mode::OnDemand)
    }

    fn kind(&mut self, type_url: &str) -> Option<&mut Kind> {
        self.kinds.iter_mut().find(|kind| kind.subscription.type_url == type_url)
    }
}

impl Kind {
    fn opening(&self, node: &Node) -> DeltaDiscoveryRequest {
        let names = match self.subscription.mode {
            Mode::Wildcard => Vec::new(),
            Mode::OnDemand => vec![EVERYTHING.to_owned()],
        };
        let held = self.held.iter().map(|(name, version)| (name.to_string(), version.to_string()));
        let mut versions: BTreeMap<String, String> = held.collect();
        // Asked for again by being named without a version.
        versions.extend(self.asked.iter().map(|key| (key.clone(), String::new())));
        DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: self.subscription.type_url.to_owned(),
            resource_names_subscribe: names.clone(),
            resource_names_unsubscribe: names,
            initial_resource_versions: versions,
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// The name as it is kept, of something that is held.
    fn name(&self, name: &str) -> Option<Arc<str>> {
        self.held.get_key_value(name).map(|(name, _)| name.clone())
    }

    fn take(&mut self, response: &Summary, rejected: &[Rejected]) {
        let bad: BTreeSet<&str> = rejected.iter().map(|one| one.name.as_str()).collect();
        for one in response.resources.iter().filter(|one| !bad.contains(&*one.name)) {
            self.held.insert(one.name.clone(), one.version.clone());
        }
        for name in &response.removed {
            self.held.remove(name.as_str());
        }
        self.acknowledged |= rejected.is_empty();
    }
}

/// `name: reason; name: reason`. The code stays 0: the detail being there at all is the signal.
fn error_detail(rejected: &[Rejected]) -> Option<Status> {
    let all: Vec<String> = rejected.iter().map(|one| format!("{}: {}", one.name, one.reason)).collect();
    (!all.is_empty()).then(|| Status { message: all.join("; "), ..Status::default() })
}

/// What a response was about, kept while its resources are being applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    type_url: String,
    nonce: String,
    resources: Vec<Named>,
    removed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: Arc<str>,
    version: Version,
    /// Of types on demand.
    aliases: Vec<String>,
}

impl Summary {
    /// The names of the resources, in their order, to be shared with what is kept of them.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resources.iter().map(|one| &one.name)
    }

    /// Every key this response says something about.
    fn keys(&self) -> Vec<String> {
        let came = self
            .resources
            .iter()
            .flat_map(|one| std::iter::once(one.name.to_string()).chain(one.aliases.iter().cloned()));
        came.chain(self.removed.iter().cloned()).collect()
    }
}
