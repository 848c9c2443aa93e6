//! What a request tells of itself, and how it ended.
//!
//! In: a request's context. Out: calls of its report. Absent on purpose: what is made of them (see `report`).

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::context::Context;
use crate::{
    http::{response::End, serve::Connection},
    report::{
        Ending, Head, Opening, Report,
        trace::{self, Ids},
    },
    told,
};

/// Why nobody has seen a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none.
    Malformed,
    /// Its head is too large.
    TooLarge,
    /// Its head has not come in time.
    TooSlow,
}

/// Tells of a request that was refused before it could be read.
pub fn unreadable(on: &Arc<Connection>, why: Unreadable) {
    let book = on.lane.shared.book.load();
    let Some(proxy) = book.proxy() else { return };
    let opening = Opening {
        reporter: told::reporter(proxy.role),
        client: &on.client,
        format: proxy.options.access_log.as_ref(),
        began: Instant::now(),
        start: Timestamp::now(),
        is_grpc: false,
    };
    let mut report = Report::open(&on.lane.shared.reporting, &opening);
    report.meant(on.service.as_ref());
    let (status, flags, details) = match why {
        Unreadable::Malformed => (StatusCode::BAD_REQUEST, &["DPE"][..], "http1.codec_error"),
        Unreadable::TooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &["DPE"][..], "http1.headers_too_large"),
        Unreadable::TooSlow => (StatusCode::REQUEST_TIMEOUT, &[][..], "request_header_timeout"),
    };
    report.answered(status.as_u16(), &HeaderMap::new());
    report.finish(Ending { flags: SmallVec::from_slice(flags), details: details.into(), ..Ending::default() });
}

impl Context {
    /// Gives the request an id and a trace, and tells what it asks, now that this is unambiguous.
    pub fn tell(&mut self, request: &mut Request<Incoming>) {
        let ids = if self.is_gateway() { Ids::Replaced } else { Ids::Kept };
        trace::settle(request.headers_mut(), ids, rand::random);
        let head = Head {
            method: request.method(),
            target: request.uri().path_and_query(),
            scheme: self.scheme(),
            version: self.version,
            headers: request.headers(),
            remote: SocketAddr::new(self.remote, self.caller().client.port()),
            local: self.destination(),
        };
        self.report.asked(&head);
    }

    /// Tells how it ended.
    pub fn ended(mut self: Box<Self>, end: End, sent: u64, grpc_status: Option<u32>) {
        let (flag, details) = match end {
            End::Whole => (None, None),
            End::Broken => (Some("UC"), Some("upstream_reset_after_response_started{connection_termination}")),
            End::TimedOut => (Some("UT"), Some("response_timeout")),
            End::Idle => (Some("SI"), Some("stream_idle_timeout")),
            // Who cut it has said why.
            End::Denied => (None, None),
            End::Left => (Some("DC"), Some("downstream_remote_disconnect")),
        };
        self.flags.extend(flag);
        if let Some(details) = details {
            self.details = Cow::Borrowed(details);
        }
        let mut ending = Ending {
            flags: std::mem::take(&mut self.flags),
            details: std::mem::take(&mut self.details),
            transport_failure: self.transport_failure.take(),
            received: self.flow.bytes(),
            sent,
            grpc_status,
            ..Ending::default()
        };
        if let Some(to) = &self.sent {
            self.report.sent_to(to.endpoint.workload.as_ref());
            if self.on.service.is_none() {
                self.report.meant(to.endpoint.service.as_ref());
            }
        }
        if self.report.is_logged() {
            ending.route = self.route.as_ref().map(|route| route.name.clone()).filter(|name| !name.is_empty());
            let to = |to: &super::context::SentTo| crate::report::Upstream {
                attempts: to.attempts,
                ..told::sent_to(self.proxy.role, "http", &to.upstream, &to.endpoint)
            };
            ending.upstream = self.sent.as_ref().map(to);
        }
        self.report.finish(ending);
    }
}
