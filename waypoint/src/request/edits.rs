//! Edits of heads, with what each request knows.
//!
//! In: compiled edits, a request's context. Out: edited heads. Absent on purpose: their order among the phases.

use http::{HeaderName, HeaderValue, Request, Version, header, response::Parts, uri::PathAndQuery};
use hyper::body::Incoming;

use super::{
    context::{Context, Head, authority},
    tail::Source,
    upgrade,
};
use crate::{
    book::{Action, HttpRoute, Weighted},
    filter::{
        format::{Facts, RequestLine},
        headers::{HeaderEdits, Side, Value},
    },
    http::hop,
    pick::Told,
};

static SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

impl Context {
    /// Keeps the request's head where an edit of the answer asks for it.
    pub fn keep_head(&mut self, request: &Request<Incoming>, route: &HttpRoute, chosen: &Weighted) {
        let asks = |edits: Option<&HeaderEdits>| {
            let all = edits.into_iter().flat_map(|edits| edits.set.iter().chain(&*edits.add));
            all.into_iter().any(|edit| matches!(edit.value, Value::Made(_)))
        };
        if asks(route.response_headers.as_deref()) || asks(chosen.response_headers.as_deref()) {
            self.head = Head { uri: request.uri().clone(), headers: request.headers().clone() };
        }
    }

    /// Edits the request's headers.
    pub fn edit_request(&self, request: &mut Request<Incoming>, edits: Option<&HeaderEdits>) {
        let Some(edits) = edits.filter(|edits| !edits.is_empty()) else { return };
        let uri = request.uri().clone();
        let host = authority(request).to_owned();
        let line = RequestLine {
            method: self.method.as_str(),
            path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            authority: &host,
            scheme: self.scheme(),
        };
        let peer = self.caller().peer.as_ref().map(ToString::to_string);
        edits.apply(request.headers_mut(), Side::Request, line, &self.facts(peer.as_deref()));
    }

    /// Edits the head of an answer, ours or an endpoint's.
    pub fn edit_answer(&self, parts: &mut Parts, source: &Source) {
        parts.version = Version::HTTP_11;
        if source.is_upgrade() {
            upgrade::agree(&mut parts.status, &mut parts.headers, self.is_http1());
        }
        if let (Source::Theirs(_), Some(sent), false) = (source, &self.sent, self.options().suppress_debug_headers) {
            let millis = u64::try_from(sent.took.as_millis()).unwrap_or(u64::MAX);
            parts.headers.insert(SERVICE_TIME.clone(), HeaderValue::from(millis));
        }
        if let Some(name) = self.options().server_name.as_deref().and_then(|name| HeaderValue::from_str(name).ok()) {
            parts.headers.insert(header::SERVER, name);
        }
        let Some(route) = &self.route else { return };
        self.tell_endpoint(parts, route);
        if let (Some(cors), Some(origin)) = (&route.cors, &self.origin) {
            cors.write(origin, &mut parts.headers);
        }
        self.edit_answer_by(parts, route.response_headers.as_deref());
        if let (Action::Forward(forward), Some(_)) = (&route.action, &self.sent) {
            let chosen = forward.choose(self.dice).and_then(|chosen| chosen.response_headers.as_deref());
            self.edit_answer_by(parts, chosen);
        }
    }

    /// Tells the client how to come back to its endpoint.
    fn tell_endpoint(&self, parts: &mut Parts, route: &HttpRoute) {
        match (&self.told, &route.action) {
            (Some(Told::Cookie(cookie)), _) => {
                parts.headers.append(header::SET_COOKIE, cookie.clone());
            }
            (Some(Told::Token(token)), Action::Forward(forward)) => {
                if let Some(session) = &forward.session {
                    session.write(token, &mut parts.headers);
                }
            }
            (Some(Told::Token(_)) | None, _) => {}
        }
    }

    fn edit_answer_by(&self, parts: &mut Parts, edits: Option<&HeaderEdits>) {
        let Some(edits) = edits.filter(|edits| !edits.is_empty()) else { return };
        let host = self.head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let line = RequestLine {
            method: self.method.as_str(),
            path: self.head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            authority: host,
            scheme: self.scheme(),
        };
        let peer = self.caller().peer.as_ref().map(ToString::to_string);
        let facts = Facts { status: Some(parts.status.as_u16()), ..self.facts(peer.as_deref()) };
        edits.apply(&mut parts.headers, Side::Answer { request: &self.head.headers }, line, &facts);
    }

    fn facts<'c>(&'c self, peer: Option<&'c str>) -> Facts<'c> {
        let caller = self.caller();
        Facts {
            start: Some(self.start),
            protocol: self.protocol(),
            client: Some(caller.client),
            peer: Some(caller.hop),
            local: Some(self.destination()),
            peer_identity: peer,
            server_name: caller.server_name.as_deref(),
            route: self.route.as_deref().map(|route| &*route.name),
            upstream: self.sent.as_ref().and_then(|sent| sent.endpoint.addr()),
            ..Facts::default()
        }
    }

    /// As the record names it.
    pub fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }
}

/// What of an endpoint's head concerns our connection to it only.
pub fn clean<B>(response: &mut http::Response<B>) {
    hop::clean_response(response);
}
