//! One field of a match: an attribute, what it must be one of, what it must be none of.
//!
//! In: values in the notation of AuthorizationPolicy. Out: a field that says whether it holds, or the value that cannot
//! be read and how to mend it.
//!
//! An attribute that is not there (no identity, no header, no server name) hits nothing, so that positive lists fail and
//! negative ones hold.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use lateen_types::id::SpiffeId;

use super::{
    facts::Subject,
    index::{Key, Keys, Words},
    template::Template,
    text::{Namespaces, Paths, Values},
};
use crate::{
    compile::{Accounts, Blocks, List, Ports, Strings},
    decide::holds,
    model::{Account, StringMatch},
};

/// What a field is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// The caller's identity without `spiffe://`.
    Principal,
    /// The caller's namespace; a `*` anywhere stands for anything.
    SourceNamespace,
    /// The caller's account, `<namespace>/<account>`, in any trust domain.
    ServiceAccount,
    /// The caller's trust domain.
    TrustDomain,
    /// Where the call comes from.
    SourceIp,
    /// Where trusted proxies say that it comes from.
    RemoteIp,
    /// The host, without case.
    Host,
    /// The method.
    Method,
    /// The path, also as a template.
    Path,
    /// The service's port.
    DestinationPort,
    /// The service's address.
    DestinationIp,
    /// The header of this name.
    Header(Arc<str>),
    /// The server name of the caller's TLS.
    Sni,
}

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The attribute.
    pub attribute: Attribute,
    /// The value.
    pub value: String,
    /// What is wrong, and what would be right.
    pub reason: &'static str,
}

impl std::error::Error for FieldError {}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.attribute, self.value, self.reason)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Principal => "source.principal",
            Self::SourceNamespace => "source.namespace",
            Self::ServiceAccount => "source.serviceAccount",
            Self::TrustDomain => "source.trustDomain",
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::Host => "host",
            Self::Method => "method",
            Self::Path => "path",
            Self::DestinationPort => "destination.port",
            Self::DestinationIp => "destination.ip",
            Self::Header(name) => return write!(f, "request.headers[{name}]"),
            Self::Sni => "connection.sni",
        };
        f.write_str(word)
    }
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(Test);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Word(Word, Sides<Strings>),
    Namespace(Sides<Namespaces>),
    Account(Sides<Accounts>),
    Ip(Place, Sides<Blocks>),
    Port(Sides<Ports>),
    Path(Sides<Paths>),
    Header(Arc<str>, Sides<Values>),
}

/// The attributes that are one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Principal,
    TrustDomain,
    Host,
    Method,
    Sni,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Source,
    Remote,
    Destination,
}

/// What it must be one of, if there is any, and what it must be none of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sides<L> {
    any: L,
    none: L,
}

impl<L: List> Sides<L> {
    fn hold(&self, hits: impl Fn(&L) -> bool) -> bool {
        holds(&self.any, &self.none, hits)
    }
}

impl Field {
    /// Reads a field.
    pub fn read(attribute: Attribute, any: &[String], none: &[String]) -> Result<Self, FieldError> {
        let sides = Written { attribute: &attribute, any, none };
        let test = match &attribute {
            Attribute::Principal => Test::Word(Word::Principal, sides.strings()),
            Attribute::TrustDomain => Test::Word(Word::TrustDomain, sides.strings()),
            Attribute::Method => Test::Word(Word::Method, sides.strings()),
            Attribute::Sni => Test::Word(Word::Sni, sides.strings()),
            Attribute::Host => Test::Word(
                Word::Host,
                sides.of(|texts| {
                    texts.iter().map(|text| StringMatch::from_notation(&text.to_ascii_lowercase())).collect()
                }),
            ),
            Attribute::SourceNamespace => Test::Namespace(sides.of(|texts| texts.iter().map(String::as_str).collect())),
            Attribute::ServiceAccount => Test::Account(sides.each(account)?),
            Attribute::SourceIp => Test::Ip(Place::Source, sides.each(block)?),
            Attribute::RemoteIp => Test::Ip(Place::Remote, sides.each(block)?),
            Attribute::DestinationIp => Test::Ip(Place::Destination, sides.each(block)?),
            Attribute::DestinationPort => Test::Port(sides.each(port)?),
            Attribute::Path => Test::Path(Sides { any: sides.paths(any)?, none: sides.paths(none)? }),
            Attribute::Header(name) => Test::Header(
                name.to_ascii_lowercase().into(),
                sides.of(|texts| texts.iter().map(String::as_str).collect()),
            ),
        };
        Ok(Self(test))
    }

    /// Whether it can only be asked of an HTTP request.
    pub(super) fn needs_http(&self) -> bool {
        match &self.0 {
            Test::Word(Word::Host | Word::Method, _) | Test::Path(_) | Test::Header(..) => true,
            Test::Word(Word::Principal | Word::TrustDomain | Word::Sni, _)
            | Test::Namespace(_)
            | Test::Account(_)
            | Test::Ip(..)
            | Test::Port(_) => false,
        }
    }

    /// Whether it asks for the server name of TLS.
    pub(super) fn needs_sni(&self) -> bool {
        matches!(self.0, Test::Word(Word::Sni, _))
    }

    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        let facts = subject.facts;
        match &self.0 {
            Test::Word(word, sides) => {
                let text = word.of(subject);
                sides.hold(|list| text.is_some_and(|text| list.hits(text)))
            }
            Test::Namespace(sides) => {
                let namespace = subject.namespace();
                sides.hold(|list| namespace.is_some_and(|namespace| list.hits(namespace)))
            }
            Test::Account(sides) => sides.hold(|list| facts.identity.is_some_and(|id: &SpiffeId| list.hits(id))),
            Test::Ip(place, sides) => {
                let ip = place.of(subject);
                sides.hold(|list| list.hits(ip))
            }
            Test::Port(sides) => sides.hold(|list| list.hits(facts.destination.port())),
            Test::Path(sides) => {
                let path = subject.path();
                sides.hold(|list| path.is_some_and(|path| list.hits(path)))
            }
            Test::Header(name, sides) => {
                let value = subject.header(name);
                sides.hold(|list| value.as_deref().is_some_and(|value| list.hits(value)))
            }
        }
    }

    /// The keys one of which a request must have for the field to hold; `None` where no such list can be made.
    pub(super) fn keys(&self) -> Option<Keys> {
        let words = |words: Words, list: &Strings| -> Option<Keys> {
            list.iter().map(|entry| Key::of(words.clone(), &entry)).collect()
        };
        let keys = match &self.0 {
            Test::Word(word, sides) => words(word.words(), &sides.any)?,
            Test::Namespace(sides) if sides.any.is_plain() => words(Words::Namespace, &sides.any.plain)?,
            Test::Account(sides) => sides.any.iter().cloned().map(Key::Account).collect(),
            Test::Port(sides) => sides.any.iter().map(Key::Port).collect(),
            Test::Path(sides) => {
                let mut keys = words(Words::Path, &sides.any.plain)?;
                let beginning =
                    |template: &Template| Key::of(Words::Path, &StringMatch::Prefix(template.beginning().clone()));
                keys.extend(sides.any.templates.iter().filter_map(beginning));
                keys
            }
            Test::Header(name, sides) if !sides.any.is_any() => words(Words::Header(name.clone()), &sides.any.plain)?,
            Test::Namespace(_) | Test::Ip(..) | Test::Header(..) => return None,
        };
        (!keys.is_empty()).then_some(keys)
    }
}

impl Word {
    fn of<'s>(self, subject: &'s Subject<'_>) -> Option<&'s str> {
        match self {
            Self::Principal => subject.principal(),
            Self::TrustDomain => subject.trust_domain(),
            Self::Host => subject.host(),
            Self::Method => subject.method(),
            Self::Sni => subject.sni(),
        }
    }

    fn words(self) -> Words {
        match self {
            Self::Principal => Words::Principal,
            Self::TrustDomain => Words::TrustDomain,
            Self::Host => Words::Host,
            Self::Method => Words::Method,
            Self::Sni => Words::Sni,
        }
    }
}

impl Place {
    fn of(self, subject: &Subject<'_>) -> IpAddr {
        match self {
            Self::Source => subject.facts.source_ip,
            Self::Remote => subject.facts.remote_ip,
            Self::Destination => subject.facts.destination.ip(),
        }
    }
}

/// A field as it came.
struct Written<'w> {
    attribute: &'w Attribute,
    any: &'w [String],
    none: &'w [String],
}

impl Written<'_> {
    fn of<L>(&self, read: impl Fn(&[String]) -> L) -> Sides<L> {
        Sides { any: read(self.any), none: read(self.none) }
    }

    fn strings(&self) -> Sides<Strings> {
        self.of(|texts| texts.iter().map(|text| StringMatch::from_notation(text)).collect())
    }

    fn each<T, L: FromIterator<T>>(
        &self,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Sides<L>, FieldError> {
        let one = |text: &String| read(text).map_err(|why| self.wrong(text, why));
        let list = |texts: &[String]| texts.iter().map(one).collect::<Result<L, FieldError>>();
        Ok(Sides { any: list(self.any)?, none: list(self.none)? })
    }

    fn paths(&self, texts: &[String]) -> Result<Paths, FieldError> {
        let (templates, plain): (Vec<&String>, Vec<&String>) = texts.iter().partition(|text| Template::is_one(text));
        let read = |text: &&String| Template::read(text).map_err(|why| self.wrong(text, why));
        Ok(Paths {
            plain: plain.into_iter().map(|text| StringMatch::from_notation(text)).collect(),
            templates: templates.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    fn wrong(&self, value: &str, reason: &'static str) -> FieldError {
        FieldError { attribute: self.attribute.clone(), value: value.to_owned(), reason }
    }
}

fn account(text: &str) -> Result<Account, &'static str> {
    match text.split_once('/') {
        Some((namespace, account)) if !namespace.is_empty() && !account.is_empty() && !account.contains('/') => {
            Ok(Account { namespace: namespace.into(), service_account: account.into() })
        }
        Some(_) | None => Err("use <namespace>/<account>"),
    }
}

fn block(text: &str) -> Result<IpNet, &'static str> {
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(alone).ok_or("use an address, or a block such as 10.0.0.0/8")
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "use a port number, 0 to 65535")
}
