//! `PeerAuthentication` as policies that deny plaintext, and which of them a workload names.
//!
//! ```text
//! mesh (root namespace) ─► namespace ─► workload (selector)      the older of one level wins, UNSET inherits
//!            parent: is plaintext refused?   └─ may refuse, allow, and make exceptions for ports
//! ```

use lateen_cluster::{api::MutualTlsMode as Mode, store::Key};
use lateen_types::label::Labels;
use lateen_wire::security as wire;

use super::{Mesh, enforced::Enforceable, matching};
use crate::facts::{PeerAuthentication, selects};

/// The policy that refuses all plaintext; workloads that do so name it.
pub const STATIC_STRICT: &str = "istio_converted_static_strict";
const PORTS_PREFIX: &str = "converted_peer_authentication_";

/// The policies a workload's answer comes from, as found in the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct Levels<'a> {
    /// Of the root namespace, without selector.
    pub mesh: Option<&'a PeerAuthentication>,
    /// Of the workload's namespace, without selector.
    pub namespace: Option<&'a PeerAuthentication>,
}

impl Levels<'_> {
    /// Whether plaintext is refused where no selector says otherwise.
    pub fn strict(&self) -> bool {
        let wished = |level: Option<&PeerAuthentication>| level.map(|one| one.mode).filter(|mode| *mode != Mode::Unset);
        wished(self.namespace).or_else(|| wished(self.mesh)) == Some(Mode::Strict)
    }
}

/// The oldest of `all`.
pub fn oldest<'a, K>(all: impl Iterator<Item = (K, &'a PeerAuthentication)>) -> Option<(K, &'a PeerAuthentication)> {
    all.min_by(|(_, one), (_, other)| one.age.cmp(&other.age))
}

/// The policies a workload with these `labels` names. `own` are the selector policies of its namespace, none for the
/// root namespace, where selectors have no effect.
pub fn names<'a>(
    mesh: &Mesh,
    levels: Levels<'_>,
    own: impl Iterator<Item = (&'a Key, &'a PeerAuthentication)>,
    labels: &Labels,
) -> Vec<String> {
    let strict = levels.strict();
    let static_strict = || vec![format!("{}/{STATIC_STRICT}", mesh.root_namespace)];
    let matching = own.filter(|(_, policy)| policy.selector.as_ref().is_some_and(|asked| selects(asked, labels)));
    let Some((key, policy)) = oldest(matching) else { return if strict { static_strict() } else { Vec::new() } };
    if !exceptions(policy, strict).is_empty() {
        return vec![format!("{}/{PORTS_PREFIX}{}", key.namespace, key.name)];
    }
    if base_is_strict(policy, strict) { static_strict() } else { Vec::new() }
}

/// The policy that refuses all plaintext.
pub fn static_strict(mesh: &Mesh) -> wire::Authorization {
    let everyone_unknown = wire::Match { not_principals: vec![matching::presence()], ..wire::Match::default() };
    policy(&mesh.root_namespace, STATIC_STRICT.to_owned(), vec![rule(vec![everyone_unknown])])
}

/// The policy for the ports that differ from the rest of their workload; none when no port does.
pub fn ports(key: &Key, peer: &PeerAuthentication, parent_strict: bool) -> Option<wire::Authorization> {
    let ports = exceptions(peer, parent_strict);
    if ports.is_empty() {
        return None;
    }
    let unknown = || wire::Match { not_principals: vec![matching::presence()], ..wire::Match::default() };
    let rules = if base_is_strict(peer, parent_strict) {
        let other_port = |port: u16| wire::Match { not_destination_ports: vec![port.into()], ..wire::Match::default() };
        vec![rule(std::iter::once(unknown()).chain(ports.into_iter().map(other_port)).collect())]
    } else {
        let at_port = |port: u16| wire::Match { destination_ports: vec![port.into()], ..unknown() };
        ports.into_iter().map(|port| rule(vec![at_port(port)])).collect()
    };
    Some(policy(&key.namespace, format!("{PORTS_PREFIX}{}", key.name), rules))
}

/// What of a peer authentication can be enforced. `holder` is the one without selector that holds in its namespace.
pub fn enforceable(mesh: &Mesh, key: &Key, peer: &PeerAuthentication, holder: Option<&Key>) -> Enforceable {
    if peer.selector.is_some() && *key.namespace == *mesh.root_namespace {
        let why = "spec.selector: in the root namespace a selector has no effect; put the object beside its pods";
        return Enforceable::Nothing(vec![why.to_owned()]);
    }
    if peer.selector.is_none()
        && let Some(holder) = holder.filter(|holder| *holder != key)
    {
        return Enforceable::Overridden(holder.clone());
    }
    let mut lost = Vec::new();
    if peer.selector.is_none() && !peer.ports.is_empty() {
        lost.push("spec.portLevelMtls: it needs a selector".to_owned());
    }
    let disabled = "DISABLE holds as PERMISSIVE, because tunnels cannot be turned off";
    if peer.mode == Mode::Disable {
        lost.push(format!("spec.mtls.mode: {disabled}"));
    }
    let ports = peer.ports.iter().filter(|(_, mode)| **mode == Mode::Disable);
    lost.extend(ports.map(|(port, _)| format!("spec.portLevelMtls[{port}].mode: {disabled}")));
    if lost.is_empty() { Enforceable::Whole } else { Enforceable::Without(lost) }
}

/// Whether ports that say nothing refuse plaintext.
fn base_is_strict(peer: &PeerAuthentication, parent_strict: bool) -> bool {
    match peer.mode {
        Mode::Strict => true,
        Mode::Permissive | Mode::Disable => false,
        Mode::Unset => parent_strict,
    }
}

/// The ports that differ from the rest of their workload.
fn exceptions(peer: &PeerAuthentication, parent_strict: bool) -> Vec<u16> {
    let base = base_is_strict(peer, parent_strict);
    let differs = |mode: Mode| match mode {
        Mode::Strict => !base,
        Mode::Permissive | Mode::Disable => base,
        Mode::Unset => false,
    };
    peer.ports.iter().filter(|(_, mode)| differs(**mode)).map(|(port, _)| *port).collect()
}

/// All of `matches` must hold: each is a clause of its own.
fn rule(matches: Vec<wire::Match>) -> wire::Rule {
    wire::Rule { clauses: matches.into_iter().map(|one| wire::Clause { matches: vec![one] }).collect() }
}

fn policy(namespace: &str, name: String, rules: Vec<wire::Rule>) -> wire::Authorization {
    wire::Authorization {
        name,
        namespace: namespace.to_owned(),
        scope: wire::Scope::WorkloadSelector.into(),
        action: wire::Action::Deny.into(),
        rules,
        ..wire::Authorization::default()
    }
}
