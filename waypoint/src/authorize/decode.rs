//! The door for policies: from the wire into the engine's values.
//!
//! In: the bytes of one `lateen.proxy.Policy`. Out: a policy, or what is wrong with it; then a stand-in refuses what it
//! may have refused, so that a policy that nobody can read opens nothing.

use std::sync::Arc;

use lateen_policy::l7::{Action, Attribute, Clause, Field, FieldError, Match, Policy, Rule};
use lateen_types::{WordError, name::PolicyKey};
use lateen_wire::proxy as wire;
use prost::Message as _;

/// Why a policy cannot be used; the text goes into the NACK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The bytes are not the message.
    #[error("not a lateen.proxy.Policy: {0}")]
    Bytes(String),
    /// It has no name.
    #[error("name: {0}")]
    Name(WordError),
    /// A closed set has no such member.
    #[error("{field}: {given} is not a value this version knows; update the proxy")]
    Enum {
        /// Where.
        field: String,
        /// The number sent.
        given: i32,
    },
    /// A value of a field.
    #[error("{at}: {error}")]
    Field {
        /// Where.
        at: String,
        /// What is wrong and what would be right.
        error: FieldError,
    },
}

/// Reads one policy.
pub fn policy(bytes: &[u8]) -> Result<Policy, PolicyError> {
    let message = wire::Policy::decode(bytes).map_err(|error| PolicyError::Bytes(error.to_string()))?;
    let key: PolicyKey = format!("{}/{}", message.namespace, message.name).parse().map_err(PolicyError::Name)?;
    let action = action(message.action)
        .ok_or_else(|| PolicyError::Enum { field: "action".to_owned(), given: message.action })?;
    let rules = message.rules.into_iter().enumerate().map(|(at, one)| rule(&format!("rules[{at}]"), one));
    Ok(Policy { key, action, dry_run: message.dry_run, rules: rules.collect::<Result<_, _>>()?, unreadable: false })
}

/// What stands in for a policy that [`policy`] refused, announced as `name`, where no earlier state of it is held: an
/// ALLOW that admits nobody, or, for a DENY and for what may be one, a DENY of everything. Nothing for what says that it is
/// only tried, or only audits.
pub fn stand_in(name: &str, bytes: &[u8]) -> Option<Policy> {
    let message = wire::Policy::decode(bytes).unwrap_or_default();
    // A message without a name was not read at all, and its words are defaults.
    let was_read = !message.name.is_empty();
    let action = action(message.action).filter(|_| was_read).unwrap_or(Action::Deny);
    if was_read && (message.dry_run || action == Action::Audit) {
        return None;
    }
    Some(Policy::unreadable(key_of(name), action))
}

/// The policy in a resource's name, which ends in "<namespace>/<name>"; whatever else it is, refusals have to name it.
pub(super) fn key_of(resource: &str) -> PolicyKey {
    let mut parts = resource.rsplit('/');
    let name = parts.next().unwrap_or_default();
    PolicyKey { namespace: parts.next().unwrap_or_default().into(), name: name.into() }
}

fn action(given: i32) -> Option<Action> {
    wire::Action::try_from(given).ok().map(|action| match action {
        wire::Action::Allow => Action::Allow,
        wire::Action::Deny => Action::Deny,
        wire::Action::Audit => Action::Audit,
    })
}

fn rule(at: &str, from: wire::Rule) -> Result<Arc<Rule>, PolicyError> {
    let clauses =
        from.clauses.into_iter().enumerate().map(|(number, one)| clause(&format!("{at}.clauses[{number}]"), one));
    Ok(Arc::new(Rule { number: from.index, clauses: clauses.collect::<Result<_, _>>()? }))
}

fn clause(at: &str, from: wire::Clause) -> Result<Clause, PolicyError> {
    let one = |(number, one): (usize, wire::Match)| {
        let at = format!("{at}.matches[{number}]");
        let fields = one.fields.into_iter().map(|one| field(&at, one)).collect::<Result<_, _>>()?;
        Ok(Match { fields })
    };
    Ok(Clause { matches: from.matches.into_iter().enumerate().map(one).collect::<Result<_, _>>()? })
}

fn field(at: &str, from: wire::Field) -> Result<Field, PolicyError> {
    let attribute = attribute(&from)
        .ok_or_else(|| PolicyError::Enum { field: format!("{at}.attribute"), given: from.attribute })?;
    Field::read(attribute, &from.any, &from.none).map_err(|error| PolicyError::Field { at: at.to_owned(), error })
}

fn attribute(from: &wire::Field) -> Option<Attribute> {
    Some(match wire::Attribute::try_from(from.attribute).ok()? {
        wire::Attribute::Unspecified => return None,
        wire::Attribute::Principal => Attribute::Principal,
        wire::Attribute::SourceNamespace => Attribute::SourceNamespace,
        wire::Attribute::ServiceAccount => Attribute::ServiceAccount,
        wire::Attribute::TrustDomain => Attribute::TrustDomain,
        wire::Attribute::SourceIp => Attribute::SourceIp,
        wire::Attribute::RemoteIp => Attribute::RemoteIp,
        wire::Attribute::Host => Attribute::Host,
        wire::Attribute::Method => Attribute::Method,
        wire::Attribute::Path => Attribute::Path,
        wire::Attribute::DestinationPort => Attribute::DestinationPort,
        wire::Attribute::DestinationIp => Attribute::DestinationIp,
        wire::Attribute::Header => Attribute::Header(from.key.as_str().into()),
        wire::Attribute::Sni => Attribute::Sni,
    })
}
