//! What authors of objects are told, and which policies are to be enforced.

use lateen_cluster::{api::ParentRef, store::Key};

use crate::{
    derive::{enforced::Enforceable, word::Word},
    facts::{LISTENERS_MANAGER, RouteKind},
};

/// The kinds of objects with a status of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    AuthorizationPolicy,
    PeerAuthentication,
    Service,
    ServiceEntry,
    WorkloadEntry,
    VirtualService,
    DestinationRule,
    Route(RouteKind),
    /// Of the Gateway API.
    Gateway,
    /// A Gateway of the mesh's own API.
    Servers,
    BackendTlsPolicy,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its place.
    pub key: Key,
}

/// Who says it: server-side apply keeps each reporter's conditions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// What node proxies are sent of a policy.
    Ztunnel,
    /// What a waypoint is to enforce.
    Waypoint,
    /// Bindings of services.
    Service,
    /// Bindings of workload entries.
    WorkloadEntry,
    /// Whether a policy is in force.
    Enforcement,
    /// What becomes of routes and destination rules.
    Routes,
    /// What becomes of the Gateway API's routes at each parent.
    Parents,
    /// What becomes of a Gateway's listeners.
    Listeners,
    /// What becomes of a backend TLS policy at each Gateway.
    Ancestors,
}

impl Reporter {
    /// The field manager, as server-side apply records it.
    pub fn field_manager(self) -> &'static str {
        match self {
            Self::Ztunnel => "istio-ambient-ztunnel-policy",
            Self::Waypoint => "istio-ambient-waypoint-policy",
            Self::Service => "istio-ambient-service",
            Self::WorkloadEntry => "istio-ambient-workloadentry",
            Self::Enforcement => "lateen-enforcement",
            Self::Routes => "lateen-routes",
            Self::Parents => "lateen-parents",
            Self::Listeners => LISTENERS_MANAGER,
            Self::Ancestors => "lateen-ancestors",
        }
    }
}

/// What is said of a route at one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentTold {
    /// As the route names it.
    pub reference: ParentRef,
    /// The name under which it is said.
    pub controller: &'static str,
    /// The conditions.
    pub words: Vec<Word>,
}

/// What is said of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTold {
    /// Its name.
    pub name: String,
    /// The routes it takes.
    pub kinds: Vec<RouteKind>,
    /// How many routes are attached.
    pub attached: usize,
    /// The conditions.
    pub words: Vec<Word>,
}

/// What one reporter says of an object; without words it takes back what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The object.
    pub object: Object,
    /// Who says it.
    pub reporter: Reporter,
    /// The generation this is about; 0 where the kind has none.
    pub generation: i64,
    /// The conditions, all of this reporter's.
    pub words: Vec<Word>,
    /// Of a route of the Gateway API: the conditions at each of its parents; of a backend TLS policy at each Gateway.
    pub parents: Vec<ParentTold>,
    /// Of a Gateway: what is said of each of its listeners.
    pub listeners: Vec<ListenerTold>,
    /// Whether the object shows words of this reporter's, perhaps of an earlier process's.
    pub was_said: bool,
    /// Whether the object is gone, so that nobody is to be told.
    pub is_gone: bool,
}

impl Told {
    /// Nothing yet.
    pub fn new(object: Object, reporter: Reporter) -> Self {
        Self {
            object,
            reporter,
            generation: 0,
            words: Vec::new(),
            parents: Vec::new(),
            listeners: Vec::new(),
            was_said: false,
            is_gone: false,
        }
    }

    /// Whether it takes back what was said.
    pub fn is_silence(&self) -> bool {
        self.words.is_empty() && self.parents.is_empty() && self.listeners.is_empty()
    }
}

/// A policy whose enforcement begins anew, or ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Enforcing {
    /// The policy.
    pub object: Object,
    /// Its generation.
    pub generation: i64,
    /// What of it can be enforced; `None` when it is gone.
    pub what: Option<Enforceable>,
}
