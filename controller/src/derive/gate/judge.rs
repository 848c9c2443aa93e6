//! Listeners of a Gateway as they stand alone and beside each other.
//!
//! In: the listeners. Out: what each speaks, the kinds of routes it takes, or why it is not accepted. Of listeners that
//! cannot be told apart none is (the Gateway API lets nobody choose one). Absent on purpose: Secrets, routes.

use super::problem;
use crate::{
    derive::attached::Problem,
    facts::{GatewayListener, RouteKind},
};

/// What is spoken at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP.
    Http,
    /// HTTP in TLS that ends here.
    Https,
    /// Bytes in TLS that ends here.
    Terminated,
    /// TLS that does not end here.
    Passed,
    /// Bytes.
    Tcp,
    /// Tunnels, at a waypoint.
    Tunnels,
}

impl Spoken {
    /// Whether TLS is spoken.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Terminated | Self::Passed)
    }

    /// The routes that fit.
    fn kinds(self) -> &'static [RouteKind] {
        match self {
            Self::Http | Self::Https => &[RouteKind::Http, RouteKind::Grpc],
            Self::Terminated => &[RouteKind::Tls, RouteKind::Tcp],
            Self::Passed => &[RouteKind::Tls],
            Self::Tcp => &[RouteKind::Tcp],
            Self::Tunnels => &[],
        }
    }
}

/// What was found of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What is spoken there; nothing where that is not known.
    pub spoken: Option<Spoken>,
    /// Why it is not accepted.
    pub refused: Option<Problem>,
    /// With which others it cannot be told apart.
    pub conflict: Option<Problem>,
    /// The routes it takes.
    pub kinds: Vec<RouteKind>,
    /// What it asks for that is no kind of route there.
    pub unknown_kinds: Option<Problem>,
}

impl Judged {
    /// Whether it is listened on, as far as this can be said here.
    pub fn is_accepted(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }

    /// Why it is not accepted.
    pub fn why_not(&self) -> Option<&Problem> {
        self.refused.as_ref().or(self.conflict.as_ref())
    }
}

/// All listeners of a Gateway, in order.
pub fn judge(listeners: &[GatewayListener], is_waypoint: bool) -> Vec<Judged> {
    let mut all: Vec<Judged> = listeners.iter().map(|one| alone(one, is_waypoint)).collect();
    for (at, listener) in listeners.iter().enumerate() {
        let Some(spoken) = all[at].spoken.filter(|_| all[at].refused.is_none()) else { continue };
        let others = listeners.iter().enumerate().filter(|(other, one)| *other != at && one.port == listener.port);
        let rivals = others.filter_map(|(other, one)| {
            let theirs = all[other].spoken.filter(|_| all[other].refused.is_none())?;
            Some((one, rivalry((listener, spoken), (one, theirs))?))
        });
        let mut rivals: Vec<(&GatewayListener, &'static str)> = rivals.collect();
        // Another protocol is the graver word.
        rivals.sort_by_key(|(_, reason)| *reason != PROTOCOL);
        if let Some((_, reason)) = rivals.first().copied() {
            let names: Vec<&str> = rivals.iter().map(|(one, _)| one.name.as_str()).collect();
            let what = if reason == PROTOCOL { "speak differently at" } else { "are for the same host at" };
            let message = format!("it and {} {what} port {}; none of them is used", names.join(", "), listener.port);
            all[at].conflict = Some(problem(reason, message));
        }
    }
    all
}

const PROTOCOL: &str = "ProtocolConflict";
const HOSTNAME: &str = "HostnameConflict";

fn rivalry(
    (one, spoken): (&GatewayListener, Spoken),
    (other, theirs): (&GatewayListener, Spoken),
) -> Option<&'static str> {
    let both_http = spoken == Spoken::Http && theirs == Spoken::Http;
    let both_tls = spoken.is_tls() && theirs.is_tls();
    if !both_http && !both_tls {
        return Some(PROTOCOL);
    }
    (one.hostname == other.hostname).then_some(HOSTNAME)
}

/// Ports of the proxy itself.
pub const OWN: [u16; 4] = [15000, 15008, 15020, 15021];
const GROUP: &str = "gateway.networking.k8s.io";

fn alone(listener: &GatewayListener, is_waypoint: bool) -> Judged {
    let (spoken, mut refused) = match spoken(listener, is_waypoint) {
        Ok(spoken) => (Some(spoken), None),
        Err(problem) => (None, Some(problem)),
    };
    if !is_waypoint && OWN.contains(&listener.port) {
        let message = format!("port {} is the proxy's own; choose another", listener.port);
        refused = Some(problem("PortUnavailable", message));
    }
    let fitting = spoken.map_or(&[][..], Spoken::kinds);
    let named = |kind: &RouteKind| {
        let asked = |one: &lateen_cluster::api::RouteGroupKind| {
            one.kind == kind.as_str() && one.group.as_deref().is_none_or(|group| group == GROUP)
        };
        listener.kinds.is_empty() || listener.kinds.iter().any(asked)
    };
    let kinds: Vec<RouteKind> = fitting.iter().copied().filter(named).collect();
    let known = |one: &&lateen_cluster::api::RouteGroupKind| {
        one.group.as_deref().is_none_or(|group| group == GROUP) && kinds.iter().any(|kind| kind.as_str() == one.kind)
    };
    let unknown: Vec<&str> = listener.kinds.iter().filter(|one| !known(one)).map(|one| one.kind.as_str()).collect();
    let unknown_kinds = (!unknown.is_empty() && spoken.is_some()).then(|| {
        let message =
            format!("{} cannot be attached to a listener of protocol {}", unknown.join(", "), listener.protocol);
        problem("InvalidRouteKinds", message)
    });
    Judged { spoken, refused, conflict: None, kinds, unknown_kinds }
}

fn spoken(listener: &GatewayListener, is_waypoint: bool) -> Result<Spoken, Problem> {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_deref()).unwrap_or("Terminate");
    match (listener.protocol.as_str(), is_waypoint) {
        ("HBONE", true) => Ok(Spoken::Tunnels),
        (_, true) => Err(unsupported(listener, "a waypoint's is HBONE")),
        ("HTTP", false) => Ok(Spoken::Http),
        ("TCP", false) => Ok(Spoken::Tcp),
        ("HTTPS", false) if mode == "Terminate" => Ok(Spoken::Https),
        ("TLS", false) if mode == "Terminate" => Ok(Spoken::Terminated),
        ("TLS", false) if mode == "Passthrough" => Ok(Spoken::Passed),
        ("HTTPS" | "TLS", false) => {
            let message = format!("tls.mode {mode:?} cannot be used with protocol {}", listener.protocol);
            Err(problem("UnsupportedValue", message))
        }
        (_, false) => Err(unsupported(listener, "use HTTP, HTTPS, TLS or TCP")),
    }
}

fn unsupported(listener: &GatewayListener, instead: &str) -> Problem {
    problem("UnsupportedProtocol", format!("protocol {:?} is not served here; {instead}", listener.protocol))
}
