//! `AuthorizationPolicy` as a waypoint or gateway enforces it.
//!
//! In: one policy. Out: the policy on the wire, if any, and what of it cannot be enforced, each with its field and why.
//!
//! What cannot be enforced never opens anything: a rule of an ALLOW or AUDIT policy that has such a part is left out, and
//! of a DENY rule only that part is, so that it refuses more than was asked. A part of a DENY that loses all it asks holds
//! for everything. CUSTOM refuses whatever it would have asked its provider about.
//! Absent on purpose: which proxies and services a policy is for (see `attach`).

use lateen_cluster::{
    api::{Action, Condition as When, Operation, Rule, Source},
    store::Key,
};
use lateen_policy::l7::{self, Field};
use lateen_wire::proxy as wire;

use crate::{derive::Mesh, facts::AuthorizationPolicy};

/// What becomes of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// What waypoints and gateways enforce.
    pub policy: wire::Policy,
    /// `field: why` of everything that they cannot.
    pub lost: Vec<String>,
    /// What that means for who is refused; nothing where nothing is lost.
    pub consequence: Option<&'static str>,
}

/// The L7 side of an authorization policy.
pub fn derive(mesh: &Mesh, key: &Key, policy: &AuthorizationPolicy) -> Derived {
    let written = policy.spec.action.unwrap_or(Action::Allow);
    let action = match written {
        Action::Allow => wire::Action::Allow,
        Action::Deny | Action::Custom => wire::Action::Deny,
        Action::Audit => wire::Action::Audit,
    };
    let mut reader = Reader { mesh, namespace: &key.namespace, path: String::new(), lost: Vec::new() };
    let mut rules = Vec::new();
    for (at, rule) in (0u32..).zip(policy.spec.rules.iter().flatten()) {
        let before = reader.lost.len();
        let clauses = reader.rule(at, rule);
        if action == wire::Action::Deny || reader.lost.len() == before {
            rules.push(wire::Rule { index: at, clauses });
        }
    }
    let mut lost = reader.lost;
    let mut consequence = match action {
        _ if lost.is_empty() => None,
        wire::Action::Deny => {
            Some("rules of a DENY policy are enforced without them, which refuses more than requested")
        }
        wire::Action::Allow => {
            Some("rules of an ALLOW policy that use them are left out, which refuses more than requested")
        }
        wire::Action::Audit => Some("rules of an AUDIT policy that use them are left out"),
    };
    if written == Action::Custom {
        lost.insert(0, "spec.action: CUSTOM asks an external provider, which is not yet supported".to_owned());
        consequence = Some("whatever its rules match is refused");
    }
    let policy = wire::Policy {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        action: action.into(),
        // A provider that would not be asked in earnest is not asked at all.
        dry_run: policy.dry_run,
        rules,
    };
    Derived { policy, lost, consequence }
}

const NEEDS_TOKEN: &str = "needs a JSON web token, which is not yet supported";

/// Reads rules, noting what cannot be enforced.
struct Reader<'a> {
    mesh: &'a Mesh,
    namespace: &'a str,
    lost: Vec<String>,
    /// Where we are.
    path: String,
}

/// A field as it is written: attribute, key, values, values that must not be.
struct Written<'w> {
    name: &'w str,
    attribute: wire::Attribute,
    any: Option<&'w Vec<String>>,
    none: Option<&'w Vec<String>>,
}

impl Reader<'_> {
    fn rule(&mut self, at: u32, rule: &Rule) -> Vec<wire::Clause> {
        let mut clauses = Vec::new();
        let mut from = Vec::new();
        for (number, one) in rule.from.iter().flatten().enumerate() {
            self.path = format!("spec.rules[{at}].from[{number}].source");
            from.push(match &one.source {
                Some(source) => self.source(source),
                None => self.nothing(),
            });
        }
        let mut to = Vec::new();
        for (number, one) in rule.to.iter().flatten().enumerate() {
            self.path = format!("spec.rules[{at}].to[{number}].operation");
            to.push(match &one.operation {
                Some(operation) => self.operation(operation),
                None => self.nothing(),
            });
        }
        clauses.extend(clause(from));
        clauses.extend(clause(to));
        for (number, when) in rule.when.iter().flatten().enumerate() {
            self.path = format!("spec.rules[{at}].when[{number}]");
            let one = self.condition(when);
            clauses.extend(clause(vec![one]));
        }
        clauses
    }

    /// Something that must say what it asks, and does not.
    fn nothing(&mut self) -> Vec<wire::Field> {
        self.lost.push(format!("{}: nothing is asked here; set a field, or remove the entry", self.path));
        Vec::new()
    }

    fn source(&mut self, source: &Source) -> Vec<wire::Field> {
        let before = self.lost.len();
        for (name, values) in [
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ] {
            if values.as_ref().is_some_and(|values| !values.is_empty()) {
                self.lost.push(format!("{}.{name}: it {NEEDS_TOKEN}", self.path));
            }
        }
        use wire::Attribute as A;
        let written = |name, attribute, any, none| Written { name, attribute, any, none };
        let all = [
            written("principals", A::Principal, source.principals.as_ref(), source.not_principals.as_ref()),
            written("namespaces", A::SourceNamespace, source.namespaces.as_ref(), source.not_namespaces.as_ref()),
            written(
                "serviceAccounts",
                A::ServiceAccount,
                source.service_accounts.as_ref(),
                source.not_service_accounts.as_ref(),
            ),
            written("trustDomains", A::TrustDomain, source.trust_domains.as_ref(), source.not_trust_domains.as_ref()),
            written("ipBlocks", A::SourceIp, source.ip_blocks.as_ref(), source.not_ip_blocks.as_ref()),
            written(
                "remoteIpBlocks",
                A::RemoteIp,
                source.remote_ip_blocks.as_ref(),
                source.not_remote_ip_blocks.as_ref(),
            ),
        ];
        self.fields(&all, before)
    }

    fn operation(&mut self, operation: &Operation) -> Vec<wire::Field> {
        use wire::Attribute as A;
        let written = |name, attribute, any, none| Written { name, attribute, any, none };
        let all = [
            written("hosts", A::Host, operation.hosts.as_ref(), operation.not_hosts.as_ref()),
            written("ports", A::DestinationPort, operation.ports.as_ref(), operation.not_ports.as_ref()),
            written("methods", A::Method, operation.methods.as_ref(), operation.not_methods.as_ref()),
            written("paths", A::Path, operation.paths.as_ref(), operation.not_paths.as_ref()),
        ];
        let before = self.lost.len();
        self.fields(&all, before)
    }

    fn condition(&mut self, when: &When) -> Vec<wire::Field> {
        use wire::Attribute as A;
        let before = self.lost.len();
        let attribute = match when.key.as_str() {
            "source.ip" => A::SourceIp,
            "remote.ip" => A::RemoteIp,
            "source.namespace" => A::SourceNamespace,
            "source.serviceAccount" => A::ServiceAccount,
            "source.principal" => A::Principal,
            "source.trustDomain" => A::TrustDomain,
            "destination.ip" => A::DestinationIp,
            "destination.port" => A::DestinationPort,
            "connection.sni" => A::Sni,
            key if header_of(key).is_some() => A::Header,
            key => {
                let why = if key.starts_with("request.auth.") { NEEDS_TOKEN } else { "is not supported" };
                self.lost.push(format!("{}.key: {key} {why}", self.path));
                return Vec::new();
            }
        };
        let written = Written { name: "values", attribute, any: when.values.as_ref(), none: when.not_values.as_ref() };
        let mut fields = self.fields(&[written], before);
        if let Some(name) = header_of(&when.key) {
            fields.iter_mut().for_each(|field| name.to_ascii_lowercase().clone_into(&mut field.key));
        }
        fields
    }

    /// The fields that say something; one with a value that cannot be read is lost whole.
    fn fields(&mut self, all: &[Written<'_>], lost_before: usize) -> Vec<wire::Field> {
        let mut fields = Vec::new();
        for one in all {
            let (any, none) = (self.values(one, one.any), self.values(one, one.none));
            if any.is_empty() && none.is_empty() {
                continue;
            }
            let field = wire::Field { attribute: one.attribute.into(), key: String::new(), any, none };
            match readable(&field) {
                Ok(()) => fields.push(field),
                Err(why) => self.lost.push(format!("{}.{}: {why}", self.path, one.name)),
            }
        }
        if fields.is_empty() && self.lost.len() == lost_before {
            return self.nothing();
        }
        fields
    }

    fn values(&self, of: &Written<'_>, values: Option<&Vec<String>>) -> Vec<String> {
        let texts = values.into_iter().flatten();
        match of.attribute {
            wire::Attribute::ServiceAccount => texts
                .map(|text| if text.contains('/') { text.clone() } else { format!("{}/{text}", self.namespace) })
                .collect(),
            wire::Attribute::Principal => texts.map(|text| self.principal(text)).collect(),
            _ => texts.cloned().collect(),
        }
    }

    /// `cluster.local` stands for the mesh's own trust domain, whatever that is called.
    fn principal(&self, text: &str) -> String {
        match text.strip_prefix("cluster.local/") {
            Some(rest) => format!("{}/{rest}", self.mesh.trust_domain),
            None => text.to_owned(),
        }
    }
}

/// The header of `request.headers[…]`.
fn header_of(key: &str) -> Option<&str> {
    let name = key.strip_prefix("request.headers[")?.strip_suffix(']')?;
    (!name.is_empty()).then_some(name)
}

/// What the proxy will make of the values, asked of the same code.
fn readable(field: &wire::Field) -> Result<(), String> {
    use l7::Attribute as A;
    let attribute = match field.attribute() {
        wire::Attribute::SourceIp => A::SourceIp,
        wire::Attribute::RemoteIp => A::RemoteIp,
        wire::Attribute::DestinationIp => A::DestinationIp,
        wire::Attribute::DestinationPort => A::DestinationPort,
        wire::Attribute::ServiceAccount => A::ServiceAccount,
        wire::Attribute::Path => A::Path,
        // Any text can be read.
        wire::Attribute::Unspecified
        | wire::Attribute::Principal
        | wire::Attribute::SourceNamespace
        | wire::Attribute::TrustDomain
        | wire::Attribute::Host
        | wire::Attribute::Method
        | wire::Attribute::Header
        | wire::Attribute::Sni => return Ok(()),
    };
    let read = Field::read(attribute, &field.any, &field.none);
    read.map(|_| ()).map_err(|error| format!("{:?} cannot be read: {}", error.value, error.reason))
}

/// The clause of some alternatives. One that asks for nothing any more holds for everything, and with it the clause: in a
/// rule that is sent only a DENY's part has lost what it asked.
fn clause(alternatives: Vec<Vec<wire::Field>>) -> Option<wire::Clause> {
    if alternatives.is_empty() || alternatives.iter().any(Vec::is_empty) {
        return None;
    }
    Some(wire::Clause { matches: alternatives.into_iter().map(|fields| wire::Match { fields }).collect() })
}
