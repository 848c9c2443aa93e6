//! Copies of requests, whose answers nobody hears.
//!
//! In: a request that was sent, with its body as far as that was kept. Out: copies under way, as tasks of the thread. A body
//! that is longer than what is kept, or has not come whole by the time the request is answered, is not copied. Absent on
//! purpose: which mirrors get a copy (see `filter::mirror`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header, request::Parts};
use hyper::body::Body as _;
use lateen_rt::deadline::within;
use smallvec::SmallVec;

use super::context::Context;
use crate::{
    arrival::Arrival,
    book::{Book, Forward, Protocol, Upstream},
    filter::mirror,
    http::body::RequestBody,
    lane::Lane,
    pick,
    upstream::{connection::Speak, health::Counted, send::Attempt},
};

/// How long a copy may take.
const COPY_TIMEOUT: Duration = Duration::from_secs(60);
/// Copies under way to one cluster, beyond which no more are made: a slow mirror must cost the mirrored nothing.
const COPIES_MAX: u32 = 1000;

/// Who gets a copy of one request.
pub type Copies = SmallVec<[Arc<Upstream>; 1]>;

/// Throws the dice.
pub fn chosen(forward: &Forward) -> Copies {
    if forward.mirrors.is_empty() {
        return Copies::new();
    }
    mirror::chosen(&forward.mirrors, rand::random).cloned().collect()
}

/// Sends the copies.
pub fn send(context: &Context, copies: Copies, parts: &Parts, body: &Bytes) {
    for upstream in copies {
        let copy = Copy {
            lane: context.on.lane.clone(),
            book: context.book.clone(),
            arrival: context.on.arrival.clone(),
            upstream,
        };
        let mut request = Request::new(RequestBody::full(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        if context.options().mirror_shadow_suffix {
            mark(&mut request);
        }
        context.on.lane.tasks.spawn("mirror", async move {
            if let Err(error) = within("a copy of a request", COPY_TIMEOUT, copy.run(request)).await {
                tracing::debug!(%error, "a mirror is slow");
            }
        });
    }
}

/// Names a host that tells copies from requests.
fn mark(request: &mut Request<RequestBody>) {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(shadow) = host.and_then(|host| HeaderValue::try_from(mirror::shadow(host)).ok()) {
        request.headers_mut().insert(header::HOST, shadow);
    }
}

/// One copy.
struct Copy {
    lane: Arc<Lane>,
    book: Arc<Book>,
    arrival: Arrival,
    upstream: Arc<Upstream>,
}

impl Copy {
    async fn run(self, request: Request<RequestBody>) {
        let cluster = match self.book.usable(&self.upstream) {
            Ok(cluster) => cluster,
            Err(refusal) => return tracing::debug!(%refusal, "no copy is sent"),
        };
        let pool = self.lane.shared.clusters.of(&self.upstream);
        if pool.breaker.count(Counted::Requests) >= COPIES_MAX {
            return tracing::debug!(upstream = %self.upstream, "no copy is sent: too many are under way");
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let Ok(picked) = pick::for_connection(&self.lane, cluster, &self.arrival, host) else {
            return tracing::debug!(upstream = %self.upstream, "no copy is sent: there is no endpoint");
        };
        let speak = match cluster.protocol {
            Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => Speak::Http2,
            Protocol::Auto | Protocol::Http | Protocol::Tcp | Protocol::Tls => Speak::Http1,
        };
        let attempt = Attempt {
            lane: &self.lane,
            cluster,
            pool: &pool,
            endpoint: &picked.endpoint,
            speak,
            client: self.arrival.caller.client,
            dialled: self.arrival.destination(),
            identity: self.arrival.caller.peer.as_ref(),
        };
        let mut sent = match attempt.send(request).await {
            Ok(sent) => sent,
            Err(failed) => return tracing::debug!(why = ?failed.why, "a copy failed"),
        };
        // To its end, so that the connection can be used again.
        let body = sent.response.body_mut();
        loop {
            let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
            match frame {
                Some(Ok(_)) => {}
                Some(Err(error)) => return tracing::debug!(%error, "a copy's answer broke off"),
                None => break,
            }
        }
        sent.lease.done(&self.lane.tasks);
    }
}
