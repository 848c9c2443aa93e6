//! What policy says of a request, when it comes and, of an upgrade, whenever policy changes.
//!
//! In: a request, the connection it came on, a book. Out: a verdict, or the end of one that let it pass. Absent on purpose:
//! what follows from it.

use std::{net::IpAddr, sync::Arc};

use http::{Request, uri::PathAndQuery};

use super::context::authority;
use crate::{
    arrival::{Arrival, Target},
    authorize::{
        self, HeadersOf, Verdict,
        lasting::{Standing, until_refused},
    },
    book::Book,
    http::serve::Connection,
};

/// What `book` says of `request`; `remote` is the client as proxies in front name it.
pub fn verdict<'b, B>(
    book: &'b Book,
    arrival: &Arrival,
    (remote, scheme): (IpAddr, &'static str),
    request: &Request<B>,
) -> Verdict<'b> {
    let caller = &arrival.caller;
    let authority = authority(request);
    let headers = HeadersOf {
        headers: request.headers(),
        method: request.method().as_str(),
        path_and_query: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
        authority,
        scheme,
    };
    let facts = authorize::Facts {
        identity: caller.peer.as_ref(),
        source_ip: caller.client.ip(),
        remote_ip: remote,
        destination: arrival.destination(),
        sni: caller.server_name.as_deref(),
        request: Some(authorize::Request {
            host: authority,
            method: request.method().as_str(),
            path: request.uri().path(),
            headers: &headers,
        }),
    };
    let service = match &arrival.target {
        Target::Service { key, .. } => Some(key),
        Target::Workload { .. } | Target::Port { .. } => None,
    };
    authorize::decide(&book.guards().of(service), &facts)
}

/// What was let in, for as long as it lasts.
pub struct Judged {
    on: Arc<Connection>,
    remote: IpAddr,
    scheme: &'static str,
    head: Request<()>,
}

impl Judged {
    /// The head of `request`, as it was judged.
    pub fn of<B>(on: &Arc<Connection>, (remote, scheme): (IpAddr, &'static str), request: &Request<B>) -> Self {
        let mut head = Request::new(());
        head.method_mut().clone_from(request.method());
        head.uri_mut().clone_from(request.uri());
        head.headers_mut().clone_from(request.headers());
        Self { on: on.clone(), remote, scheme, head }
    }

    /// Returns once policy refuses it; says why.
    pub async fn denied(self) -> String {
        let stands = |book: &Book| {
            let verdict = verdict(book, &self.on.arrival, (self.remote, self.scheme), &self.head);
            Standing::of(&verdict)
        };
        until_refused(&self.on.lane.shared.book, stands).await
    }
}
