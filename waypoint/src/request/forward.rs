//! A request on its way to an endpoint: pick, send, and perhaps again.
//!
//! In: a routed request. Out: a response that has begun, or our own answer. Absent on purpose: which endpoint (see
//! `pick`), whether again (see `retry`).

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use tokio::time::Instant;

use super::{
    Served,
    context::{Context, SentTo},
    control,
    local::Local,
    mirror,
    parcel::{Body, Head},
    upgrade,
};
use crate::{
    arrival::Target,
    book::{self, Cluster, Forward, HttpRoute, Protocol, Upstream, Weighted, cluster::Resolution},
    filter::rewrite::Rewrite,
    http::{
        body::{Flow, RequestBody},
        deadline::{Deadline, Limits, Over},
        hop::{self, Asked},
        replay::Replay,
    },
    news,
    pick::{self, Picked, Tried},
    retry::{self, Next, Outcome, Progress},
    upstream::{
        connection::Speak,
        failure::Failure,
        pool::{ClusterPool, Lease},
        send::{Attempt, Failed, Sent},
    },
};

static ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
static ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// A response of an endpoint.
pub struct Theirs {
    /// Its head and body.
    pub response: Response<Incoming>,
    /// The connection it comes on.
    pub lease: Lease,
    /// How long the whole request may take.
    pub limits: Option<Box<Limits>>,
    /// The client's side of an upgrade that was asked for.
    pub upgrade: Option<OnUpgrade>,
    /// Whose health its end tells of.
    pub picked: Picked,
}

/// Sends the request where `forward` says.
pub async fn forward(
    context: &mut Context,
    route: &HttpRoute,
    forward: &Forward,
    (request, asked): (Request<Incoming>, Asked),
) -> Served {
    if let Some(dice) = pick::remembered(context, forward, request.headers()) {
        context.dice = dice;
    }
    let Some(chosen) = forward.choose(context.dice) else {
        let status = StatusCode::from_u16(forward.empty_status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        return Local::no_cluster(status).into();
    };
    let upstream = match &chosen.to {
        book::Target::Upstream(upstream) => upstream.clone(),
        book::Target::Invalid(status) => {
            return Local::no_cluster(StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)).into();
        }
        book::Target::Redirect(redirect) => return Local::redirect(redirect, &context.asked(&request)).into(),
    };
    let cluster = match context.book.usable(&upstream) {
        Ok(cluster) => cluster.clone(),
        Err(refusal) => {
            if let Some(more) = context.on.lane.shared.reporting.seldom.again(&refusal.to_string()) {
                tracing::warn!(%upstream, %refusal, "a request was refused{more}");
            }
            return Local::no_cluster(StatusCode::SERVICE_UNAVAILABLE).into();
        }
    };
    let (mut request, upgrade) = upgrade::take(request, asked);
    context.keep_head(&request, route, chosen);
    if let Err(local) = rewrite(context, &mut request, route, (forward, chosen)) {
        return local.into();
    }
    // A copy of an upgrade would talk to nobody.
    let copies = if asked.websocket { mirror::Copies::new() } else { mirror::chosen(forward) };
    let course = Course { upstream, cluster, forward, upgrade, asked, copies };
    course.run(context, request).await
}

/// A request to a workload itself.
pub async fn to_workload(context: &mut Context, request: Request<Incoming>, asked: Asked) -> Served {
    static DIRECT: std::sync::LazyLock<Forward> = std::sync::LazyLock::new(|| Forward::new(Vec::new(), 503));
    let Some((upstream, cluster)) = pick::direct(&context.on.arrival.target) else {
        return Local::no_route().into();
    };
    let (request, upgrade) = upgrade::take(request, asked);
    let course = Course { upstream, cluster, forward: &DIRECT, upgrade, asked, copies: mirror::Copies::new() };
    course.run(context, request).await
}

/// What of the head changes: edits, path, authority.
fn rewrite(
    context: &Context,
    request: &mut Request<Incoming>,
    route: &HttpRoute,
    (forward, chosen): (&Forward, &Weighted),
) -> Result<(), Local> {
    context.edit_request(request, route.request_headers.as_deref());
    context.edit_request(request, chosen.request_headers.as_deref());
    let Some(rewrite) = chosen.rewrite.as_deref().or(forward.rewrite.as_deref()) else { return Ok(()) };
    new_path(request, rewrite)?;
    if let Some(authority) = &rewrite.authority {
        request.headers_mut().insert(header::HOST, authority.clone());
    }
    Ok(())
}

fn new_path(request: &mut Request<Incoming>, rewrite: &Rewrite) -> Result<(), Local> {
    let Some(path) = rewrite.path.as_ref().and_then(|path| path.path(request.uri().path())) else { return Ok(()) };
    let whole = match request.uri().query() {
        // A whole path may bring its own query.
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        Some(_) | None => path,
    };
    let bad = || Local::error(StatusCode::BAD_REQUEST, None, "invalid_rewritten_path", "");
    let original = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let original = HeaderValue::from_str(original).map_err(|_| bad())?;
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(whole.try_into().map_err(|_| bad())?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad())?;
    request.headers_mut().entry(&ORIGINAL_PATH).or_insert(original);
    Ok(())
}

/// Everything about sending that does not change from attempt to attempt.
struct Course<'f> {
    upstream: Arc<Upstream>,
    cluster: Arc<Cluster>,
    forward: &'f Forward,
    upgrade: Option<OnUpgrade>,
    asked: Asked,
    copies: mirror::Copies,
}

impl Course<'_> {
    async fn run(self, context: &mut Context, request: Request<Incoming>) -> Served {
        let (mut parts, body) = request.into_parts();
        let control = context.control.take();
        let policy = control::retry(control.as_deref(), self.forward.retry.as_deref());
        let policy = policy.as_deref().filter(|_| !self.asked.websocket);
        let times = control::times(control.as_deref(), self.forward.timeout, policy);
        times.tell(&mut parts.headers);
        let keeps = policy.is_some() || !self.copies.is_empty();
        let (mut head, mut body) = (Head::new(parts, keeps), self.body(context, body, keeps));
        let mut limits = limits(context, times.whole);
        self.know_endpoints(context).await;
        let pool = context.on.lane.shared.clusters.of(&self.upstream);
        let session = self.forward.session.as_deref();
        let mut tried = Tried::default();
        // Given back when the retry is over: it limits retries under way.
        let mut retrying = None;
        for made in 1_u32.. {
            let began = Instant::now();
            let Some(parts) = head.whole() else { break };
            let mut picked = match pick::pick(context, (&self.cluster, &pool), (parts, session), &tried) {
                Ok(picked) => picked,
                Err(why) => return failed(context, &why).into(),
            };
            if context.is_gateway() {
                parts.headers.insert(ATTEMPT.clone(), HeaderValue::from(made));
            }
            let own = times.per_try.map(|time| Deadline::new(time, &context.flow));
            let sending = self.attempt(context, (&pool, &picked), (&mut head, &mut body));
            let outcome = limited(sending, (&mut limits, own), &context.flow).await;
            context.sent = Some(self.sent_to(&picked, (made, began)));
            context.told.clone_from(&picked.told);
            let progress = Progress { made, replayable: head.is_there() && body.is_there() };
            let judged = match &outcome {
                Ok(sent) => {
                    let (status, headers) = (sent.response.status(), sent.response.headers());
                    picked.answered(status, headers);
                    Outcome::Answer { status, headers }
                }
                Err(failed) => {
                    picked.failed(&failed.why);
                    Outcome::Failure((&failed.why).into())
                }
            };
            let wait = match retry::next(policy, judged, progress, rand::random()) {
                Next::Again(wait) => wait,
                Next::HandOn(flag) => {
                    context.flags.extend(flag.map(retry::Flag::as_str));
                    self.copy(context, &mut head, &body);
                    return self.hand_on(context, outcome, (limits, picked));
                }
            };
            let cluster = &self.cluster.policy;
            // The one of the attempt before counts no more.
            drop(retrying.take());
            retrying = pool.breaker.take_retry(cluster.pool.retries_max, cluster.retry_budget.as_ref());
            if retrying.is_none() {
                context.flags.push(retry::Flag::Overflow.as_str());
                return self.hand_on(context, outcome, (limits, picked));
            }
            if policy.is_some_and(|policy| policy.avoid_previous) {
                tried.addresses.push(picked.address());
            }
            if retry::leaves_tried_priorities(policy, made) {
                tried.tiers |= picked.tier;
            }
            if let Err(why) = limited(pause(wait), (&mut limits, None), &context.flow).await {
                return failed(context, &why.why).into();
            }
        }
        failed(context, &Failure::Timeout).into()
    }

    /// A service that was configured just now is one whose endpoints come any moment.
    async fn know_endpoints(&self, context: &mut Context) {
        let is_service = !matches!(context.on.arrival.target, Target::Workload { .. });
        let by_world = matches!(self.cluster.resolution, Resolution::Endpoints | Resolution::Waypoint) && is_service;
        if by_world && context.world.service(&self.upstream.service).is_none() {
            let shared = &context.on.lane.shared;
            news::of_service(shared, &self.upstream.service).await;
            context.world = shared.world.load();
        }
    }

    fn body(&self, context: &Context, body: Incoming, keeps: bool) -> Body {
        if body.is_end_stream() {
            context.flow.ends();
            return Body::None;
        }
        match keeps {
            true => Body::Kept(Replay::new(body, context.flow.clone())),
            false => Body::Once(Some(RequestBody::passing(body, context.flow.clone()))),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        (pool, picked): (&Arc<ClusterPool>, &Picked),
        (head, body): (&mut Head, &mut Body),
    ) -> Result<Sent, Failed> {
        let speak = self.speak(context);
        let mut request = Request::new(body.take());
        let (headers, parts) = head.send();
        *request.headers_mut() = headers;
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        if context.options().preserve_header_case {
            *request.extensions_mut() = parts.extensions.clone();
        }
        if self.asked.expects_continue && speak == Speak::Http1 {
            request = hold_back(request);
        }
        let attempt = Attempt {
            lane: &context.on.lane,
            cluster: &self.cluster,
            pool,
            endpoint: &picked.endpoint,
            speak,
            client: context.caller().client,
            dialled: context.destination(),
            identity: context.caller().peer.as_ref(),
        };
        let sent = attempt.send(request).await.map_err(|mut failed| {
            if let (Body::Once(body), Some(unsent)) = (&mut *body, failed.unsent.take()) {
                *body = Some(unsent.into_body());
            }
            if context.flow.has_failed() {
                failed.why = Failure::Downstream;
            }
            failed
        })?;
        let switches = sent.response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches && !(self.asked.websocket && hop::agrees(&sent.response)) {
            // What follows would be bytes that nobody looks into.
            return Err(Failure::Protocol("the endpoint switches to what nobody asked for".into()).into());
        }
        if hop::is_ambiguous(&sent.response) {
            return Err(Failure::Protocol("the endpoint says length and coding of one answer".into()).into());
        }
        Ok(sent)
    }

    /// What is spoken to the endpoint: what it says it speaks, unless the policy says otherwise.
    fn speak(&self, context: &Context) -> Speak {
        let client = if context.is_http1() { Speak::Http1 } else { Speak::Http2 };
        let pool = &self.cluster.policy.pool;
        if self.asked.websocket {
            return Speak::Http1;
        }
        if pool.use_client_protocol {
            return client;
        }
        match self.cluster.protocol {
            Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => Speak::Http2,
            Protocol::Http if pool.upgrade_to_http2 => Speak::Http2,
            Protocol::Http | Protocol::Tcp | Protocol::Tls => Speak::Http1,
            // In the mesh a client speaks what its server does. One from outside speaks what the gateway does, and gRPC is spoken
            // over HTTP/2 only.
            Protocol::Auto if context.is_gateway() && !context.is_grpc => Speak::Http1,
            Protocol::Auto => client,
        }
    }

    fn sent_to(&self, picked: &Picked, (attempts, began): (u32, Instant)) -> SentTo {
        SentTo { upstream: self.upstream.clone(), endpoint: picked.endpoint.clone(), attempts, took: began.elapsed() }
    }

    /// Mirrors hear of a request once, when it was answered.
    fn copy(&self, context: &Context, head: &mut Head, body: &Body) {
        if self.copies.is_empty() {
            return;
        }
        let Some(parts) = head.whole() else { return };
        let whole = match body {
            Body::None => Some(Bytes::new()),
            Body::Kept(replay) => replay.whole(),
            Body::Once(_) => None,
        };
        match whole {
            Some(body) => mirror::send(context, self.copies.clone(), parts, &body),
            None => tracing::debug!("no copy is sent: the body is too long to be kept, or has not come whole"),
        }
    }

    fn hand_on(
        self,
        context: &mut Context,
        outcome: Result<Sent, Failed>,
        (mut limits, picked): (Option<Box<Limits>>, Picked),
    ) -> Served {
        match outcome {
            Ok(Sent { response, lease }) => {
                // Who is answered may take as long as that does.
                if let Some(limits) = &mut limits {
                    limits.arriving = None;
                }
                Served::Theirs(Box::new(Theirs { response, lease, limits, upgrade: self.upgrade, picked }))
            }
            Err(why) => {
                tracing::debug!(upstream = %self.upstream, why = ?why.why, "a request failed");
                failed(context, &why.why).into()
            }
        }
    }
}

fn failed(context: &mut Context, why: &Failure) -> Local {
    context.transport_failure = why.transport().map(Into::into);
    Local::failed(why)
}

/// How long things may take, of which `whole` is the route's or the client's word.
fn limits(context: &Context, whole: Option<Duration>) -> Option<Box<Limits>> {
    let options = context.options();
    let arrived_by = options.request_timeout.map(|time| context.began + time);
    Limits::new(whole, options.stream_idle_timeout, (arrived_by, &context.flow))
}

/// What `doing` comes to, unless it takes too long.
async fn limited<T>(
    doing: impl Future<Output = Result<T, Failed>>,
    (limits, own): (&mut Option<Box<Limits>>, Option<Deadline>),
    flow: &Flow,
) -> Result<T, Failed> {
    let whole = poll_fn(|context| limits.as_mut().map_or(Poll::Pending, |limits| limits.poll(context)));
    let own = async {
        match own {
            Some(own) => own.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // No dice for what nearly always is the first to be done.
        biased;
        done = doing => done,
        over = whole => Err(match over {
            Over::Arrival => Failure::Late,
            Over::Time => Failure::Timeout,
            Over::Idle => Failure::Idle { received: flow.has_ended() },
        }.into()),
        () = own => Err(Failure::PerTryTimeout.into()),
    }
}

/// Waits before a further attempt.
async fn pause(wait: Duration) -> Result<(), Failed> {
    tokio::time::sleep(wait).await;
    Ok(())
}

/// The endpoint says itself when it wants the body that was announced.
fn hold_back(request: Request<RequestBody>) -> Request<RequestBody> {
    let (parts, body) = request.into_parts();
    let (body, open) = body.held_back();
    let mut request = Request::from_parts(parts, body);
    let open = parking_lot::Mutex::new(Some(open));
    hyper::ext::on_informational(&mut request, move |information| {
        if information.status() == StatusCode::CONTINUE
            && let Some(open) = open.lock().take()
        {
            // Whoever waited may have left.
            let _left = open.send(());
        }
    });
    request
}

impl From<&Failure> for retry::Failure {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Connect(_) | Failure::Denied(_) | Failure::ConnectTimeout | Failure::Dns(_) => Self::Connect,
            Failure::Overflow => Self::Overflow,
            Failure::Termination { before_request } => Self::Reset { sent: !before_request },
            Failure::Reset { refused: true } => Self::Refused,
            Failure::Reset { refused: false } | Failure::Protocol(_) => Self::Reset { sent: true },
            Failure::PerTryTimeout => Self::PerTryTimeout,
            Failure::Timeout | Failure::Idle { .. } | Failure::Late | Failure::Downstream => Self::Timeout,
            Failure::NoHealthyUpstream | Failure::NoCluster(_) | Failure::Unready(_) => Self::NoEndpoint,
        }
    }
}
