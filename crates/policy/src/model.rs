//! What a policy is: `policy = OR(rule)`, `rule = AND(clause)`, `clause = OR(match)`, `match = AND(field)`.
//!
//! In: values a decoder has already checked. Out: the same, in a form that is quick to ask (see [`crate::compile`]).
//! Absent on purpose: asking (see [`crate::decide`]).

use std::{fmt, sync::Arc};

use lateen_types::{
    id::{Namespace, ServiceAccount},
    name::PolicyKey,
};

use crate::compile::{Accounts, Blocks, List, Ports, Strings};

/// Whom a policy concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every workload of the mesh; the policy's own namespace means nothing.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that name the policy.
    WorkloadSelector,
}

/// What a matching policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Admits what it matches; the presence of one refuses what none matches.
    Allow,
    /// Refuses what it matches.
    Deny,
}

/// One authorization policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub key: PolicyKey,
    /// Whom it concerns.
    pub scope: Scope,
    /// What it does.
    pub action: Action,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
    /// Any of these must match. None at all: the policy never matches.
    pub rules: Vec<Rule>,
}

/// All clauses must match. None at all: the rule always matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// The parts that are ANDed.
    pub clauses: Vec<Clause>,
}

/// Any match must match. None at all: the clause always matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clause {
    /// The parts that are ORed.
    pub matches: Vec<Match>,
}

/// All fields must hold. A field holds when its positive list is empty or has a hit, and its negative list has none.
/// A match whose lists are all empty never matches: it is what remains of conditions that L4 cannot check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// The caller's namespace; "" without identity.
    pub namespaces: Strings,
    /// Namespaces the caller must not be in.
    pub not_namespaces: Strings,
    /// The caller's account, in any trust domain.
    pub service_accounts: Accounts,
    /// Accounts the caller must not be.
    pub not_service_accounts: Accounts,
    /// The caller's identity without `spiffe://`.
    pub principals: Strings,
    /// Identities the caller must not have; plaintext satisfies this.
    pub not_principals: Strings,
    /// Where the call comes from.
    pub source_ips: Blocks,
    /// Where it must not come from.
    pub not_source_ips: Blocks,
    /// Where it goes.
    pub destination_ips: Blocks,
    /// Where it must not go.
    pub not_destination_ips: Blocks,
    /// The workload's own port (after a service's port is mapped).
    pub destination_ports: Ports,
    /// Ports it must not be.
    pub not_destination_ports: Ports,
}

/// How one text is compared, always case sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StringMatch {
    /// The same text.
    Exact(Arc<str>),
    /// Begins with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// Is not empty.
    Presence,
}

/// A service account in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// The namespace.
    pub namespace: Namespace,
    /// The account there.
    pub service_account: ServiceAccount,
}

impl StringMatch {
    /// Reads the notation of AuthorizationPolicy: `*` present, `*x` ends with, `x*` begins with, else exactly.
    pub fn from_notation(text: &str) -> Self {
        if text == "*" {
            return Self::Presence;
        }
        if let Some(end) = text.strip_prefix('*') {
            return Self::Suffix(end.into());
        }
        match text.strip_suffix('*') {
            Some(start) => Self::Prefix(start.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether `text` is one of those meant.
    pub fn hits(&self, text: &str) -> bool {
        match self {
            Self::Exact(same) => text == &**same,
            Self::Prefix(start) => text.starts_with(&**start),
            Self::Suffix(end) => text.ends_with(&**end),
            Self::Presence => !text.is_empty(),
        }
    }
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(same) => f.write_str(same),
            Self::Prefix(start) => write!(f, "{start}*"),
            Self::Suffix(end) => write!(f, "*{end}"),
            Self::Presence => f.write_str("*"),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

impl Match {
    /// Whether no field says anything.
    pub fn is_empty(&self) -> bool {
        let Self {
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            principals,
            not_principals,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
        } = self;
        let lists: [&dyn List; 12] = [
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            principals,
            not_principals,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
        ];
        lists.iter().all(|list| list.is_empty())
    }
}
