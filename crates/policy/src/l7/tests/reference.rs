//! The slow, obvious evaluator: the words of the spec, over plain lists, sharing no code with the engine.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    l7::{Action, Attribute},
    tests::reference::{PlainBlock, in_block, text_matches},
};

#[derive(Debug, Clone)]
pub struct PlainPolicy {
    pub name: String,
    pub action: Action,
    pub dry_run: bool,
    /// Rules of clauses of matches of fields.
    pub rules: Vec<Vec<Vec<Vec<PlainField>>>>,
}

#[derive(Debug, Clone)]
pub struct PlainField {
    pub attribute: Attribute,
    pub any: Vec<String>,
    pub none: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct PlainFacts {
    /// Trust domain, namespace, account.
    pub identity: Option<[&'static str; 3]>,
    pub source_ip: IpAddr,
    pub remote_ip: IpAddr,
    pub destination_ip: IpAddr,
    pub port: u16,
    pub sni: Option<&'static str>,
    pub request: Option<PlainRequest>,
}

#[derive(Debug, Clone)]
pub struct PlainRequest {
    pub host: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub headers: Vec<(String, String)>,
}

/// What is expected: the decision, the audit, what dry-run policies would do; a rule is `policy:number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub decision: String,
    pub audited: Option<String>,
    pub dry_run: Vec<String>,
}

pub fn expected(policies: &[PlainPolicy], missing: Option<&str>, facts: &PlainFacts) -> Expected {
    let first = |action: Action, dry_run: bool| -> Option<String> {
        for policy in policies.iter().filter(|policy| policy.action == action && policy.dry_run == dry_run) {
            for (number, rule) in policy.rules.iter().enumerate() {
                if rule_matches(action, rule, facts) {
                    return Some(format!("{}:{number}", policy.name));
                }
            }
        }
        None
    };
    let exists = |dry_run: bool| policies.iter().any(|one| one.action == Action::Allow && one.dry_run == dry_run);
    let audited = first(Action::Audit, false);
    let mut dry_run: Vec<String> = Vec::new();
    dry_run.extend(first(Action::Deny, true).map(|rule| format!("would deny {rule}")));
    if let Some(rule) = first(Action::Deny, false) {
        return Expected { decision: format!("denied {rule}"), audited, dry_run };
    }
    if let Some(name) = missing {
        return Expected { decision: format!("missing {name}"), audited, dry_run };
    }
    if let Some(rule) = first(Action::Allow, true) {
        dry_run.push(format!("would allow {rule}"));
    } else if exists(true) && !exists(false) {
        dry_run.push("would allow none".to_owned());
    }
    let decision = if !exists(false) {
        "nothing forbids".to_owned()
    } else if let Some(rule) = first(Action::Allow, false) {
        format!("allowed {rule}")
    } else {
        "none allowed".to_owned()
    };
    Expected { decision, audited, dry_run }
}

fn is_http(attribute: &Attribute) -> bool {
    matches!(attribute, Attribute::Host | Attribute::Method | Attribute::Path | Attribute::Header(_))
}

fn rule_matches(action: Action, rule: &[Vec<Vec<PlainField>>], facts: &PlainFacts) -> bool {
    let is_tcp = facts.request.is_none();
    let asks_http = rule.iter().flatten().flatten().any(|field| is_http(&field.attribute));
    if is_tcp && asks_http && action != Action::Deny {
        return false;
    }
    for clause in rule {
        let mut holds = clause.is_empty();
        for one in clause {
            // On TCP what a DENY asks of HTTP is passed over, and so holds.
            let fields_hold =
                one.iter().all(|field| (is_tcp && is_http(&field.attribute)) || field_holds(field, facts));
            holds |= !one.is_empty() && fields_hold;
        }
        if !holds {
            return false;
        }
    }
    true
}

fn field_holds(field: &PlainField, facts: &PlainFacts) -> bool {
    let hit = |values: &Vec<String>| values.iter().any(|value| value_hits(&field.attribute, value, facts));
    (field.any.is_empty() || hit(&field.any)) && !hit(&field.none)
}

fn value_hits(attribute: &Attribute, value: &str, facts: &PlainFacts) -> bool {
    let request = facts.request.as_ref();
    let Some([domain, namespace, account]) = facts.identity else {
        return match attribute {
            Attribute::Principal | Attribute::SourceNamespace | Attribute::ServiceAccount | Attribute::TrustDomain => {
                false
            }
            _ => without_identity(attribute, value, facts, request),
        };
    };
    match attribute {
        Attribute::Principal => text_matches(value, &format!("{domain}/ns/{namespace}/sa/{account}")),
        Attribute::SourceNamespace => glob_matches(value, namespace),
        Attribute::ServiceAccount => value == format!("{namespace}/{account}"),
        Attribute::TrustDomain => text_matches(value, domain),
        _ => without_identity(attribute, value, facts, request),
    }
}

fn without_identity(attribute: &Attribute, value: &str, facts: &PlainFacts, request: Option<&PlainRequest>) -> bool {
    match attribute {
        Attribute::SourceIp => block_has(value, facts.source_ip),
        Attribute::RemoteIp => block_has(value, facts.remote_ip),
        Attribute::DestinationIp => block_has(value, facts.destination_ip),
        Attribute::DestinationPort => value == facts.port.to_string(),
        Attribute::Sni => facts.sni.is_some_and(|name| text_matches(value, name)),
        Attribute::Host => request.is_some_and(|one| text_matches(&value.to_lowercase(), &one.host.to_lowercase())),
        Attribute::Method => request.is_some_and(|one| text_matches(value, one.method)),
        Attribute::Path if value.contains('{') => request.is_some_and(|one| template_matches(value, one.path)),
        Attribute::Path => request.is_some_and(|one| text_matches(value, one.path)),
        Attribute::Header(name) => {
            let of_name = |one: &PlainRequest| -> Vec<String> {
                one.headers.iter().filter(|(header, _)| **header == **name).map(|(_, value)| value.clone()).collect()
            };
            let values = request.map(of_name).unwrap_or_default();
            !values.is_empty() && (value == "*" || text_matches(value, &values.join(",")))
        }
        Attribute::Principal | Attribute::SourceNamespace | Attribute::ServiceAccount | Attribute::TrustDomain => false,
    }
}

fn block_has(value: &str, ip: IpAddr) -> bool {
    let net: IpNet = value.parse().unwrap_or_else(|_| IpNet::from(value.parse::<IpAddr>().expect("an address")));
    in_block(PlainBlock { base: net.addr(), length: net.prefix_len() }, ip)
}

/// Tries everything a star may stand for.
fn glob_matches(glob: &str, text: &str) -> bool {
    match glob.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|at| glob_matches(&glob[1..], &text[at..])),
        Some(c) => text.starts_with(c) && glob_matches(&glob[c.len_utf8()..], &text[c.len_utf8()..]),
    }
}

/// Tries everything an operator may stand for.
fn template_matches(template: &str, path: &str) -> bool {
    if let Some(rest) = template.strip_prefix("{**}") {
        return (0..=path.len()).any(|at| template_matches(rest, &path[at..]));
    }
    if let Some(rest) = template.strip_prefix("{*}") {
        let segment = path.find('/').unwrap_or(path.len());
        return segment > 0 && template_matches(rest, &path[segment..]);
    }
    match template.chars().next() {
        None => path.is_empty(),
        Some(c) => path.starts_with(c) && template_matches(&template[c.len_utf8()..], &path[c.len_utf8()..]),
    }
}
