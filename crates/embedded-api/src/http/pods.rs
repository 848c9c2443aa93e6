//! Subresources of pods: logs, eviction, binding; exec is refused.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt as _;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use rt::{deadline::within, drain::Drain};
use serde_json::{Value, json};

use crate::{
    api::{Api, Target},
    http::{
        answer::{self, Answer, Body},
        query::Query,
    },
    node_proxy::LogQuery,
    object,
    ops::{
        Part, WriteMode,
        delete::{DeleteMode, delete},
        replace::{Next, Tracked, commit, current},
    },
    status::ApiError,
};

/// How long a node may take until a log begins.
const LOG_START_TIMEOUT: Duration = Duration::from_secs(30);

/// Streams a container's log.
pub async fn logs(api: &Arc<Api>, target: &Target, query: &Query, drain: Drain) -> Answer {
    let pod = current(api, target)?;
    let container = chosen_container(&pod, query.text("container"))?;
    if object::text(&pod, "/spec/nodeName").is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let Some(nodes) = api.options.nodes.clone() else {
        return Err(ApiError::not_implemented("this server was started without nodes: no logs"));
    };
    let asked = LogQuery {
        container,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines: query.number("tailLines")?,
        since_seconds: query.number("sinceSeconds")?,
        limit_bytes: query.number("limitBytes")?,
    };
    let opened = within("opening the log on the node", LOG_START_TIMEOUT, nodes.logs(&pod, asked)).await;
    let log = opened.map_err(ApiError::internal)?.map_err(|error| {
        if error.bad_request { ApiError::bad_request(error.message) } else { ApiError::internal(error.message) }
    })?;
    let until = async move { drain.draining().await };
    let frames = log.take_until(Box::pin(until)).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response: Response<Body> = answer::bytes(200, "text/plain", "");
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

fn chosen_container(pod: &Value, asked: &str) -> Result<String, ApiError> {
    let names: Vec<&str> = ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .flat_map(|list| object::list(pod, list).iter().map(|container| object::text(container, "/name")))
        .collect();
    let regular = object::list(pod, "/spec/containers").len();
    let name = object::name(pod);
    match (asked, regular) {
        ("", 1) => Ok(names[0].to_owned()),
        ("", _) => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            names.join(" ")
        ))),
        (asked, _) if names.contains(&asked) => Ok(asked.to_owned()),
        (asked, _) => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
    }
}

/// Why there is no exec.
pub fn exec_refused() -> ApiError {
    ApiError::not_implemented("exec, attach and port-forward are not offered by this API server; use `lateen lab exec`")
}

/// Binds a pod to a node.
pub fn bind(api: &Api, target: &Target, body: &Value) -> Result<Value, ApiError> {
    let name = if target.name.is_empty() { object::name(body) } else { &target.name };
    let resource = api.registry.find("", "v1", "pods").ok_or_else(ApiError::no_such_path)?;
    let target =
        Target { resource, version: "v1".to_owned(), name: name.to_owned(), namespace: target.namespace.clone() };
    let node = object::text(body, "/target/name");
    let kind = object::text(body, "/target/kind");
    if node.is_empty() || !matches!(kind, "" | "Node") {
        return Err(ApiError::bad_request("target.name must name a Node"));
    }
    let _writer = api.writer.lock();
    let pod = current(api, &target)?;
    let present = object::text(&pod, "/spec/nodeName");
    if !present.is_empty() {
        let why = format!("pod {name} is already assigned to node \"{present}\"");
        return Err(ApiError::conflict(crate::status::About { group: "", resource: "pods/binding", name }, &why));
    }
    if object::is_terminating(&pod) {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(ApiError::conflict(crate::status::About { group: "", resource: "pods/binding", name }, &why));
    }
    let mut next = (*pod).clone();
    object::set(&mut next, &["spec", "nodeName"], node);
    let mut conditions = object::list(&next, "/status/conditions").to_vec();
    conditions.retain(|condition| object::text(condition, "/type") != "PodScheduled");
    conditions.push(
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object::now() }),
    );
    object::set(&mut next, &["status", "conditions"], conditions);
    object::remove(&mut next, &["metadata", "resourceVersion"]);
    let mode = WriteMode { part: Part::Whole, manager: "kube-scheduler".to_owned(), ..WriteMode::default() };
    commit(api, &target, &pod, Next { object: next, tracked: Tracked::ByDifference }, &mode)?;
    Ok(success())
}

/// Evicts a pod, unless a disruption budget of its namespace forbids it.
pub fn evict(api: &Api, target: &Target, body: &Value) -> Result<Value, ApiError> {
    let pod = current(api, target)?;
    let budgets =
        api.store.list(&crate::store::GroupResource::new("policy", "poddisruptionbudgets"), Some(&target.namespace));
    for budget in &budgets.objects {
        let selector = budget.pointer("/spec/selector").unwrap_or(&Value::Null);
        let covers = crate::selector::LabelSelector::parse(&crate::ops::scale::selector_text(selector))?.matches(&pod);
        let allowed = budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0);
        if covers && allowed < 1 {
            return Err(ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
            ));
        }
    }
    let options = body.get("deleteOptions").cloned().unwrap_or_default();
    delete(api, target, &DeleteMode::parse(&options)?)?;
    Ok(success())
}

/// A `Status` that says that it worked.
pub fn success() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}
