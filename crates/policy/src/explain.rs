//! For people: what every policy said about a connection, and what stopped each rule.
//!
//! In: what [`crate::decide`] takes. Out: findings in the order of the policies, with the same matching code behind.
//! Absent on purpose: deciding; the verdict comes from [`crate::decide`] alone.

use lateen_types::name::PolicyKey;

use crate::{
    decide::{Facts, Miss},
    model::{Action, Policy, Rule},
};

/// What one policy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFinding {
    /// The policy.
    pub policy: PolicyKey,
    /// What it does when it matches.
    pub action: Action,
    /// Whether it is only tried out.
    pub dry_run: bool,
    /// One finding for each of its rules, in order. A policy without rules never matches.
    pub rules: Vec<RuleFinding>,
}

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleFinding {
    /// It matches.
    Matched,
    /// This clause (counted from 0) stopped it.
    Stopped {
        /// Which clause.
        clause: usize,
        /// What failed in each of the clause's matches.
        misses: Vec<Miss>,
    },
}

impl PolicyFinding {
    /// Whether any rule matches.
    pub fn matched(&self) -> bool {
        self.rules.contains(&RuleFinding::Matched)
    }
}

/// Asks every policy and every rule.
pub fn explain(policies: &[&Policy], facts: &Facts<'_>) -> Vec<PolicyFinding> {
    policies
        .iter()
        .map(|policy| PolicyFinding {
            policy: policy.key.clone(),
            action: policy.action,
            dry_run: policy.dry_run,
            rules: policy.rules.iter().map(|rule| explain_rule(rule, facts)).collect(),
        })
        .collect()
}

fn explain_rule(rule: &Rule, facts: &Facts<'_>) -> RuleFinding {
    match rule.clauses.iter().position(|clause| !clause.matches(facts)) {
        None => RuleFinding::Matched,
        Some(clause) => RuleFinding::Stopped {
            clause,
            misses: rule.clauses[clause].matches.iter().filter_map(|one| one.miss(facts)).collect(),
        },
    }
}
