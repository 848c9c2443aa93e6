//! What is known of one request, or of one connection that carries no HTTP.
//!
//! In: borrowed words of the caller. Out: the same, as the attributes policies ask for.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
};

use lateen_types::id::SpiffeId;

/// The facts one verdict is asked with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who the peer's certificate says it is; `None` for plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// The client's own address: of a tunnel, the one it carries.
    pub source_ip: IpAddr,
    /// The client as trusted proxies in front name it; without such, `source_ip`.
    pub remote_ip: IpAddr,
    /// The address and the port of the service, as the client dialled it.
    pub destination: SocketAddr,
    /// The server name of the client's own TLS.
    pub sni: Option<&'a str>,
    /// The request; `None` for a connection that is not looked into.
    pub request: Option<Request<'a>>,
}

/// One HTTP request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// As sent, with the port if the client sent one.
    pub host: &'a str,
    /// As sent.
    pub method: &'a str,
    /// Normalised, without query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
}

/// A request's headers.
pub trait Headers: fmt::Debug {
    /// The values of `name`, which is in lower case, joined with ","; `None` where there is none.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// The facts with what many fields ask for made once.
#[derive(Debug)]
pub(super) struct Subject<'f> {
    pub(super) facts: &'f Facts<'f>,
    /// In lower case: hosts are compared without case.
    pub(super) host: Option<Cow<'f, str>>,
}

impl<'f> Subject<'f> {
    pub(super) fn of(facts: &'f Facts<'f>) -> Self {
        let lower = |host: &'f str| match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        Self { facts, host: facts.request.as_ref().map(|request| lower(request.host)) }
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    pub(super) fn method(&self) -> Option<&str> {
        self.facts.request.as_ref().map(|request| request.method)
    }

    pub(super) fn path(&self) -> Option<&str> {
        self.facts.request.as_ref().map(|request| request.path)
    }

    pub(super) fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.facts.request.as_ref().and_then(|request| request.headers.value(name))
    }

    pub(super) fn principal(&self) -> Option<&str> {
        self.facts.identity.map(|id| id.principal().as_str())
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.facts.identity.map(|id| id.namespace().as_str())
    }

    pub(super) fn trust_domain(&self) -> Option<&str> {
        self.facts.identity.map(|id| id.trust_domain().as_str())
    }

    pub(super) fn sni(&self) -> Option<&str> {
        self.facts.sni.filter(|name| !name.is_empty())
    }
}
