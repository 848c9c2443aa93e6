//! The end of a request: the answer's body, and what is done once it has passed.
//!
//! In: the head of an answer and where its body comes from. Out: the answer as hyper sends it. Its body carries the tail,
//! and when it is over, however that comes about, the connection is given back and the record is written. Absent on
//! purpose: what the record looks like (see `report`).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use lateen_rt::drain::Drain;
use tokio::task::AbortHandle;

use super::{Answer, context::Context, edits, forward::Theirs, judge::Judged, upgrade};
use crate::{
    http::{
        deadline::Limits,
        response::{End, Overdue, ResponseBody, Tail as Follows},
    },
    lane::Lane,
    pick::Picked,
    upstream::pool::Lease,
};

/// Where the body of an answer comes from.
pub enum Source {
    /// From us.
    Ours(Bytes),
    /// From an endpoint.
    Theirs(Box<Rest>),
}

impl Source {
    /// Whether both ends agreed on an upgrade.
    pub fn is_upgrade(&self) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::Theirs(rest) => rest.upgrade.is_some(),
        }
    }
}

/// What follows the head of an endpoint's answer.
pub struct Rest {
    body: Incoming,
    lease: Lease,
    limits: Option<Box<Limits>>,
    /// Both ends of an upgrade that was agreed on: the client's and the endpoint's.
    upgrade: Option<(OnUpgrade, OnUpgrade)>,
    picked: Picked,
}

impl Theirs {
    /// The head, and what follows it.
    pub fn split(mut self: Box<Self>) -> (Parts, Source) {
        edits::clean(&mut self.response);
        let agreed = self.response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = self.upgrade.take().filter(|_| agreed);
        let upgrade = upgrade.map(|ours| (ours, hyper::upgrade::on(&mut self.response)));
        let (parts, body) = self.response.into_parts();
        let (lease, limits, picked) = (self.lease, self.limits, self.picked);
        (parts, Source::Theirs(Box::new(Rest { body, lease, limits, upgrade, picked })))
    }
}

/// What is done when the answer is over.
pub struct Tail {
    lane: Arc<Lane>,
    context: Option<Box<Context>>,
    lease: Option<Lease>,
    picked: Option<Picked>,
    status: StatusCode,
    sent: u64,
    grpc_status: Option<u32>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("status", &self.status).field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// The answer, with its tail.
pub fn attach(context: Box<Context>, parts: Parts, source: Source) -> Answer {
    let mut tail = Tail {
        lane: context.on.lane.clone(),
        status: parts.status,
        grpc_status: crate::retry::grpc_status(&parts.headers),
        context: Some(context),
        lease: None,
        picked: None,
        sent: 0,
    };
    let body = match source {
        Source::Ours(bytes) => ResponseBody::full(bytes, Some(tail)),
        Source::Theirs(rest) => {
            let rest = *rest;
            (tail.lease, tail.picked) = (Some(rest.lease), Some(rest.picked));
            match rest.upgrade {
                Some((ours, theirs)) => {
                    // The connection is no longer one of HTTP, and is never used again.
                    let lane = tail.lane.clone();
                    let silence = rest.limits.and_then(|limits| limits.silence());
                    lane.tasks.spawn("upgraded", upgrade::join((ours, theirs), silence, tail));
                    ResponseBody::empty(None)
                }
                None => ResponseBody::passing(rest.body, rest.limits, tail),
            }
        }
    };
    Response::from_parts(parts, body)
}

impl Tail {
    /// What ends it early.
    pub fn drain(&self) -> Drain {
        self.lane.drain.clone()
    }

    /// What policy is asked again of.
    pub fn judged(&mut self) -> Option<Box<Judged>> {
        self.context.as_mut().and_then(|context| context.judged.take())
    }

    /// It is over because policy says so, in these words.
    pub fn denied(mut self, why: String) {
        if let Some(context) = &mut self.context {
            context.details = why.into();
        }
        self.end(End::Denied);
    }
}

impl Follows for Tail {
    fn data(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = crate::retry::grpc_status(trailers).or(self.grpc_status);
        if let Some(context) = &mut self.context {
            context.report.trailers(trailers);
        }
    }

    fn watch(&self, overdue: Overdue<Self>) -> AbortHandle {
        self.lane.tasks.spawn("limits", overdue)
    }

    fn end(mut self, end: End) {
        let Some(context) = self.context.take() else { return };
        context.flow.stop();
        if let Some(picked) = self.picked.take().filter(|_| end == End::Whole) {
            picked.ended(self.grpc_status);
        }
        if let Some(lease) = self.lease.take() {
            // What is left of a request that was answered early would be taken for the next one.
            if end == End::Whole && context.flow.has_ended() {
                lease.done(&self.lane.tasks);
            }
        }
        context.ended(end, self.sent, self.grpc_status);
    }
}
