//! The corridor of one request: the phases in their order, nothing else.
//!
//! ```text
//! clean ─► normalise ─► route ─► authorise ─► faults ─► CORS ─► redirect, answer, or forward ─► edits of the answer
//!                                                                  │
//!                                  pick ─► send ─► try again? ─────┘ (see `forward`)
//! ```
//! In: a request as hyper read it. Out: the answer. Each phase says go on, or answer with this. One book and one world are
//! read from the first phase to the last. Absent on purpose: what a phase decides.

mod context;
mod control;
mod edits;
mod forward;
mod judge;
mod local;
mod mirror;
mod parcel;
mod record;
mod tail;
mod upgrade;

pub use self::{
    context::Context,
    record::{Unreadable, unreadable},
};

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use self::{
    forward::Theirs,
    local::Local,
    tail::{Source, Tail},
};
use crate::{
    authorize,
    book::{Action, HttpRoute},
    filter::{
        cors::Caller,
        fault::{Abort, Fault},
    },
    http::{
        hop::{self, Asked},
        response::ResponseBody,
        serve::Connection,
    },
};

/// What goes back to hyper.
pub type Answer = Response<ResponseBody<Tail>>;

/// What became of a request.
enum Served {
    /// We answer.
    Ours(Local),
    /// An endpoint answered.
    Theirs(Box<Theirs>),
}

impl From<Local> for Served {
    fn from(local: Local) -> Self {
        Self::Ours(local)
    }
}

/// Serves one request. Dropping the future (the client has left) ends whatever was begun for it.
pub async fn handle(on: Arc<Connection>, mut request: Request<Incoming>) -> Answer {
    let asked = hop::clean_request(&mut request);
    let Some(mut context) = Context::open(&on, &request) else { return unconfigured() };
    let prepared = prepare(&mut context, &mut request);
    if asked.websocket && prepared.is_ok() {
        context.keep_judged(&request);
    }
    let served = match prepared {
        Ok(Some(route)) => {
            context.route = Some(route.clone());
            serve(&mut context, &route, request, asked).await
        }
        // Boxed, as what seldom happens must not make room for itself in every request.
        Ok(None) => Box::pin(forward::to_workload(&mut context, request, asked)).await,
        Err(local) => local.into(),
    };
    answer(context, served)
}

/// Everything that needs no waiting: what the request is, where it leads, whether it may.
fn prepare(context: &mut Context, request: &mut Request<Incoming>) -> Result<Option<Arc<HttpRoute>>, Local> {
    hop::settle_authority(request, context.options().http10).map_err(Local::malformed)?;
    // Before anything else reads or writes such headers.
    context.control = control::take(request.headers_mut(), context.sender(), context.is_grpc);
    context.normalise(request)?;
    context.tell(request);
    // Whoever may not ask is not told which routes there are.
    context.authorise(request)?;
    if request.method() == Method::CONNECT {
        // Tunnels are for the door; to send one on would open a way to wherever its client likes.
        return Err(Local::no_route());
    }
    context.select(request)
}

async fn serve(context: &mut Context, route: &Arc<HttpRoute>, request: Request<Incoming>, asked: Asked) -> Served {
    if let Some(fault) = &route.fault
        && let Some(local) = Box::pin(faults(context, fault)).await
    {
        return local.into();
    }
    if let Some(cors) = &route.cors {
        match cors.caller(request.method(), request.headers()) {
            Caller::Preflight(headers) => return Local::preflight(Some(headers)).into(),
            Caller::Unwelcome => return Local::preflight(None).into(),
            Caller::Welcome(origin) => context.origin = Some(origin),
            Caller::Other => {}
        }
    }
    match &route.action {
        Action::Redirect(redirect) => Local::redirect(redirect, &context.asked(&request)).into(),
        Action::Direct(direct) => Local::direct(direct).into(),
        Action::Forward(forward) => forward::forward(context, route, forward, (request, asked)).await,
    }
}

/// What goes wrong on purpose.
async fn faults(context: &mut Context, fault: &Fault) -> Option<Local> {
    if let Some(delay) = fault.delay.as_ref().and_then(|share| share.hits(rand::random())) {
        context.flags.push("DI");
        tokio::time::sleep(delay).await;
    }
    match fault.abort.as_ref().and_then(|share| share.hits(rand::random()))? {
        Abort::Http(status) => Some(Local::fault(status)),
        Abort::Grpc(status) => Some(Local::fault_grpc(status)),
    }
}

/// The answer with everything that is done to each, ours included.
fn answer(mut context: Box<Context>, served: Served) -> Answer {
    let (mut parts, source) = match served {
        Served::Ours(local) => {
            let (parts, body) = local.into_response(&mut context).into_parts();
            (parts, Source::Ours(body))
        }
        Served::Theirs(theirs) => theirs.split(),
    };
    context.edit_answer(&mut parts, &source);
    if context.ends_connection() {
        if !context.is_http1() {
            context.on.end();
        } else if !source.is_upgrade() {
            parts.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
    }
    context.report.answered(parts.status.as_u16(), &parts.headers);
    tail::attach(context, parts, source)
}

/// The control plane has taken back what this proxy is.
fn unconfigured() -> Answer {
    let mut response = Response::new(ResponseBody::empty(None));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// What an answer of ours says to whoever is refused.
const DENIED_BODY: &str = authorize::DENIED_BODY;
