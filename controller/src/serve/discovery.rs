//! Discovery streams: who may open one, and as which node.
//!
//! In: streams of requests with a bearer token. Out: streams of responses from the table.
//! A proxy must be who its node metadata says: the namespace and account of its token, on the node its pod runs on.

use std::sync::OnceLock;

use lateen_rt::{drain::Drain, ready::Readiness, tasks::Tasks};
use lateen_wire::core::Node;
use lateen_xds::{
    server::{self, Events, Peer, Responses, Table, serve},
    session::server::Acknowledged,
};
use prost_types::value::Kind;
use tonic::{Status, body::Body, codegen::http, metadata::MetadataMap};

use crate::{
    ca::{
        authn::{Caller, Reviewer},
        residents::{Instance, Residents},
    },
    enforcement::{Connected, Enforcement},
    graph::{gateway_group, gateway_of, node_group},
    names,
};

/// What answering needs.
#[derive(Debug, Clone)]
pub struct Service {
    /// Proves callers.
    pub reviewer: Reviewer,
    /// Who lives where.
    pub residents: Residents,
    /// What is served.
    pub table: Table,
    /// Streams wait until everything is known.
    pub readiness: Readiness,
    /// Owns the streams' work.
    pub tasks: Tasks,
    /// Ends the streams.
    pub drain: Drain,
    /// Who holds what.
    pub enforcement: Enforcement,
}

impl Service {
    /// Answers one call of [`METHOD`](lateen_xds::server::METHOD), as long as both sides like.
    pub async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let (parts, body) = request.into_parts();
        match self.open(&MetadataMap::from_headers(parts.headers), body).await {
            Ok(responses) => server::answer(responses),
            Err(status) => status.into_http(),
        }
    }

    async fn open(&self, metadata: &MetadataMap, body: Body) -> Result<Responses, Status> {
        // Half a picture would take from a proxy what it knows.
        if !self.readiness.pending().is_empty() {
            return Err(refuse("not_ready", Status::unavailable("not ready yet; try again")));
        }
        let caller = self.reviewer.caller(metadata).await.map_err(|error| {
            tracing::warn!(reason = error.reason(), %error, "a discovery stream was refused");
            let ours = error.is_ours();
            let status =
                if ours { Status::unavailable("try again") } else { Status::unauthenticated("authentication failure") };
            refuse(error.reason(), status)
        })?;
        let proxy = Proxy {
            enforcement: self.enforcement.clone(),
            connected: OnceLock::new(),
            caller,
            residents: self.residents.clone(),
            _counted: Counted::new(),
        };
        let (responses, work) = serve(self.table.requests(body), self.table.clone(), proxy, self.drain.clone());
        self.tasks.spawn("discovery stream", work);
        Ok(responses)
    }
}

fn refuse(reason: &'static str, status: Status) -> Status {
    metrics::counter!(names::XDS_REFUSED, "reason" => reason).increment(1);
    status
}

/// One connected proxy, counted while it is.
struct Proxy {
    caller: Caller,
    residents: Residents,
    enforcement: Enforcement,
    /// Set once it is admitted.
    connected: OnceLock<Connected>,
    _counted: Counted,
}

struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!(names::XDS_CONNECTED).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(names::XDS_CONNECTED).decrement(1.0);
    }
}

impl Events for Proxy {
    fn admit(&self, node: &Node) -> Result<Peer, Status> {
        let peer = admit(&self.caller, &self.residents, node).map_err(|(reason, status)| {
            let account = &self.caller.account;
            tracing::warn!(%account, node = node.id, reason, message = status.message(), "a discovery stream was refused");
            refuse(reason, status)
        })?;
        let gateway = peer.groups.iter().find_map(|group| gateway_of(group));
        self.connected.get_or_init(|| self.enforcement.connect(called(&peer.id), gateway));
        Ok(peer)
    }

    fn progressed(&self, _peer: &Peer, type_url: &str, revision: Option<u64>) {
        if let Some(connected) = self.connected.get() {
            connected.progressed(type_url, revision);
        }
    }

    fn acknowledged(&self, _peer: &Peer, what: &Acknowledged) {
        if let Some(words) = &what.rejected {
            if let Some(connected) = self.connected.get() {
                connected.rejected(&what.type_url, words);
            }
            let kind = crate::names::xds_type(&what.type_url);
            metrics::counter!(names::REJECTS, "xds_type" => kind).increment(1);
        }
    }
}

/// The pod in a node id `<kind>~<ip>~<pod>.<namespace>~<domain>`.
fn called(id: &str) -> &str {
    id.split('~').nth(2).unwrap_or(id)
}

/// Whether a proven caller is the node it says it is, and what belongs to it unasked.
fn admit(caller: &Caller, residents: &Residents, node: &Node) -> Result<Peer, (&'static str, Status)> {
    let metadata = |key: &str| match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(text.as_str()),
        Kind::StringValue(_)
        | Kind::NullValue(_)
        | Kind::NumberValue(_)
        | Kind::BoolValue(_)
        | Kind::StructValue(_)
        | Kind::ListValue(_) => None,
    };
    if node.id.is_empty() {
        return Err(("no_node", Status::invalid_argument("the first request must carry a node id")));
    }
    let mismatch = |what: &str| Status::permission_denied(format!("the {what} of the node is not that of the token"));
    // Without a namespace in its metadata a node claims none.
    if metadata("NAMESPACE").is_some_and(|claimed| *claimed != *caller.account.namespace) {
        return Err(("namespace", mismatch("namespace")));
    }
    if metadata("SERVICE_ACCOUNT").is_some_and(|claimed| *claimed != *caller.account.name) {
        return Err(("service_account", mismatch("service account")));
    }
    let mut groups = match metadata("NODE_NAME") {
        None => Vec::new(),
        Some(claimed) => match residents.node_of(caller) {
            Some(real) if real == claimed => vec![node_group(claimed)],
            Some(_) => return Err(("node", mismatch("node name"))),
            // Its pod is newer than what we know; it will be known in a moment.
            None => return Err(("unknown_pod", Status::unavailable("the caller's pod is not known yet; try again"))),
        },
    };
    match residents.gateway_of(caller) {
        Instance::Of(gateway) => groups.push(gateway_group(&gateway)),
        Instance::Unknown if is_gateway(&node.id) => {
            return Err(("unknown_pod", Status::unavailable("the caller's pod is not known yet; try again")));
        }
        Instance::Plain if is_gateway(&node.id) => {
            let label = lateen_cluster::labels::GATEWAY_NAME;
            let words = format!("the caller's pod is no Gateway's: it carries no label {label}");
            return Err(("no_gateway", Status::permission_denied(words)));
        }
        Instance::Unknown | Instance::Plain => {}
    }
    Ok(Peer { id: node.id.clone(), groups })
}

/// Whether a node says that it is a waypoint or a gateway. What it is sent hangs on its pod, not on this.
fn is_gateway(id: &str) -> bool {
    ["waypoint~", "gateway~", "router~"].iter().any(|kind| id.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lateen_cluster::store::Key;
    use prost_types::{Struct, Value};

    use super::*;
    use crate::{ca::authn::CallerPod, facts};

    fn node(metadata: &[(&str, &str)]) -> Node {
        let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields: BTreeMap<String, Value> =
            metadata.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
        Node {
            id: "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local".to_owned(),
            metadata: Some(Struct { fields }),
            ..Node::default()
        }
    }

    fn known_proxy() -> (Caller, Residents) {
        known(serde_json::json!({}))
    }

    fn known(labels: serde_json::Value) -> (Caller, Residents) {
        let key = Key::new("istio-system", "ztunnel-1");
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "u1", "labels": labels},
            "spec": {"nodeName": "n1", "serviceAccountName": "ztunnel", "containers": []}}))
        .expect("a pod");
        let lateen_cluster::store::Reading::Value(pod) = facts::Pod::read(pod) else { panic!("a pod") };
        let residents = Residents::default();
        residents.note(&key, Some(&pod));
        let pod = CallerPod { key, uid: "u1".to_owned() };
        (Caller { account: Key::new("istio-system", "ztunnel"), pod: Some(pod) }, residents)
    }

    #[test]
    fn a_proxy_is_admitted_as_what_it_is() {
        let (caller, residents) = known_proxy();
        let claims = [("NAMESPACE", "istio-system"), ("SERVICE_ACCOUNT", "ztunnel"), ("NODE_NAME", "n1")];
        let peer = admit(&caller, &residents, &node(&claims)).expect("admitted");
        assert_eq!(peer.groups, ["node/n1"]);
        assert!(admit(&caller, &residents, &node(&claims[..1])).expect("admitted").groups.is_empty());
    }

    /// Whatever it says of itself: the pod its token is bound to, and that pod's label, decide.
    #[test]
    fn a_proxy_belongs_to_the_gateway_its_pod_is_labelled_for() {
        let label = lateen_cluster::labels::GATEWAY_NAME;
        let waypoint = Node { id: "waypoint~10.0.0.1~w.shop~x".to_owned(), ..Node::default() };
        let (caller, residents) = known(serde_json::json!({label: "w"}));
        assert_eq!(admit(&caller, &residents, &waypoint).expect("admitted").groups, ["gateway/istio-system/w"]);
        let earlier = CallerPod { uid: "u0".to_owned(), ..caller.pod.clone().expect("bound") };
        let other_account = Caller { account: Key::new("istio-system", "default"), ..caller.clone() };
        let (unlabelled, plain) = known(serde_json::json!({}));
        for (caller, residents, reason) in [
            (Caller { pod: Some(earlier), ..caller.clone() }, &residents, "unknown_pod"),
            (Caller { pod: None, ..caller.clone() }, &residents, "unknown_pod"),
            (other_account, &residents, "no_gateway"),
            (unlabelled, &plain, "no_gateway"),
        ] {
            assert_eq!(admit(&caller, residents, &waypoint).expect_err("refused").0, reason);
            // Who claims to be something else is let in, and gets nothing of any Gateway's.
            let ztunnel = Node { id: "ztunnel~10.0.0.1~z.shop~x".to_owned(), ..Node::default() };
            assert!(admit(&caller, residents, &ztunnel).expect("admitted").groups.is_empty());
        }
    }

    #[test]
    fn and_as_nothing_else() {
        let (caller, residents) = known_proxy();
        let check = |caller: &Caller, node: &Node, reason: &str, code: tonic::Code| {
            let (found, status) = admit(caller, &residents, node).expect_err("refused");
            assert_eq!((found, status.code()), (reason, code));
        };
        use tonic::Code::{InvalidArgument, PermissionDenied, Unavailable};
        check(&caller, &node(&[("NAMESPACE", "shop")]), "namespace", PermissionDenied);
        check(&caller, &node(&[("SERVICE_ACCOUNT", "web")]), "service_account", PermissionDenied);
        check(&caller, &node(&[("NODE_NAME", "n2")]), "node", PermissionDenied);
        let unbound = Caller { pod: None, ..caller.clone() };
        check(&unbound, &node(&[("NODE_NAME", "n1")]), "unknown_pod", Unavailable);
        check(&caller, &Node::default(), "no_node", InvalidArgument);
    }
}
