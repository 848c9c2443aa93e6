//! What has to be in the cluster for a Gateway (pure).
//!
//! In: the Gateway, its class, what the installation says, overlays. Out: objects, or why there can be none.

use std::{collections::BTreeMap, sync::Arc};

use lateen_cluster::{labels, store::Key};
use serde_json::{Value, json};

use super::{
    classes::{Class, Role},
    defaults::Defaults,
    facts::{Address, Wanted, Words},
    overlay::{self, Overlays},
    pod,
};
use crate::{
    derive::{Mesh, gate::judge},
    facts::{GatewayListener, Servers, selects},
};

/// The kinds of objects that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ServiceAccount,
    Service,
    PodDisruptionBudget,
    HorizontalPodAutoscaler,
    Deployment,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ServiceAccount,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
        Self::Deployment,
    ];

    /// Group, version, kind and plural.
    pub fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
        }
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its kind.
    pub kind: Kind,
    /// Its name; its namespace is the Gateway's.
    pub name: String,
    /// The whole of it.
    pub object: Value,
}

/// Where the control plane is, what it knows.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The control plane's namespace.
    pub namespace: &'a str,
    /// Its revision.
    pub revision: &'a str,
    /// What the installation says of pods.
    pub defaults: &'a Defaults,
    /// What holds for the mesh.
    pub mesh: &'a Mesh,
    /// The cluster's network.
    pub network: &'a str,
    /// Gateways of the mesh's own API, which gateways listen by where they select their pods.
    pub servers: &'a [Arc<Servers>],
}

/// Why a Gateway cannot be run: a reason of its condition `Accepted`, and words for its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason.
    pub reason: &'static str,
    /// What is wrong, where, and what would be right.
    pub message: String,
}

impl Refused {
    /// Something in the overlays.
    pub fn parameters(message: String) -> Self {
        Self { reason: "InvalidParameters", message }
    }
}

/// One Gateway that we run.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Where it is.
    pub key: &'a Key,
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// Its class.
    pub class: Class,
}

/// The objects of a Gateway.
pub fn plan(subject: Subject<'_>, overlays: &[Overlays], around: Around<'_>) -> Result<Vec<Planned>, Refused> {
    let name = name_of(subject)?;
    let maker = Maker { subject, name: &name, account: account_of(subject.wanted).unwrap_or(&name), around };
    let mut wanted = vec![(Kind::Service, maker.service()?)];
    if account_of(subject.wanted).is_none() {
        wanted.push((Kind::ServiceAccount, maker.object(Kind::ServiceAccount, json!({}))));
    }
    let scales = overlays.iter().any(|layer| layer.of(Kind::HorizontalPodAutoscaler).is_some());
    let deployment = overlay::all(overlays, Kind::Deployment, maker.deployment(scales))?;
    pod::harmless(&deployment["spec"]["template"]["spec"], maker.account)?;
    let is_several = scales || deployment["spec"]["replicas"].as_u64().unwrap_or(1) > 1;
    // A budget for a single pod would keep its node from ever being drained; who wants that says so.
    if is_several || overlays.iter().any(|layer| layer.of(Kind::PodDisruptionBudget).is_some()) {
        wanted.push((Kind::PodDisruptionBudget, maker.budget()));
    }
    if scales {
        wanted.push((Kind::HorizontalPodAutoscaler, maker.autoscaler()));
    }
    let mut planned = vec![Planned { kind: Kind::Deployment, name: name.clone(), object: deployment }];
    for (kind, object) in wanted {
        planned.push(Planned { kind, name: name.clone(), object: overlay::all(overlays, kind, object)? });
    }
    // What a pod needs is there before the pod.
    planned.sort_by_key(|one| one.kind);
    Ok(planned)
}

/// The name of what is made.
pub fn name_of(subject: Subject<'_>) -> Result<String, Refused> {
    let Subject { key, wanted, class } = subject;
    let name = match (wanted.annotations.get(labels::GATEWAY_NAME_OVERRIDE), class.role) {
        (Some(name), _) => name.clone(),
        (None, Role::Waypoint) => key.name.to_string(),
        (None, Role::Gateway) => format!("{}-{}", key.name, wanted.class),
    };
    let refused = |message: String| Err(Refused { reason: "Invalid", message });
    if key.name.len() > NAME_MAX {
        return refused(format!(
            "the name {:?} is longer than {NAME_MAX} letters, and pods carry it as a label",
            key.name
        ));
    }
    if !is_name(&name) {
        return refused(format!(
            "{name:?} can be no Service: use at most {NAME_MAX} lower-case letters, digits and '-', beginning with a letter"
        ));
    }
    Ok(name)
}

/// The longest name of a Service and value of a label.
const NAME_MAX: usize = 63;

fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= NAME_MAX
        && name.bytes().all(known)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
}

fn account_of(wanted: &Wanted) -> Option<&str> {
    wanted.annotations.get(labels::GATEWAY_ACCOUNT).map(String::as_str).filter(|name| !name.is_empty())
}

/// One Gateway's objects, under their names.
pub(super) struct Maker<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) name: &'a str,
    pub(super) account: &'a str,
    pub(super) around: Around<'a>,
}

impl Maker<'_> {
    fn object(&self, kind: Kind, spec: Value) -> Value {
        let (group, version, name, _) = kind.words();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let mut object = json!({
            "apiVersion": api_version,
            "kind": name,
            "metadata": {
                "name": self.name,
                "namespace": &*self.subject.key.namespace,
                "labels": self.labels(),
                "annotations": self.annotations(),
                // Plain: the Gateway is no controller of theirs in the sense that others must keep off.
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                    "name": &*self.subject.key.name, "uid": self.subject.wanted.uid,
                }],
            },
        });
        if spec.as_object().is_some_and(|spec| !spec.is_empty()) {
            object["spec"] = spec;
        }
        object
    }

    /// Labels of everything that is made.
    pub(super) fn labels(&self) -> Words {
        let wanted = self.subject.wanted;
        let mut all = copied(wanted.infrastructure.labels.as_ref().unwrap_or(&wanted.labels));
        all.insert(labels::MANAGED.to_owned(), self.subject.class.managed());
        all.insert(labels::GATEWAY_NAME.to_owned(), self.subject.key.name.to_string());
        all.insert(labels::GATEWAY_CLASS_NAME.to_owned(), wanted.class.clone());
        all
    }

    pub(super) fn annotations(&self) -> Words {
        let wanted = self.subject.wanted;
        copied(wanted.infrastructure.annotations.as_ref().unwrap_or(&wanted.annotations))
    }

    /// What tells the proxy's pods from all others.
    pub(super) fn selector(&self) -> Value {
        json!({labels::GATEWAY_NAME: &*self.subject.key.name})
    }

    fn deployment(&self, scales: bool) -> Value {
        let mut spec = json!({
            "selector": {"matchLabels": self.selector()},
            // A new pod serves before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod::template(self),
        });
        if !scales {
            spec["replicas"] = json!(self.around.defaults.replicas);
        }
        self.object(Kind::Deployment, spec)
    }

    fn service(&self) -> Result<Value, Refused> {
        let (class, wanted) = (self.subject.class, self.subject.wanted);
        let usual = if class.role == Role::Waypoint { "ClusterIP" } else { "LoadBalancer" };
        let kind = wanted.annotations.get(labels::SERVICE_TYPE).map_or(usual, String::as_str);
        if !["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind) {
            let message =
                format!("annotation {}: {kind:?}; use ClusterIP, NodePort or LoadBalancer", labels::SERVICE_TYPE);
            return Err(Refused { reason: "Invalid", message });
        }
        let mut spec = json!({
            "type": kind,
            "ipFamilyPolicy": "PreferDualStack",
            "selector": self.selector(),
            "ports": self.ports(),
        });
        match (&wanted.address, kind) {
            (Address::Ip(ip), "LoadBalancer") => spec["loadBalancerIP"] = json!(ip.to_string()),
            (Address::Ip(ip), _) => spec["clusterIP"] = json!(ip.to_string()),
            (Address::Any | Address::Elsewhere(_) | Address::Unsupported(_), _) => {}
        }
        let mut service = self.object(Kind::Service, spec);
        if class.role == Role::Waypoint
            && service["metadata"]["annotations"].get(labels::TRAFFIC_DISTRIBUTION).is_none()
        {
            service["metadata"]["annotations"][labels::TRAFFIC_DISTRIBUTION] = json!("PreferClose");
        }
        Ok(service)
    }

    fn budget(&self) -> Value {
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": self.selector()}});
        self.object(Kind::PodDisruptionBudget, spec)
    }

    /// As small as a waypoint may be; the overlay that asks for it says the rest.
    fn autoscaler(&self) -> Value {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name});
        let fewest = self.around.defaults.replicas;
        let spec = json!({"scaleTargetRef": target, "minReplicas": fewest, "maxReplicas": fewest});
        self.object(Kind::HorizontalPodAutoscaler, spec)
    }
}

/// What is passed on to what is made: the Gateway API's own words stay with the Gateway, and so does kubectl's memory.
fn copied(words: &Words) -> Words {
    let stays = |key: &str| {
        key.starts_with("gateway.networking.k8s.io/") || key == "kubectl.kubernetes.io/last-applied-configuration"
    };
    words.iter().filter(|(key, _)| !stays(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

const STATUS_PORT: u16 = 15021;
const HBONE_PORT: u16 = 15008;

impl Maker<'_> {
    /// The listeners' ports, then those of the servers that select the pods.
    fn ports(&self) -> Vec<Value> {
        let role = self.subject.class.role;
        let mut all = ports(&self.subject.wanted.listeners, role);
        if role == Role::Waypoint {
            return all;
        }
        let labels = self.labels();
        let selecting = self.around.servers.iter().filter(|one| selects(&one.spec.selector, &labels));
        for port in selecting.flat_map(|one| &one.spec.servers).map(|server| &server.port) {
            let is_free = all.iter().all(|known| known["port"] != port.number);
            if !is_free || port.number == 0 || judge::OWN.contains(&port.number) {
                continue;
            }
            let name = format!("port-{}", port.number);
            let mut made = json!({"name": name, "port": port.number, "targetPort": port.number, "protocol": "TCP"});
            if let Some(words) = app_protocol(&port.protocol.to_ascii_uppercase()) {
                made["appProtocol"] = json!(words);
            }
            all.push(made);
        }
        all
    }
}

/// The Service's ports: one for each port of a listener, whoever of several listeners names it first. A gateway's listener
/// that is not accepted is listened on by nobody.
fn ports(listeners: &[GatewayListener], role: Role) -> Vec<Value> {
    let mut ports =
        vec![json!({"name": "status-port", "port": STATUS_PORT, "targetPort": STATUS_PORT, "protocol": "TCP"})];
    let mut seen = BTreeMap::from([(STATUS_PORT, ())]);
    let judged = judge::judge(listeners, role == Role::Waypoint);
    let open = listeners.iter().zip(&judged).filter(|(_, judged)| role == Role::Waypoint || judged.is_accepted());
    for (listener, _) in open {
        if listener.port == 0 || seen.insert(listener.port, ()).is_some() {
            continue;
        }
        let is_mesh = listener.protocol == "HBONE";
        let mut port = json!({
            "name": port_name(listener), "port": listener.port, "targetPort": listener.port, "protocol": "TCP",
        });
        if let Some(words) = app_protocol(&listener.protocol) {
            port["appProtocol"] = json!(words);
        }
        // A waypoint takes what arrives in tunnels, whatever port its author wrote down for them.
        if is_mesh && role == Role::Waypoint {
            port["targetPort"] = json!(HBONE_PORT);
        }
        ports.push(port);
    }
    if role == Role::Waypoint && seen.insert(HBONE_PORT, ()).is_none() {
        ports.push(json!({"name": "mesh", "port": HBONE_PORT, "targetPort": HBONE_PORT, "protocol": "TCP", "appProtocol": "hbone"}));
    }
    ports
}

/// At most 63 letters, and no two alike: the port is part of it where a listener's name is not all its own.
fn port_name(listener: &GatewayListener) -> String {
    let fits = !listener.name.is_empty() && listener.name.len() <= NAME_MAX && !listener.name.contains('.');
    if fits && listener.name != "status-port" { listener.name.clone() } else { format!("port-{}", listener.port) }
}

fn app_protocol(protocol: &str) -> Option<&'static str> {
    match protocol {
        "HBONE" => Some("hbone"),
        "HTTP" => Some("http"),
        "HTTPS" => Some("https"),
        "TLS" => Some("tls"),
        "TCP" => Some("tcp"),
        _ => None,
    }
}
