//! WebSockets: after a 101 the two ends are joined, and nobody looks at their bytes any more.
//!
//! In: a request that asks, an answer that agrees. Out: bytes both ways until either ends. HTTP/2's way of asking (RFC 8441)
//! is turned into HTTP/1's, which all servers understand. Silence ends it where that is configured. Absent on purpose: other upgrades, which are never passed on.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use lateen_net::splice::{Io, Meter, splice};

use super::{judge::Judged, tail::Tail};
use crate::{
    http::{
        hop::Asked,
        response::{End, Tail as _},
    },
    tcp,
};

/// Takes the client's side of the upgrade out of the request, and asks the endpoint in HTTP/1's way.
pub fn take(mut request: Request<Incoming>, asked: Asked) -> (Request<Incoming>, Option<OnUpgrade>) {
    if !asked.websocket {
        return (request, None);
    }
    let ours = hyper::upgrade::on(&mut request);
    if request.extensions_mut().remove::<Protocol>().is_some() {
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        if let Ok(key) = HeaderValue::try_from(key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }
    (request, Some(ours))
}

static ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// What the client is told of an agreement: HTTP/2 knows no 101.
pub fn agree(status: &mut StatusCode, headers: &mut HeaderMap, is_http1: bool) {
    if !is_http1 {
        *status = StatusCode::OK;
        for name in [&header::CONNECTION, &header::UPGRADE, &ACCEPT] {
            headers.remove(name);
        }
    }
}

async fn until_denied(judged: Option<Box<Judged>>) -> String {
    match judged {
        Some(judged) => judged.denied().await,
        None => std::future::pending().await,
    }
}

/// Joins the client's end and the endpoint's until either is done, neither has said anything for `silence`, or policy refuses
/// it; `tail` hears how it ended.
pub async fn join((client, endpoint): (OnUpgrade, OnUpgrade), silence: Option<Duration>, mut tail: Tail) {
    let (client, endpoint) = match tokio::try_join!(client, endpoint) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            return tail.end(End::Broken);
        }
    };
    let meter = Meter::default();
    let (drain, judged) = (tail.drain(), tail.judged());
    let (mut denied, mut silent) = (None, false);
    let interrupt = async {
        tokio::select! {
            () = drain.forced() => {}
            () = tcp::idle(&meter, silence) => silent = true,
            why = until_denied(judged) => denied = Some(why),
        }
    };
    let joined = splice(Io(TokioIo::new(client)), Io(TokioIo::new(endpoint)), &meter, interrupt).await;
    tail.data(usize::try_from(meter.from_destination()).unwrap_or(usize::MAX));
    match joined {
        _ if denied.is_some() => tail.denied(denied.unwrap_or_default()),
        _ if silent => tail.end(End::Idle),
        Ok(_) => tail.end(End::Whole),
        Err(error) => {
            tracing::debug!(%error, "an upgraded connection broke");
            tail.end(End::Broken);
        }
    }
}
