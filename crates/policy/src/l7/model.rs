//! What a policy of an L7 proxy is: `policy = OR(rule)`, `rule = AND(clause)`, `clause = OR(match)`, `match = AND(field)`.
//!
//! In: fields a decoder has read. Out: the same; [`super::decide::Policies`] makes them quick to ask.

use std::sync::Arc;

use lateen_types::name::PolicyKey;

use super::{facts::Subject, field::Field};

/// What a matching policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Admits what it matches; the presence of one refuses what none matches.
    Allow,
    /// Refuses what it matches.
    Deny,
    /// Marks what it matches, and decides nothing.
    Audit,
}

/// One authorization policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub key: PolicyKey,
    /// What it does.
    pub action: Action,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
    /// Any of these must match. None at all: the policy never matches.
    pub rules: Vec<Arc<Rule>>,
    /// Set in what stands in for a policy that could not be read, which says why it refuses.
    pub unreadable: bool,
}

/// All clauses must match. None at all: the rule always matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Its number in its author's list.
    pub number: u32,
    /// The parts that are ANDed.
    pub clauses: Vec<Clause>,
}

/// Any match must match. None at all: the clause always matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clause {
    /// The parts that are ORed.
    pub matches: Vec<Match>,
}

/// All fields must hold. A match without fields never matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// The parts that are ANDed.
    pub fields: Vec<Field>,
}

impl Policy {
    /// What stands in for a policy that cannot be read: an ALLOW that admits nobody, or, for whatever else it may have
    /// been, a DENY of everything.
    pub fn unreadable(key: PolicyKey, action: Action) -> Self {
        let (action, rules) = match action {
            Action::Allow => (Action::Allow, Vec::new()),
            Action::Deny | Action::Audit => (Action::Deny, vec![Arc::new(Rule::default())]),
        };
        Self { key, action, dry_run: false, rules, unreadable: true }
    }
}

impl Rule {
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(subject))
    }

    pub(super) fn needs_sni(&self) -> bool {
        self.clauses.iter().flat_map(|clause| &clause.matches).flat_map(|one| &one.fields).any(Field::needs_sni)
    }

    fn needs_http(&self) -> bool {
        self.clauses.iter().flat_map(|clause| &clause.matches).flat_map(|one| &one.fields).any(Field::needs_http)
    }

    /// The rule for a connection that is not looked into: an ALLOW or AUDIT that asks for HTTP never matches, a DENY is
    /// enforced without what it asks of HTTP.
    pub(super) fn on_tcp(self: &Arc<Self>, action: Action) -> Option<Arc<Self>> {
        if !self.needs_http() {
            return Some(self.clone());
        }
        match action {
            Action::Allow | Action::Audit => None,
            Action::Deny => {
                let clauses = self.clauses.iter().filter_map(Clause::on_tcp).collect();
                Some(Arc::new(Self { number: self.number, clauses }))
            }
        }
    }
}

impl Clause {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.matches(subject))
    }

    /// Without the fields that ask for HTTP; nothing where that leaves a match that asks for nothing, and so holds.
    fn on_tcp(&self) -> Option<Self> {
        let asks_http_alone = |one: &Match| !one.fields.is_empty() && one.fields.iter().all(Field::needs_http);
        if self.matches.iter().any(asks_http_alone) {
            return None;
        }
        let rest = |one: &Match| Match { fields: one.fields.iter().filter(|one| !one.needs_http()).cloned().collect() };
        Some(Self { matches: self.matches.iter().map(rest).collect() })
    }
}

impl Match {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        !self.fields.is_empty() && self.fields.iter().all(|field| field.holds(subject))
    }
}
