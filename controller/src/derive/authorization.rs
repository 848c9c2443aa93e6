//! `AuthorizationPolicy` as the L4 policy a node proxy enforces, with what its author is told.
//!
//! In: one policy. Out: the L4 policy, if any, and the status condition.
//! What a node proxy cannot see (HTTP) is handled so that an ALLOW never allows more than written. A DENY loses only
//! the parts that need HTTP; a clause that loses everything never matches, as in the reference, and the status says so.

pub mod l7;

use std::collections::BTreeSet;

use lateen_cluster::{
    api::{Action, Condition as When, Operation, Rule, Source},
    store::Key,
};
use lateen_wire::security as wire;

use super::{
    Mesh,
    enforced::Enforceable,
    matching,
    word::{Truth, Word},
};
use crate::facts::AuthorizationPolicy;

/// What becomes of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// What node proxies enforce.
    pub policy: Option<wire::Authorization>,
    /// What its author is told; nothing where a waypoint enforces it.
    pub condition: Option<Condition>,
    /// What of it can be enforced.
    pub enforceable: Enforceable,
}

/// What a policy's author is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether the policy is in force.
    pub accepted: bool,
    /// One word for programs.
    pub reason: Reason,
    /// Sentences for people.
    pub message: String,
}

impl Condition {
    /// As it is written.
    pub fn word(self) -> Word {
        let truth = if self.accepted { Truth::True } else { Truth::False };
        Word { kind: "ZtunnelAccepted", truth, reason: self.reason.as_str(), message: self.message }
    }
}

/// Why a condition is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All of it is enforced.
    Accepted,
    /// Something in it is not enforced by node proxies.
    UnsupportedValue,
}

impl Reason {
    /// As written in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::UnsupportedValue => "UnsupportedValue",
        }
    }
}

/// The node proxies' side of an authorization policy.
pub fn derive(mesh: &Mesh, key: &Key, policy: &AuthorizationPolicy) -> Derived {
    if policy.has_target() {
        let lost = l7::derive(mesh, key, policy).lost;
        return Derived { policy: None, condition: None, enforceable: Enforceable::AtWaypoint(lost) };
    }
    let action = match enforced_action(mesh, policy) {
        Ok(action) => action,
        Err(refused) => return refused.derived(),
    };
    let scope = match &policy.selector {
        Some(_) => wire::Scope::WorkloadSelector,
        None if *key.namespace == *mesh.root_namespace => wire::Scope::Global,
        None => wire::Scope::Namespace,
    };
    let rules = policy.spec.rules.iter().flatten().enumerate();
    let read: Vec<Read> = rules.map(|(at, rule)| Reader::read(&key.namespace, at, rule)).collect();
    let condition = condition(action, &read);
    let lost: Vec<String> = read.iter().flat_map(|rule| rule.lost.clone()).collect();
    let has_effect = action == wire::Action::Allow || read.iter().any(Read::can_match);
    let enforceable = match (lost.is_empty(), has_effect) {
        (true, _) => Enforceable::Whole,
        (false, true) => Enforceable::Without(lost),
        (false, false) => Enforceable::Nothing(lost),
    };
    let kept = read.into_iter().filter(|rule| action == wire::Action::Deny || rule.is_whole());
    let derived = wire::Authorization {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        scope: scope.into(),
        action: action.into(),
        rules: kept.map(|rule| rule.rule).collect(),
        dry_run: policy.dry_run,
        ..wire::Authorization::default()
    };
    Derived { policy: Some(derived), condition: Some(condition), enforceable }
}

/// Whether node proxies are sent the policy.
pub fn is_sent(mesh: &Mesh, policy: &AuthorizationPolicy) -> bool {
    !policy.has_target() && enforced_action(mesh, policy).is_ok()
}

fn enforced_action(mesh: &Mesh, policy: &AuthorizationPolicy) -> Result<wire::Action, Refused> {
    let action = match policy.spec.action.unwrap_or(Action::Allow) {
        Action::Allow => wire::Action::Allow,
        Action::Deny => wire::Action::Deny,
        Action::Audit => {
            return Err(Refused {
                field: "spec.action",
                why: "the action AUDIT is not supported by ztunnel; use ALLOW or DENY",
            });
        }
        Action::Custom => {
            let why = "the action CUSTOM is not supported by ztunnel; attach the policy to a waypoint with targetRefs";
            return Err(Refused { field: "spec.action", why });
        }
    };
    if policy.dry_run && !mesh.dry_run {
        let why = "dry-run policies are not enabled for ztunnel; the policy is neither evaluated nor enforced";
        return Err(Refused { field: "metadata.annotations[istio.io/dry-run]", why });
    }
    Ok(action)
}

/// Why a policy is not sent.
struct Refused {
    field: &'static str,
    why: &'static str,
}

impl Refused {
    fn derived(self) -> Derived {
        let Self { field, why } = self;
        let condition = Condition { accepted: false, reason: Reason::UnsupportedValue, message: why.to_owned() };
        let enforceable = Enforceable::Nothing(vec![format!("{field}: {why}")]);
        Derived { policy: None, condition: Some(condition), enforceable }
    }
}

/// What was made of one rule.
struct Read {
    rule: wire::Rule,
    /// Attributes that need HTTP, by their names in the policy.
    http: BTreeSet<String>,
    /// Values that are none of their kind.
    unreadable: BTreeSet<String>,
    /// Each of both with its field's path, and why.
    lost: Vec<String>,
}

impl Read {
    /// Whether nothing of the rule was lost.
    fn is_whole(&self) -> bool {
        self.http.is_empty() && self.unreadable.is_empty()
    }

    /// Whether the rule can match at all: a clause of nothing but empty matches cannot.
    fn can_match(&self) -> bool {
        let empty = wire::Match::default();
        self.rule.clauses.iter().all(|clause| clause.matches.iter().any(|one| *one != empty))
    }
}

fn condition(action: wire::Action, read: &[Read]) -> Condition {
    let joined = |of: fn(&Read) -> &BTreeSet<String>| {
        let all: BTreeSet<&str> = read.iter().flat_map(of).map(String::as_str).collect();
        all.into_iter().collect::<Vec<_>>().join(", ")
    };
    let (http, unreadable) = (joined(|rule| &rule.http), joined(|rule| &rule.unreadable));
    let mut told = Vec::new();
    if !http.is_empty() {
        told.push(format!("ztunnel does not enforce HTTP attributes (found: {http}); a waypoint is needed for them"));
    }
    if !unreadable.is_empty() {
        told.push(format!("these values cannot be read: {unreadable}"));
    }
    if told.is_empty() {
        let message = "attached to ztunnel".to_owned();
        return Condition { accepted: true, reason: Reason::Accepted, message };
    }
    told.push(consequence(action, read).to_owned());
    Condition { accepted: true, reason: Reason::UnsupportedValue, message: format!("{}.", told.join(". ")) }
}

fn consequence(action: wire::Action, read: &[Read]) -> &'static str {
    match action {
        wire::Action::Allow => {
            "Rules of an ALLOW policy that use them are left out, which is more restrictive than requested"
        }
        wire::Action::Deny if !read.iter().any(Read::can_match) => {
            "Without them no rule of this DENY policy can match, so it has no effect; deploy a waypoint and attach the \
             policy to it"
        }
        wire::Action::Deny if read.iter().all(Read::can_match) => {
            "Rules of a DENY policy are enforced without them, which is more restrictive than requested"
        }
        wire::Action::Deny => {
            "Rules of a DENY policy are enforced without them, which is more restrictive than requested; rules that \
             have a part with nothing left in it never match, which is less restrictive than requested"
        }
    }
}

const NEEDS_WAYPOINT: &str = "needs HTTP, which a waypoint sees";

/// Reads one rule, noting what a node proxy cannot use.
struct Reader<'a> {
    namespace: &'a str,
    http: BTreeSet<String>,
    unreadable: BTreeSet<String>,
    lost: Vec<String>,
    /// Where we are.
    path: String,
}

impl<'a> Reader<'a> {
    fn read(namespace: &'a str, at: usize, rule: &Rule) -> Read {
        let (http, unreadable) = (BTreeSet::new(), BTreeSet::new());
        let mut reader = Self { namespace, http, unreadable, lost: Vec::new(), path: String::new() };
        let mut clauses = Vec::new();
        let mut to = Vec::new();
        for (number, one) in rule.to.iter().flatten().enumerate() {
            reader.path = format!("spec.rules[{at}].to[{number}].operation");
            to.push(reader.operation(one.operation.as_ref()));
        }
        let mut from = Vec::new();
        for (number, one) in rule.from.iter().flatten().enumerate() {
            reader.path = format!("spec.rules[{at}].from[{number}].source");
            from.push(reader.source(one.source.as_ref()));
        }
        clauses.extend(
            [to, from].into_iter().filter(|matches| !matches.is_empty()).map(|matches| wire::Clause { matches }),
        );
        for (number, when) in rule.when.iter().flatten().enumerate() {
            reader.path = format!("spec.rules[{at}].when[{number}]");
            clauses.push(wire::Clause { matches: vec![reader.condition(when)] });
        }
        Read { rule: wire::Rule { clauses }, http: reader.http, unreadable: reader.unreadable, lost: reader.lost }
    }

    fn operation(&mut self, operation: Option<&Operation>) -> wire::Match {
        let Some(operation) = operation else { return wire::Match::default() };
        self.note_http(&[
            ("hosts", &operation.hosts),
            ("notHosts", &operation.not_hosts),
            ("methods", &operation.methods),
            ("notMethods", &operation.not_methods),
            ("paths", &operation.paths),
            ("notPaths", &operation.not_paths),
        ]);
        wire::Match {
            destination_ports: self.ports(operation.ports.as_ref()),
            not_destination_ports: self.ports(operation.not_ports.as_ref()),
            ..wire::Match::default()
        }
    }

    fn source(&mut self, source: Option<&Source>) -> wire::Match {
        let Some(source) = source else { return wire::Match::default() };
        self.note_http(&[
            ("remoteIpBlocks", &source.remote_ip_blocks),
            ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
            ("trustDomains", &source.trust_domains),
            ("notTrustDomains", &source.not_trust_domains),
        ]);
        wire::Match {
            source_ips: self.addresses(source.ip_blocks.as_ref()),
            not_source_ips: self.addresses(source.not_ip_blocks.as_ref()),
            namespaces: matching::strings(source.namespaces.as_ref()),
            not_namespaces: matching::strings(source.not_namespaces.as_ref()),
            principals: matching::strings(source.principals.as_ref()),
            not_principals: matching::strings(source.not_principals.as_ref()),
            service_accounts: self.accounts(source.service_accounts.as_ref()),
            not_service_accounts: self.accounts(source.not_service_accounts.as_ref()),
            ..wire::Match::default()
        }
    }

    fn condition(&mut self, when: &When) -> wire::Match {
        let (values, not_values) = (when.values.as_ref(), when.not_values.as_ref());
        match when.key.as_str() {
            "source.ip" => wire::Match {
                source_ips: self.addresses(values),
                not_source_ips: self.addresses(not_values),
                ..wire::Match::default()
            },
            "source.namespace" => wire::Match {
                namespaces: matching::strings(values),
                not_namespaces: matching::strings(not_values),
                ..wire::Match::default()
            },
            "source.principal" => wire::Match {
                principals: matching::strings(values),
                not_principals: matching::strings(not_values),
                ..wire::Match::default()
            },
            "destination.ip" => wire::Match {
                destination_ips: self.addresses(values),
                not_destination_ips: self.addresses(not_values),
                ..wire::Match::default()
            },
            "destination.port" => wire::Match {
                destination_ports: self.ports(values),
                not_destination_ports: self.ports(not_values),
                ..wire::Match::default()
            },
            other => {
                self.http.insert(other.to_owned());
                self.lost.push(format!("{}.key: {other} {NEEDS_WAYPOINT}", self.path));
                wire::Match::default()
            }
        }
    }

    fn note_http(&mut self, fields: &[(&str, &Option<Vec<String>>)]) {
        let given = fields.iter().filter(|(_, values)| values.as_ref().is_some_and(|values| !values.is_empty()));
        for (name, _) in given {
            self.http.insert((*name).to_owned());
            self.lost.push(format!("{}.{name}: it {NEEDS_WAYPOINT}", self.path));
        }
    }

    fn addresses(&mut self, values: Option<&Vec<String>>) -> Vec<wire::Address> {
        self.each(values, matching::address)
    }

    fn ports(&mut self, values: Option<&Vec<String>>) -> Vec<u32> {
        self.each(values, matching::port)
    }

    fn accounts(&mut self, values: Option<&Vec<String>>) -> Vec<wire::ServiceAccountMatch> {
        let namespace = self.namespace;
        self.each(values, |text| Some(matching::account(text, namespace)))
    }

    fn each<T>(&mut self, values: Option<&Vec<String>>, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        for text in values.into_iter().flatten() {
            match read(text) {
                Some(value) => all.push(value),
                None => {
                    self.unreadable.insert(format!("{text:?}"));
                    self.lost.push(format!("{}: {text:?} cannot be read", self.path));
                }
            }
        }
        all
    }
}
