//! What authors of objects are told, and which policies are to be enforced.

use lateen_cluster::{api::ParentRef, store::Key};

use crate::{
    derive::{enforced::Enforceable, word::Word},
    facts::RouteKind,
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
        }
    }
}

/// What is said of a route at one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentTold {
    /// As the route names it.
    pub reference: ParentRef,
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
    /// Of a route of the Gateway API: the conditions at each of its parents.
    pub parents: Vec<ParentTold>,
    /// Whether the object shows words of this reporter's, perhaps of an earlier process's.
    pub was_said: bool,
    /// Whether the object is gone, so that nobody is to be told.
    pub is_gone: bool,
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
