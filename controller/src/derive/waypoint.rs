//! Which waypoint traffic to an object passes, and what the object's author is told of it.
//!
//! ```text
//! the object's labels ─ unsaid ─► a waypoint for its account ─ none ─► the namespace's labels ─ unsaid ─► none
//!        │ declined: none                 │                                 │
//!        └────────── a Gateway ───────────┴─────────────────────────────────┴──► is it there? may this namespace use
//!                                                                                it? does it take this traffic?
//! ```
//! In: wishes, Gateways as found. Out: addresses for the wire, a condition, the Gateways the answer depends on.
//! A word of the object's own that cannot be granted does not fall back to the namespace's. A waypoint that is asked for
//! and not granted is still demanded, unless the author says otherwise: what only it enforces must not be passed by.

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::workload as wire;

use super::word::{Truth, Word};
use crate::facts::{
    AllowedFrom, Asked, Canary, Gateway, GatewayClass, GatewayPlace, InboundBinding, Namespace, Traffic, Wish, ip_bytes,
};

/// Where waypoints end tunnels.
const HBONE_PORT: u16 = 15008;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Its namespace's name.
    pub namespace: &'a str,
    /// Its namespace.
    pub space: Option<&'a Namespace>,
    /// What it asks for itself.
    pub wish: &'a Wish,
    /// The traffic that goes to it.
    pub traffic: Traffic,
    /// The cluster's network.
    pub network: &'a str,
    /// Whether only its own namespace sees it, so that a waypoint elsewhere does not know it.
    pub is_private: bool,
    /// The waypoint for its service account, where there is one in its namespace.
    pub of_account: Option<&'a Key>,
}

/// A Gateway with its class.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The Gateway.
    pub gateway: &'a Gateway,
    /// Its class, if the cluster knows it.
    pub class: Option<&'a GatewayClass>,
}

/// What became of a wish.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Granted {
    /// The waypoint.
    pub waypoint: Option<Bound>,
    /// What stands for a waypoint that is not to be had: an address nobody has.
    pub missing: Option<wire::GatewayAddress>,
    /// A second one, with its share in percent.
    pub canary: Option<(Bound, u32)>,
    /// Whether ingress gateways pass it too.
    pub ingress: bool,
    /// What is said of it.
    pub word: Option<Word>,
    /// The waypoints that are to serve it, whether they have an address yet or not: what a waypoint must know before
    /// the first request comes.
    pub serving: Vec<Key>,
    /// Every Gateway that was looked for.
    pub looked_at: Vec<Key>,
}

impl Granted {
    /// What traffic must pass.
    pub fn must_pass(&self) -> Option<wire::GatewayAddress> {
        self.waypoint.as_ref().map(|bound| &bound.address).or(self.missing.as_ref()).cloned()
    }
}

/// A waypoint somebody is bound to.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The Gateway.
    pub key: Key,
    /// Where it is.
    pub address: wire::GatewayAddress,
}

/// Why a waypoint is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refused {
    NotReady(Key),
    Denied(Key),
    Traffic(Key),
    Private(Key),
}

impl Refused {
    fn word(&self, traffic: Traffic) -> Word {
        let (reason, message) = match self {
            Self::NotReady(key) => {
                ("WaypointIsNotReady", format!("there is no waypoint {key}, or it has no address yet"))
            }
            Self::Denied(key) => (
                "AttachmentDenied",
                format!("the waypoint {key} does not allow this namespace; see allowedRoutes of its listener"),
            ),
            Self::Private(key) => (
                "CrossNamespaceWaypointForbidden",
                format!("only its own namespace sees it, so the waypoint {key} does not know it"),
            ),
            Self::Traffic(key) => {
                let kind = if traffic == Traffic::Workload { "workloads" } else { "services" };
                let message =
                    format!("the waypoint {key} takes no traffic to {kind}; see its label istio.io/waypoint-for");
                ("UnsupportedTrafficType", message)
            }
        };
        Word { kind: BOUND, truth: Truth::False, reason, message }
    }
}

/// The condition's type.
pub const BOUND: &str = "istio.io/WaypointBound";

/// What becomes of the asker's wish.
pub fn resolve<'g>(asker: Asker<'_>, find: &dyn Fn(&Key) -> Option<Found<'g>>) -> Granted {
    let inherited = asker.space.map(|space| &space.wish);
    let of_account =
        Wish { waypoint: asker.of_account.cloned().map_or(Asked::Unsaid, Asked::Gateway), ..Wish::default() };
    // The canary is of the level that names the waypoint.
    let (wish, is_own) = match (&asker.wish.waypoint, asker.of_account, inherited) {
        (Asked::Unsaid, Some(_), _) => (&of_account, true),
        (Asked::Unsaid, None, Some(inherited)) => (inherited, false),
        (Asked::Unsaid, None, None) => return Granted::default(),
        (Asked::Declined | Asked::Gateway(_), _, _) => (asker.wish, true),
    };
    let Asked::Gateway(key) = &wish.waypoint else { return Granted::default() };
    let mut looked_at = vec![key.clone()];
    let named = [Some(key), wish.canary.as_ref().map(|canary| &canary.gateway)].into_iter().flatten();
    let serving: Vec<Key> = named.filter(|key| serves(asker, key, find)).cloned().collect();
    let ingress = asker.wish.ingress.or_else(|| inherited.and_then(|wish| wish.ingress)).unwrap_or_default();
    let bound = match grant(asker, key, find) {
        Ok(bound) => bound,
        Err(refused) => {
            // One label on a namespace serves services and workloads; that a waypoint is for one kind only is no fault.
            let silent = asker.traffic == Traffic::Workload && !is_own && matches!(refused, Refused::Traffic(_));
            let mut word = (!silent).then(|| refused.word(asker.traffic));
            let bypass = asker.wish.bypass || inherited.is_some_and(|wish| wish.bypass);
            // By itself a namespace's waypoint is for services: its workloads wait for one that is for them.
            let is_meant = is_own || asker.traffic != Traffic::Workload || takes(find(key), asker.traffic);
            let missing = (is_meant && !bypass).then(|| nowhere(key));
            if let Some(word) = word.as_mut().filter(|_| missing.is_some()) {
                word.message.push_str(MEANWHILE);
            }
            return Granted { missing, word, serving, looked_at, ..Granted::default() };
        }
    };
    let mut message = format!("attached to the waypoint {key}");
    if ingress {
        message.push_str("; ingress gateways pass it too");
    }
    let wanted = wish.canary.as_ref().filter(|_| asker.traffic == Traffic::Service);
    let canary = match wanted.map(|wanted| second(asker, (key, wanted), find)) {
        None => None,
        Some(Ok(canary)) => {
            message.push_str(&format!("; {} % of the traffic go to the canary {}", canary.1, canary.0.key));
            Some(canary)
        }
        Some(Err(why)) => {
            message.push_str(&format!("; the canary is not used: {why}"));
            None
        }
    };
    looked_at.extend(wanted.map(|wanted| wanted.gateway.clone()));
    let word = Word { kind: BOUND, truth: Truth::True, reason: "WaypointAccepted", message };
    Granted { waypoint: Some(bound), missing: None, canary, ingress, word: Some(word), serving, looked_at }
}

/// Whether a waypoint of ours is to serve the asker.
fn serves<'g>(asker: Asker<'_>, key: &Key, find: &dyn Fn(&Key) -> Option<Found<'g>>) -> bool {
    let Some(found) = find(key) else { return false };
    let is_hidden = asker.is_private && *key.namespace != *asker.namespace;
    is_ours(found.gateway) && !is_hidden && admits(asker, key, found) && takes(Some(found), asker.traffic)
}

/// The classes of waypoints that we run.
pub const CLASSES: [&str; 2] = ["istio-waypoint", "lateen-waypoint"];

/// Whether the Gateway is a waypoint that we run.
pub fn is_ours(gateway: &Gateway) -> bool {
    CLASSES.contains(&gateway.class.as_str())
}

/// The traffic a Gateway takes as a waypoint.
pub fn traffic(found: Found<'_>) -> Traffic {
    let said = found.gateway.traffic.or_else(|| found.class.and_then(|class| class.traffic));
    let is_of_account = found.gateway.serves_account.is_some();
    said.unwrap_or(if is_of_account { Traffic::All } else { Traffic::Service })
}

fn grant<'g>(asker: Asker<'_>, key: &Key, find: &dyn Fn(&Key) -> Option<Found<'g>>) -> Result<Bound, Refused> {
    if asker.is_private && *key.namespace != *asker.namespace {
        return Err(Refused::Private(key.clone()));
    }
    let found = find(key).ok_or_else(|| Refused::NotReady(key.clone()))?;
    let address = address_of(found.gateway, key, asker.network).ok_or_else(|| Refused::NotReady(key.clone()))?;
    if !admits(asker, key, found) {
        return Err(Refused::Denied(key.clone()));
    }
    if !takes(Some(found), asker.traffic) {
        return Err(Refused::Traffic(key.clone()));
    }
    Ok(Bound { key: key.clone(), address })
}

/// Whether a waypoint takes this traffic; of one that is not there, the usual is expected.
fn takes(found: Option<Found<'_>>, traffic: Traffic) -> bool {
    let takes = found.map_or(Traffic::Service, self::traffic);
    takes == Traffic::All || takes == traffic
}

fn admits(asker: Asker<'_>, key: &Key, found: Found<'_>) -> bool {
    let nothing = Labels::new();
    let space = asker.space.map_or(&nothing, |space| &space.labels);
    allows(found, key, (asker.namespace, space))
}

/// How a word ends that says that traffic is refused.
pub const MEANWHILE: &str = "; until that changes, traffic is refused (the annotation lateen.io/waypoint-missing: bypass \
                             lets it go direct)";

/// An address that no proxy finds (RFC 6761 keeps `.invalid` free), so that whoever is sent there is refused.
fn nowhere(key: &Key) -> wire::GatewayAddress {
    let hostname = format!("{}.{}.missing-waypoint.invalid", key.name, key.namespace);
    place_on_wire(&GatewayPlace::Hostname(hostname), &key.namespace, "", HBONE_PORT)
}

fn second<'g>(
    asker: Asker<'_>,
    (first, wanted): (&Key, &Canary),
    find: &dyn Fn(&Key) -> Option<Found<'g>>,
) -> Result<(Bound, u32), String> {
    if wanted.gateway == *first {
        return Err("CanarySameAsPrimary: it is the waypoint itself".to_owned());
    }
    let weight = wanted.weight.ok_or("CanaryInvalidWeight: its weight is no number from 0 to 100")?;
    let bound = grant(asker, &wanted.gateway, find).map_err(|refused| {
        let word = refused.word(asker.traffic);
        format!("{}: {}", word.reason, word.message)
    })?;
    Ok((bound, weight))
}

/// A name is preferred: it outlives the address.
fn address_of(gateway: &Gateway, key: &Key, network: &str) -> Option<wire::GatewayAddress> {
    let named = gateway.places.iter().find(|place| matches!(place, GatewayPlace::Hostname(_)));
    named.or(gateway.places.first()).map(|place| place_on_wire(place, &key.namespace, network, HBONE_PORT))
}

/// A Gateway's place as the wire carries it.
pub fn place_on_wire(place: &GatewayPlace, namespace: &str, network: &str, port: u16) -> wire::GatewayAddress {
    use wire::gateway_address::Destination;
    let destination = match place {
        GatewayPlace::Hostname(hostname) => Destination::Hostname(wire::NamespacedHostname {
            namespace: namespace.to_owned(),
            hostname: hostname.clone(),
        }),
        GatewayPlace::Ip(ip) => Destination::Address(wire::NetworkAddress {
            network: network.to_owned(),
            address: ip_bytes(*ip),
            length: None,
        }),
    };
    wire::GatewayAddress { destination: Some(destination), hbone_mtls_port: port.into() }
}

/// Whether a namespace may use the Gateway, by the listener that speaks for it.
pub fn allows(found: Found<'_>, key: &Key, (namespace, labels): (&str, &Labels)) -> bool {
    let listeners = &found.gateway.listeners;
    let bound = binding(found).filter(|binding| binding.port != 0);
    let speaks = bound.and_then(|binding| listeners.iter().find(|one| one.port == binding.port));
    let speaks = speaks.or_else(|| listeners.iter().find(|one| one.protocol == "istio.io/PROXY"));
    let speaks = speaks.or_else(|| listeners.iter().find(|one| one.protocol == "HBONE" && one.port == HBONE_PORT));
    match speaks.map(|listener| &listener.from) {
        Some(AllowedFrom::All) => true,
        Some(AllowedFrom::Selected(selector)) => selector.matches(labels),
        Some(AllowedFrom::Nobody) => false,
        Some(AllowedFrom::Same) | None => *namespace == *key.namespace,
    }
}

/// How the pods of a Gateway take connections.
pub fn binding(found: Found<'_>) -> Option<InboundBinding> {
    found.gateway.binding.or_else(|| found.class.and_then(|class| class.binding))
}

/// The binding as its pods' workloads carry it.
pub fn tunnel_to_app(found: Found<'_>) -> Option<wire::ApplicationTunnel> {
    use wire::application_tunnel::Protocol;
    binding(found).map(|binding| wire::ApplicationTunnel {
        protocol: if binding.proxy { Protocol::Proxy } else { Protocol::None }.into(),
        port: binding.port.into(),
    })
}

/// The waypoints of a service with their shares; empty while there is only one.
pub fn weighted(granted: &Granted) -> Vec<wire::WeightedWaypoint> {
    let (Some(first), Some((second, share))) = (&granted.waypoint, &granted.canary) else { return Vec::new() };
    let one = |bound: &Bound, weight: u32| wire::WeightedWaypoint { destination: Some(bound.address.clone()), weight };
    vec![one(first, 100 - share), one(second, *share)]
}
