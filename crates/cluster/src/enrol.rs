//! Is this pod in the mesh? The one place that decides.
//!
//! In: what matters of a pod, its namespace's labels, the rules of the installation. Out: yes, or no and why.
//! Absent on purpose: the cluster (the caller looks pod and namespace up) and what is done about the answer.

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use lateen_types::label::{Labels, Requirement, Selector};

use crate::labels::{DATAPLANE_MODE, MODE_AMBIENT, MODE_NONE, SIDECAR_STATUS};

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// The pod is captured.
    In,
    /// The pod is left alone.
    Out(Outside),
}

/// Why a pod is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// It shares the node's network namespace, which is not ours to redirect.
    HostNetwork,
    /// A sidecar captures it already.
    Sidecar,
    /// Its namespace is excluded by the installation.
    Namespace,
    /// It is the node proxy itself.
    NodeProxy,
    /// It has finished.
    Finished,
    /// No selector chose it.
    NotSelected,
}

impl Enrolment {
    /// Whether the pod is captured.
    pub fn is_in(self) -> bool {
        matches!(self, Self::In)
    }
}

/// What of a pod decides.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its namespace's name.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// Whether the annotation of an injected sidecar is there.
    pub sidecar: bool,
    /// Whether it shares the node's network namespace.
    pub host_network: bool,
    /// Whether it has succeeded or failed for good.
    pub finished: bool,
}

/// No labels.
static NO_LABELS: Labels = Labels::new();

impl<'a> Candidate<'a> {
    /// What decides of a Kubernetes pod.
    pub fn of(pod: &'a Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            labels: meta.labels.as_ref().unwrap_or(&NO_LABELS),
            sidecar: meta.annotations.as_ref().is_some_and(|all| all.contains_key(SIDECAR_STATUS)),
            host_network: pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default(),
            finished: pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed")),
        }
    }
}

/// What an installation says about enrolment.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Any of these enrols a pod.
    pub enablement: Vec<Enablement>,
    /// Namespaces whose pods never take part.
    pub excluded_namespaces: Vec<String>,
    /// The pods of the node proxy; `None` when it does not run as a pod.
    pub node_proxy: Option<NodeProxy>,
}

/// One way of being enrolled: both selectors must match.
#[derive(Debug, Clone)]
pub struct Enablement {
    /// On the pod's labels.
    pub pod: Selector,
    /// On its namespace's labels.
    pub namespace: Selector,
}

/// Which pods are the node proxy.
#[derive(Debug, Clone)]
pub struct NodeProxy {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub pods: Selector,
}

impl Rules {
    /// What an installation without settings says, with its own system namespace.
    pub fn standard(system_namespace: &str) -> Self {
        let app = Requirement::In { key: "app".to_owned(), values: vec!["ztunnel".to_owned()] };
        Self {
            enablement: standard_enablement(),
            excluded_namespaces: vec!["kube-system".to_owned()],
            node_proxy: Some(NodeProxy { namespace: system_namespace.to_owned(), pods: Selector::new(vec![app]) }),
        }
    }
}

/// The pod asks for it, or its namespace does and the pod does not refuse.
pub fn standard_enablement() -> Vec<Enablement> {
    let mode = |value: &str| (DATAPLANE_MODE.to_owned(), vec![value.to_owned()]);
    let ((key, values), (not_key, not_values)) = (mode(MODE_AMBIENT), mode(MODE_NONE));
    let ambient = Selector::new(vec![Requirement::In { key, values }]);
    let willing = Selector::new(vec![Requirement::NotIn { key: not_key, values: not_values }]);
    vec![
        Enablement { pod: ambient.clone(), namespace: Selector::default() },
        Enablement { pod: willing, namespace: ambient },
    ]
}

/// Whether `pod`, in a namespace with these labels, is in the mesh.
pub fn enrolled(pod: Candidate<'_>, namespace_labels: &Labels, rules: &Rules) -> Enrolment {
    if pod.host_network {
        return Enrolment::Out(Outside::HostNetwork);
    }
    if pod.sidecar {
        return Enrolment::Out(Outside::Sidecar);
    }
    if rules.excluded_namespaces.iter().any(|excluded| excluded == pod.namespace) {
        return Enrolment::Out(Outside::Namespace);
    }
    let is_proxy = |proxy: &NodeProxy| proxy.namespace == pod.namespace && proxy.pods.matches(pod.labels);
    if rules.node_proxy.as_ref().is_some_and(is_proxy) {
        return Enrolment::Out(Outside::NodeProxy);
    }
    if pod.finished {
        return Enrolment::Out(Outside::Finished);
    }
    let chosen = |way: &Enablement| way.pod.matches(pod.labels) && way.namespace.matches(namespace_labels);
    if rules.enablement.iter().any(chosen) { Enrolment::In } else { Enrolment::Out(Outside::NotSelected) }
}

/// A selector as users write it, `enablementSelectors: [{podSelector, namespaceSelector}]`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EnablementSelector {
    /// Empty matches every pod.
    pub pod_selector: LabelSelector,
    /// Empty matches every namespace.
    pub namespace_selector: LabelSelector,
}

/// A label selector that asks something Kubernetes has no such question for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label selector: requirement on {key:?} has operator {operator:?}; use In, NotIn, Exists or DoesNotExist")]
pub struct SelectorError {
    key: String,
    operator: String,
}

impl TryFrom<&EnablementSelector> for Enablement {
    type Error = SelectorError;

    fn try_from(written: &EnablementSelector) -> Result<Self, SelectorError> {
        Ok(Self { pod: selector_of(&written.pod_selector)?, namespace: selector_of(&written.namespace_selector)? })
    }
}

/// The words' form of a Kubernetes label selector.
pub fn selector_of(written: &LabelSelector) -> Result<Selector, SelectorError> {
    let equal = written.match_labels.iter().flatten();
    let mut all: Vec<Requirement> =
        equal.map(|(key, value)| Requirement::In { key: key.clone(), values: vec![value.clone()] }).collect();
    for expression in written.match_expressions.iter().flatten() {
        all.push(requirement_of(expression)?);
    }
    Ok(Selector::new(all))
}

fn requirement_of(written: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    let (key, values) = (written.key.clone(), written.values.clone().unwrap_or_default());
    match written.operator.as_str() {
        "In" => Ok(Requirement::In { key, values }),
        "NotIn" => Ok(Requirement::NotIn { key, values }),
        "Exists" => Ok(Requirement::Exists { key }),
        "DoesNotExist" => Ok(Requirement::Absent { key }),
        other => Err(SelectorError { key, operator: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Pod and namespace as JSON; the pod's namespace is `shop` unless it says otherwise.
    fn check(pod: serde_json::Value, namespace_mode: Option<&str>, expected: Enrolment) {
        let mut pod: Pod = serde_json::from_value(pod).expect("a pod");
        pod.metadata.namespace.get_or_insert_with(|| "shop".to_owned());
        let labels: Labels =
            namespace_mode.iter().map(|mode| (DATAPLANE_MODE.to_owned(), (*mode).to_owned())).collect();
        let answer = enrolled(Candidate::of(&pod), &labels, &Rules::standard("istio-system"));
        assert_eq!(answer, expected, "{pod:?} in a namespace with {labels:?}");
    }

    fn with_mode(mode: &str) -> serde_json::Value {
        json!({"metadata": {"labels": {DATAPLANE_MODE: mode}}})
    }

    #[test]
    fn labels_decide_and_the_pod_has_the_last_word() {
        let out = Enrolment::Out(Outside::NotSelected);
        check(json!({"metadata": {}}), Some("ambient"), Enrolment::In);
        check(with_mode("none"), Some("ambient"), out);
        check(with_mode("ambient"), None, Enrolment::In);
        check(with_mode("ambient"), Some("none"), Enrolment::In);
        check(json!({"metadata": {}}), None, out);
        check(json!({"metadata": {}}), Some("none"), out);
        check(with_mode("Ambient"), None, out);
        check(with_mode(""), Some("ambient"), Enrolment::In);
    }

    #[test]
    fn some_pods_are_never_captured() {
        let label = json!({DATAPLANE_MODE: "ambient"});
        let out = |why| Enrolment::Out(why);
        let meta = json!({"labels": label});
        check(
            json!({"metadata": meta, "spec": {"containers": [], "hostNetwork": true}}),
            None,
            out(Outside::HostNetwork),
        );
        let sidecar = json!({"labels": label, "annotations": {SIDECAR_STATUS: "{}"}});
        check(json!({"metadata": sidecar}), Some("ambient"), out(Outside::Sidecar));
        let system = json!({"labels": label, "namespace": "kube-system"});
        check(json!({"metadata": system}), None, out(Outside::Namespace));
        let proxy = json!({"labels": {DATAPLANE_MODE: "ambient", "app": "ztunnel"}, "namespace": "istio-system"});
        check(json!({"metadata": proxy}), None, out(Outside::NodeProxy));
        let namesake = json!({"labels": {DATAPLANE_MODE: "ambient", "app": "ztunnel"}});
        check(json!({"metadata": namesake}), None, Enrolment::In);
        for phase in ["Succeeded", "Failed"] {
            check(json!({"metadata": meta, "status": {"phase": phase}}), None, out(Outside::Finished));
        }
        check(json!({"metadata": meta, "status": {"phase": "Pending"}}), None, Enrolment::In);
    }

    #[test]
    fn selectors_of_the_installation_replace_the_standard_ones() {
        let written: EnablementSelector = serde_json::from_value(json!({
            "podSelector": {"matchLabels": {"mesh": "yes"}},
            "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
        }))
        .expect("a selector");
        let rules = Rules {
            enablement: vec![Enablement::try_from(&written).expect("known operators")],
            ..Rules::standard("istio-system")
        };
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let ask = |pod: &[(&str, &str)], namespace: &[(&str, &str)]| {
            let pod = labels(pod);
            let candidate =
                Candidate { namespace: "shop", labels: &pod, sidecar: false, host_network: false, finished: false };
            enrolled(candidate, &labels(namespace), &rules).is_in()
        };
        assert!(ask(&[("mesh", "yes")], &[("team", "a")]));
        assert!(!ask(&[("mesh", "yes")], &[]));
        assert!(!ask(&[(DATAPLANE_MODE, "ambient")], &[("team", "a")]));
    }

    #[test]
    fn an_unknown_operator_is_refused_by_name() {
        let written = json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}});
        let written: EnablementSelector = serde_json::from_value(written).expect("a selector");
        let error = Enablement::try_from(&written).expect_err("Gt").to_string();
        assert!(error.contains("\"a\"") && error.contains("\"Gt\""), "{error}");
    }
}
