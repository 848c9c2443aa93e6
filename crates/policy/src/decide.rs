//! May this connection pass?
//!
//! In: the policies that concern the destination and the facts of one connection. Out: a verdict that names who spoke.
//! Absent on purpose: logging of dry-run findings and metrics; the caller has the connection's context for them.
//!
//! Order: dry-run DENY (noted), DENY, a named policy that has not arrived, dry-run ALLOW (noted), ALLOW. A connection
//! passes when no DENY matches and either there is no ALLOW or one of them matches.

use std::{fmt, net::SocketAddr};

use lateen_types::{id::SpiffeId, name::PolicyKey};

use crate::{
    compile::{Accounts, Blocks, List, Ports, Strings},
    model::{Action, Clause, Match, Policy, Rule},
};

/// What is known of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The TCP peer.
    pub source: SocketAddr,
    /// The real next hop: the workload's own port, not a service's.
    pub destination: SocketAddr,
    /// Who the peer's certificate says it is; `None` for plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// Whom the peer speaks for, where it is a waypoint that is believed. The caller is then both: a list is hit by the
    /// one or by the other. So a policy for the waypoint and one for its clients mean what they say, and "nobody but the
    /// waypoint" stays true of a client that comes through it.
    pub client: Option<&'a SpiffeId>,
}

/// The answer for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// What dry-run policies would have done, for the log. Seldom anything.
    pub dry_run: Vec<DryRun>,
}

/// Pass or refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The connection passes.
    Allow(Allowed),
    /// It is refused.
    Refuse(Refusal),
}

/// Why a connection passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// No ALLOW policy is enforced for the destination.
    NoAllowPolicies,
    /// This rule admits it.
    By(Speaker),
}

/// Why a connection is refused; its text is what access records and the peer see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A DENY policy matches.
    ExplicitlyDenied(Speaker),
    /// There are ALLOW policies, none matches.
    NoneAllowed,
    /// The destination names a policy that has not arrived, so what it forbids is not known. The reference skips such
    /// a policy; we refuse until it is here.
    PolicyMissing(PolicyKey),
}

/// The rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The policy.
    pub policy: PolicyKey,
    /// Which of its rules, counted from 0.
    pub rule: usize,
}

/// What a dry-run policy would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DryRun {
    /// This rule would refuse the connection.
    WouldDeny(Speaker),
    /// This rule would admit the connection.
    WouldAllow(Speaker),
    /// The dry-run ALLOW policies, were they enforced, would refuse it: none of them matches and no ALLOW is enforced.
    WouldAllowNone,
}

impl Verdict {
    /// Whether the connection passes.
    pub fn is_allowed(&self) -> bool {
        matches!(self.decision, Decision::Allow(_))
    }

    /// Why it does not pass, where it does not.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.decision {
            Decision::Allow(_) => None,
            Decision::Refuse(refusal) => Some(refusal),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExplicitlyDenied(speaker) => write!(f, "explicitly denied by: {}", speaker.policy),
            Self::NoneAllowed => f.write_str("allow policies exist, but none allowed"),
            Self::PolicyMissing(key) => write!(f, "policy {key} is attached to the destination but has not arrived"),
        }
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldDeny(speaker) => write!(f, "dry run: would be denied by: {}", speaker.policy),
            Self::WouldAllow(speaker) => write!(f, "dry run: would be allowed by: {}", speaker.policy),
            Self::WouldAllowNone => f.write_str("dry run: would be denied, no dry-run allow policy matches"),
        }
    }
}

/// Decides with every policy known.
pub fn decide(policies: &[&Policy], facts: &Facts<'_>) -> Verdict {
    decide_with_missing(policies, &[], facts)
}

/// Decides where the destination also names policies that have not arrived.
pub fn decide_with_missing(policies: &[&Policy], missing: &[PolicyKey], facts: &Facts<'_>) -> Verdict {
    let mut dry_run = Vec::new();
    dry_run.extend(first_match(policies, Kind { action: Action::Deny, dry_run: true }, facts).map(DryRun::WouldDeny));

    let decision = match refuse_first(policies, missing, facts) {
        Some(refusal) => Decision::Refuse(refusal),
        None => {
            dry_run.extend(dry_run_allow(policies, facts));
            allow_last(policies, facts)
        }
    };
    Verdict { decision, dry_run }
}

/// Which policies one step looks at.
#[derive(Clone, Copy)]
struct Kind {
    action: Action,
    dry_run: bool,
}

const ENFORCED_ALLOW: Kind = Kind { action: Action::Allow, dry_run: false };
const DRY_RUN_ALLOW: Kind = Kind { action: Action::Allow, dry_run: true };

fn of_kind<'p>(policies: &'p [&Policy], kind: Kind) -> impl Iterator<Item = &'p Policy> {
    policies.iter().copied().filter(move |policy| policy.action == kind.action && policy.dry_run == kind.dry_run)
}

fn first_match(policies: &[&Policy], kind: Kind, facts: &Facts<'_>) -> Option<Speaker> {
    of_kind(policies, kind).find_map(|policy| policy.speaker(facts))
}

/// What refuses whatever the ALLOW policies say. A known DENY speaks before a missing policy: it tells more.
fn refuse_first(policies: &[&Policy], missing: &[PolicyKey], facts: &Facts<'_>) -> Option<Refusal> {
    first_match(policies, Kind { action: Action::Deny, dry_run: false }, facts)
        .map(Refusal::ExplicitlyDenied)
        .or_else(|| missing.first().cloned().map(Refusal::PolicyMissing))
}

fn allow_last(policies: &[&Policy], facts: &Facts<'_>) -> Decision {
    if of_kind(policies, ENFORCED_ALLOW).next().is_none() {
        return Decision::Allow(Allowed::NoAllowPolicies);
    }
    match first_match(policies, ENFORCED_ALLOW, facts) {
        Some(speaker) => Decision::Allow(Allowed::By(speaker)),
        None => Decision::Refuse(Refusal::NoneAllowed),
    }
}

fn dry_run_allow(policies: &[&Policy], facts: &Facts<'_>) -> Option<DryRun> {
    if let Some(speaker) = first_match(policies, DRY_RUN_ALLOW, facts) {
        return Some(DryRun::WouldAllow(speaker));
    }
    let only_dry_run =
        of_kind(policies, DRY_RUN_ALLOW).next().is_some() && of_kind(policies, ENFORCED_ALLOW).next().is_none();
    only_dry_run.then_some(DryRun::WouldAllowNone)
}

impl Policy {
    /// The first rule that matches, as the one who spoke.
    fn speaker(&self, facts: &Facts<'_>) -> Option<Speaker> {
        let rule = self.rules.iter().position(|rule| rule.matches(facts))?;
        Some(Speaker { policy: self.key.clone(), rule })
    }
}

impl Rule {
    /// Whether every clause matches.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(facts))
    }
}

impl Clause {
    /// Whether any match does, or there is none to ask.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.miss(facts).is_none())
    }
}

/// Why one match does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// It has no field, so it never matches.
    Empty,
    /// The caller's namespace.
    Namespace,
    /// The caller's service account.
    ServiceAccount,
    /// The caller's identity.
    Principal,
    /// The caller's address.
    SourceIp,
    /// The destination's address.
    DestinationIp,
    /// The destination's port.
    DestinationPort,
}

impl Match {
    /// The first field that does not hold; `None` when the match matches.
    pub fn miss(&self, facts: &Facts<'_>) -> Option<Miss> {
        // A plaintext caller has the empty namespace, but no principal and no account at all: an empty text would hit
        // the suffix or prefix "", and nothing a plaintext caller lacks may be taken as present.
        let namespace = facts.identity.map_or("", |id| id.namespace().as_str());
        let in_namespace =
            |list: &Strings| list.hits(namespace) || facts.client.is_some_and(|id| list.hits(id.namespace().as_str()));
        let is_account = |list: &Accounts| {
            let hits = |id: &SpiffeId| list.hits(id);
            facts.identity.is_some_and(hits) || facts.client.is_some_and(hits)
        };
        let is_principal = |list: &Strings| {
            let hits = |id: &SpiffeId| list.hits(id.principal().as_str());
            facts.identity.is_some_and(hits) || facts.client.is_some_and(hits)
        };
        let from = |list: &Blocks| list.hits(facts.source.ip());
        let to = |list: &Blocks| list.hits(facts.destination.ip());
        let to_port = |list: &Ports| list.hits(facts.destination.port());

        if !holds(&self.namespaces, &self.not_namespaces, in_namespace) {
            Some(Miss::Namespace)
        } else if !holds(&self.service_accounts, &self.not_service_accounts, is_account) {
            Some(Miss::ServiceAccount)
        } else if !holds(&self.principals, &self.not_principals, is_principal) {
            Some(Miss::Principal)
        } else if !holds(&self.source_ips, &self.not_source_ips, from) {
            Some(Miss::SourceIp)
        } else if !holds(&self.destination_ips, &self.not_destination_ips, to) {
            Some(Miss::DestinationIp)
        } else if !holds(&self.destination_ports, &self.not_destination_ports, to_port) {
            Some(Miss::DestinationPort)
        } else {
            // Every field of an empty match holds, so that it need not be looked for before.
            self.is_empty().then_some(Miss::Empty)
        }
    }
}

/// The rule for every field: (no positive entry or a hit) and no negative hit.
pub(crate) fn holds<L: List>(positive: &L, negative: &L, hits: impl Fn(&L) -> bool) -> bool {
    // Most lists are empty; to see that is cheaper than to search them.
    (positive.is_empty() || hits(positive)) && (negative.is_empty() || !hits(negative))
}
