//! May this request pass?
//!
//! In: sets of policies (of the proxy, of the service) and the facts. Out: a verdict that names who spoke.
//! Absent on purpose: logging of findings and metrics; the caller has the request's context for them.
//!
//! Order: AUDIT (noted), dry-run DENY (noted), DENY, a named policy that has not arrived, dry-run ALLOW (noted), ALLOW.
//! Of several rules that match, the first of the first set speaks. A verdict borrows its names and allocates nothing,
//! but for findings of dry-run policies.

use std::{fmt, sync::Arc};

use lateen_types::name::PolicyKey;

use super::{
    facts::{Facts, Subject},
    index::Index,
    model::{Action, Policy, Rule},
};

/// Policies that hold together, ready to be asked.
#[derive(Debug, Default)]
pub struct Policies {
    requests: Table,
    connections: Table,
    missing: Vec<PolicyKey>,
    needs_sni: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<'p> {
    /// What to do.
    pub decision: Decision<'p>,
    /// The AUDIT rule that matches.
    pub audited: Option<Speaker<'p>>,
    /// What dry-run policies would have done. Seldom anything.
    pub dry_run: Vec<DryRun<'p>>,
}

/// Pass or refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'p> {
    /// No ALLOW policy is enforced, no DENY matches.
    NothingForbids,
    /// This rule admits it.
    Allowed(Speaker<'p>),
    /// It is refused.
    Refused(Refusal<'p>),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal<'p> {
    /// A DENY policy matches.
    Denied(Speaker<'p>),
    /// There are ALLOW policies, none matches.
    NoneAllowed,
    /// A policy that holds here has not arrived, so what it forbids is not known.
    Missing(&'p PolicyKey),
    /// A policy that holds here cannot be read, so what it forbids is not known.
    Unreadable(&'p PolicyKey),
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker<'p> {
    /// The policy.
    pub policy: &'p PolicyKey,
    /// The rule's number in its author's list.
    pub rule: u32,
}

/// What a dry-run policy would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun<'p> {
    /// This rule would refuse it.
    WouldDeny(Speaker<'p>),
    /// This rule would admit it.
    WouldAllow(Speaker<'p>),
    /// The dry-run ALLOW policies, were they enforced, would refuse it: none of them matches and no ALLOW is enforced.
    WouldAllowNone,
}

impl<'p> Verdict<'p> {
    /// Whether it passes.
    pub fn is_allowed(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why it does not pass, where it does not.
    pub fn refusal(&self) -> Option<Refusal<'p>> {
        match self.decision {
            Decision::NothingForbids | Decision::Allowed(_) => None,
            Decision::Refused(refusal) => Some(refusal),
        }
    }
}

impl Refusal<'_> {
    /// One word for metrics, which never changes.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Denied(_) => "denied_by_policy",
            Self::NoneAllowed => "no_allow_policy_matched",
            Self::Missing(_) => "policy_missing",
            Self::Unreadable(_) => "policy_unreadable",
        }
    }
}

/// The response's details, as the access record has them.
impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(speaker) => write!(f, "rbac_access_denied_matched_policy[{speaker}]"),
            Self::NoneAllowed => f.write_str("rbac_access_denied_matched_policy[none]"),
            Self::Missing(key) => {
                write!(f, "rbac_access_denied_policy_missing[ns[{}]-policy[{}]]", key.namespace, key.name)
            }
            Self::Unreadable(key) => {
                write!(f, "rbac_access_denied_policy_unreadable[ns[{}]-policy[{}]]", key.namespace, key.name)
            }
        }
    }
}

/// The reference's id of a rule.
impl fmt::Display for Speaker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ns[{}]-policy[{}]-rule[{}]", self.policy.namespace, self.policy.name, self.rule)
    }
}

impl Policies {
    /// Policies that hold together; `missing` are those that hold too and have not arrived.
    pub fn new(policies: &[Arc<Policy>], missing: Vec<PolicyKey>) -> Self {
        Self {
            requests: Table::new(policies, |rule, _| Some(rule.clone())),
            connections: Table::new(policies, Rule::on_tcp),
            missing,
            needs_sni: policies.iter().flat_map(|policy| &policy.rules).any(|rule| rule.needs_sni()),
        }
    }

    /// Whether nothing holds here at all.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.requests.is_empty()
    }

    /// Whether a connection's server name must be known before it is judged.
    pub fn needs_sni(&self) -> bool {
        self.needs_sni
    }

    fn table(&self, facts: &Facts<'_>) -> &Table {
        if facts.request.is_some() { &self.requests } else { &self.connections }
    }
}

/// Decides by all `sets` together.
pub fn decide<'p>(sets: &[&'p Policies], facts: &Facts<'_>) -> Verdict<'p> {
    let subject = Subject::of(facts);
    let tables = || sets.iter().map(|set| set.table(facts));
    let first = |of: fn(&Table) -> &Stage| tables().find_map(|table| of(table).first(&subject));
    let any = |of: fn(&Table) -> &Stage| tables().any(|table| of(table).exists);

    let audited = first(|table| &table.audit).map(Ruling::speaker);
    let mut dry_run = Vec::new();
    dry_run.extend(first(|table| &table.dry_run_deny).map(|ruling| DryRun::WouldDeny(ruling.speaker())));
    let missing = || sets.iter().find_map(|set| set.missing.first()).map(Refusal::Missing);
    // A known DENY speaks before a missing policy: it tells more.
    if let Some(refusal) = first(|table| &table.deny).map(Ruling::refusal).or_else(missing) {
        return Verdict { decision: Decision::Refused(refusal), audited, dry_run };
    }
    let allow_exists = any(|table| &table.allow);
    match first(|table| &table.dry_run_allow) {
        Some(ruling) => dry_run.push(DryRun::WouldAllow(ruling.speaker())),
        None if !allow_exists && any(|table| &table.dry_run_allow) => dry_run.push(DryRun::WouldAllowNone),
        None => {}
    }
    let decision = match (allow_exists, first(|table| &table.allow)) {
        (false, _) => Decision::NothingForbids,
        (true, Some(ruling)) => Decision::Allowed(ruling.speaker()),
        (true, None) => Decision::Refused(Refusal::NoneAllowed),
    };
    Verdict { decision, audited, dry_run }
}

/// The rules of all policies, by what their match means.
#[derive(Debug, Default)]
struct Table {
    audit: Stage,
    dry_run_deny: Stage,
    deny: Stage,
    dry_run_allow: Stage,
    allow: Stage,
}

impl Table {
    fn new(policies: &[Arc<Policy>], kept: impl Fn(&Arc<Rule>, Action) -> Option<Arc<Rule>>) -> Self {
        let stage = |action: Action, dry_run: bool| {
            let of_kind = policies.iter().filter(|policy| policy.action == action && policy.dry_run == dry_run);
            let exists = of_kind.clone().next().is_some();
            let of_policy = |policy: &Arc<Policy>| {
                let rules = policy.rules.iter().filter_map(|rule| kept(rule, action)).collect::<Vec<_>>();
                let policy = policy.clone();
                rules.into_iter().map(move |rule| Ruling { policy: policy.clone(), rule })
            };
            Stage::new(exists, of_kind.flat_map(of_policy).collect())
        };
        Self {
            audit: stage(Action::Audit, false),
            dry_run_deny: stage(Action::Deny, true),
            deny: stage(Action::Deny, false),
            dry_run_allow: stage(Action::Allow, true),
            allow: stage(Action::Allow, false),
        }
    }

    fn is_empty(&self) -> bool {
        [&self.audit, &self.dry_run_deny, &self.deny, &self.dry_run_allow, &self.allow].iter().all(|one| !one.exists)
    }
}

/// The rules of one step, in their order.
#[derive(Debug, Default)]
struct Stage {
    /// Whether there is a policy of this kind; it may be without rules.
    exists: bool,
    rulings: Box<[Ruling]>,
    index: Index,
}

/// A rule, with the policy it is of.
#[derive(Debug)]
struct Ruling {
    policy: Arc<Policy>,
    rule: Arc<Rule>,
}

impl Ruling {
    fn speaker(&self) -> Speaker<'_> {
        Speaker { policy: &self.policy.key, rule: self.rule.number }
    }

    fn refusal(&self) -> Refusal<'_> {
        if self.policy.unreadable {
            return Refusal::Unreadable(&self.policy.key);
        }
        Refusal::Denied(self.speaker())
    }
}

impl Stage {
    fn new(exists: bool, rulings: Vec<Ruling>) -> Self {
        let index = Index::of(rulings.iter().map(|ruling| &*ruling.rule));
        Self { exists, rulings: rulings.into(), index }
    }

    /// The first rule that matches.
    fn first(&self, subject: &Subject<'_>) -> Option<&Ruling> {
        if self.rulings.is_empty() {
            return None;
        }
        let mut best = self.rulings.len();
        self.index.each(subject, &mut |bucket| {
            let sooner = bucket.iter().map(|at| *at as usize).take_while(|at| *at < best);
            if let Some(at) = sooner.into_iter().find(|at| self.rulings[*at].rule.matches(subject)) {
                best = at;
            }
        });
        self.rulings.get(best)
    }
}

#[cfg(test)]
impl Policies {
    /// How many DENY rules a decision looks at.
    pub(super) fn looked_at(&self, facts: &Facts<'_>) -> usize {
        let mut count = 0;
        self.table(facts).deny.index.each(&Subject::of(facts), &mut |bucket| count += bucket.len());
        count
    }
}
