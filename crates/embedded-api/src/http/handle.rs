//! One request: who asks, what for, which operation, what answer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rt::{deadline::within, drain::Drain};

use crate::{
    api::Api,
    discovery,
    http::{
        answer::{self, Answer, Body},
        pods,
        query::Query,
        route::{self, Route},
        stream,
        write::{self, Call},
    },
    openapi,
    ops::{self, watch::Watch},
    resource::Origin,
    status::ApiError,
    table::Tables,
    token::{ISSUER, User},
};

/// Largest request body, the reference's number.
const BODY_MAX: usize = 3 * 1024 * 1024;
/// How much of a body that is too large is read all the same.
const DISCARDED_MAX: usize = 32 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// What every request may use.
#[derive(Debug, Clone)]
pub struct Context {
    /// The server.
    pub api: Arc<Api>,
    /// The bearer token of the administrator.
    pub admin_token: Arc<str>,
    /// The end of the server.
    pub drain: Drain,
}

/// Answers one request; a refusal is an answer too.
pub async fn handle(context: Context, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let asked = format!("{} {}", parts.method, parts.uri);
    let answer = answer(
        &context,
        Ask {
            method: parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or(""),
            headers: parts.headers,
        },
        body,
    )
    .await;
    let response = answer.unwrap_or_else(|error| answer::refusal(&error));
    tracing::debug!(request = asked, code = response.status().as_u16(), "api request");
    response
}

/// A request without its body.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    path: &'a str,
    query: &'a str,
    headers: HeaderMap,
}

impl Ask<'_> {
    /// A header as text; empty if there is none.
    pub(super) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

async fn answer(context: &Context, ask: Ask<'_>, body: Incoming) -> Answer {
    if let Some(open) = open_path(ask.path) {
        return Ok(open);
    }
    let user = authenticate(context, &ask)?;
    let query = Query::parse(ask.query)?;
    let api = &context.api;
    if ask.method == Method::GET
        && let Some(found) = general_path(api, &ask)
    {
        return Ok(found);
    }
    let Some(route) = route::resolve(&api.registry, ask.path)? else { return Err(ApiError::no_such_path()) };
    if !route.subresource.is_empty() {
        let known = route.target.resource.subresources(route.target.traits()?);
        if !known.iter().any(|subresource| subresource.name == route.subresource)
            && !matches!(route.subresource.as_str(), "attach" | "portforward")
        {
            return Err(ApiError::no_such_path());
        }
    }
    if ask.method == Method::GET {
        return read(context, &ask, &query, route).await;
    }
    let body = collect(body).await?;
    let call = Call { context, ask: &ask, query: &query, user: &user, body };
    write::write(&call, &route).await
}

/// Paths open to everyone.
fn open_path(path: &str) -> Option<Response<Body>> {
    match path {
        "/healthz" | "/readyz" | "/livez" => Some(answer::bytes(200, "text/plain", "ok")),
        "/version" | "/version/" => Some(answer::json(200, &discovery::version())),
        _ => None,
    }
}

/// Paths that are no resources.
fn general_path(api: &Api, ask: &Ask<'_>) -> Option<Response<Body>> {
    if ask.path == "/openapi/v2" {
        return Some(openapi::v2(ask.header(header::ACCEPT)));
    }
    if ask.path == "/openid/v1/jwks" {
        return Some(answer::json(200, &api.tokens.key_set()));
    }
    let found = openapi::v3(&api.registry, ask.path)
        .or_else(|| discovery::answer(&api.registry, ask.path, ask.header(header::ACCEPT)));
    found.map(|document| {
        let mut response = answer::json(200, &document.body);
        if let Ok(kind) = document.content_type.parse() {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    })
}

fn authenticate(context: &Context, ask: &Ask<'_>) -> Result<User, ApiError> {
    let token = ask.header(header::AUTHORIZATION).strip_prefix("Bearer ").ok_or_else(ApiError::unauthorized)?.trim();
    if token == &*context.admin_token {
        return Ok(User::admin());
    }
    let proof = context.api.tokens.check(&context.api.store, token, &[ISSUER.to_owned()]);
    proof.map(|proof| proof.user).map_err(|why| {
        tracing::debug!(why, "a bearer token was refused");
        ApiError::unauthorized()
    })
}

async fn collect(body: Incoming) -> Result<Bytes, ApiError> {
    within("reading the request body", BODY_TIMEOUT, read_whole(body)).await.map_err(ApiError::internal)?
}

/// What is too large is read on for a while and thrown away: over HTTP/2 an answer before the request's end comes with a
/// reset, which some clients see instead of the answer.
async fn read_whole(mut body: Incoming) -> Result<Bytes, ApiError> {
    let unread = |error| ApiError::bad_request(format!("the request body could not be read: {error}"));
    let (mut kept, mut seen) = (BytesMut::new(), 0);
    while seen <= DISCARDED_MAX
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame.map_err(unread)?.into_data() else { continue };
        seen += data.len();
        if seen <= BODY_MAX {
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new();
        }
    }
    if seen <= BODY_MAX { Ok(kept.freeze()) } else { Err(ApiError::too_large(BODY_MAX)) }
}

async fn read(context: &Context, ask: &Ask<'_>, query: &Query, route: Route) -> Answer {
    let api = &context.api;
    let target = route.target;
    match route.subresource.as_str() {
        "log" => return pods::logs(api, &target, query, context.drain.clone()).await,
        "exec" | "attach" | "portforward" => return Err(pods::exec_refused()),
        "scale" => return Ok(answer::json(200, &ops::scale::get(api, &target)?)),
        "" | "status" | "ephemeralcontainers" => {}
        _ => return Err(ApiError::method_not_allowed()),
    }
    if target.resource.origin == Origin::Virtual {
        return Err(ApiError::method_not_allowed());
    }
    let tables = Tables::asked(ask.header(header::ACCEPT), query.text("includeObject"));
    if route.watch || query.flag("watch") {
        let watch = Watch::start(api, target.clone(), query.watch(&target)?)?;
        let seconds = query.number("timeoutSeconds")?;
        return Ok(stream::watch(api.clone(), watch, seconds, tables, context.drain.clone()));
    }
    let found = match target.name.is_empty() {
        true => ops::read::list(api, &target, &query.list(&target)?)?,
        false => ops::read::get(api, &target)?,
    };
    Ok(answer::json(200, &tables.map_or_else(|| found.clone(), |mut tables| tables.table(&target, &found))))
}
