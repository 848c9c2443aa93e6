//! Each part acts under its own ServiceAccount, and may do what it needs and nothing else.
//!
//! That what they have is enough is what all the other tests show; here is that it is not more, and that nobody is
//! refused what it asks for.

use super::driver::{Cluster, SYSTEM, cluster};

const CONTROLLER: &str = "istiod";
const AGENT: &str = "istio-cni";
const ZTUNNEL: &str = "ztunnel";

/// Account, verb, resource (with a name), namespace, and the answer.
const RIGHTS: &[(&str, &str, &str, &str, bool)] = &[
    // What the controller lives by.
    (CONTROLLER, "watch", "pods", "default", true),
    (CONTROLLER, "create", "tokenreviews.authentication.k8s.io", "", true),
    (CONTROLLER, "patch", "authorizationpolicies.security.istio.io/status", "default", true),
    (CONTROLLER, "get", "secrets/istio-ca-secret", SYSTEM, true),
    // What running Gateways takes.
    (CONTROLLER, "patch", "deployments.apps", "default", true),
    (CONTROLLER, "create", "services", "default", true),
    (CONTROLLER, "patch", "gateways.gateway.networking.k8s.io/status", "default", true),
    (CONTROLLER, "get", "configmaps", "default", true),
    (CONTROLLER, "list", "configmaps", "default", false),
    // Certificates that Gateways name: who may not list them must be told a name.
    (CONTROLLER, "get", "secrets", "default", true),
    (CONTROLLER, "list", "secrets", "default", false),
    (CONTROLLER, "watch", "secrets", "default", false),
    (CONTROLLER, "patch", "gateways.networking.istio.io/status", "default", true),
    (CONTROLLER, "update", "gateways.gateway.networking.k8s.io", "default", false),
    (CONTROLLER, "delete", "gatewayclasses.gateway.networking.k8s.io", "", false),
    (CONTROLLER, "patch", "daemonsets.apps", "default", false),
    // What would make it the cluster's master.
    (CONTROLLER, "list", "secrets", SYSTEM, false),
    (CONTROLLER, "update", "secrets/another", SYSTEM, false),
    (CONTROLLER, "patch", "pods", "default", false),
    (CONTROLLER, "create", "pods", SYSTEM, false),
    (CONTROLLER, "create", "pods/exec", "default", false),
    (CONTROLLER, "create", "serviceaccounts/token", SYSTEM, false),
    (CONTROLLER, "patch", "authorizationpolicies.security.istio.io", "default", false),
    (CONTROLLER, "delete", "authorizationpolicies.security.istio.io", "default", false),
    (CONTROLLER, "update", "configmaps/kubeadm-config", "kube-system", false),
    (CONTROLLER, "patch", "configmaps/another", "default", false),
    (CONTROLLER, "patch", "validatingwebhookconfigurations/another", "", false),
    (CONTROLLER, "create", "mutatingwebhookconfigurations", "", false),
    (CONTROLLER, "create", "clusterrolebindings", "", false),
    (CONTROLLER, "impersonate", "users", "", false),
    // What the agent lives by.
    (AGENT, "watch", "pods", "default", true),
    (AGENT, "watch", "namespaces", "", true),
    (AGENT, "patch", "pods/status", "default", true),
    (AGENT, "get", "daemonsets.apps/istio-cni-node", SYSTEM, true),
    (AGENT, "patch", "pods", "default", false),
    (AGENT, "delete", "pods", "default", false),
    (AGENT, "create", "pods/exec", "default", false),
    (AGENT, "get", "secrets", SYSTEM, false),
    (AGENT, "get", "secrets", "default", false),
    (AGENT, "get", "configmaps", SYSTEM, false),
    (AGENT, "patch", "nodes", "", false),
    (AGENT, "patch", "namespaces", "", false),
    (AGENT, "get", "daemonsets.apps/ztunnel", SYSTEM, false),
    (AGENT, "delete", "daemonsets.apps/istio-cni-node", SYSTEM, false),
    (AGENT, "create", "tokenreviews.authentication.k8s.io", "", false),
    (AGENT, "list", "authorizationpolicies.security.istio.io", "default", false),
    // ztunnel asks the API for nothing.
    (ZTUNNEL, "list", "pods", "default", false),
    (ZTUNNEL, "get", "secrets", SYSTEM, false),
    (ZTUNNEL, "get", "configmaps/istio-ca-root-cert", SYSTEM, false),
    (ZTUNNEL, "get", "nodes", "", false),
    (ZTUNNEL, "create", "tokenreviews.authentication.k8s.io", "", false),
    (ZTUNNEL, "list", "authorizationpolicies.security.istio.io", "default", false),
    (ZTUNNEL, "create", "serviceaccounts/token", SYSTEM, false),
];

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn each_account_may_do_what_it_needs_and_nothing_else() {
    let cluster = cluster();
    let mut wrong = Vec::new();
    for (account, verb, resource, namespace, expected) in RIGHTS {
        let answer = may(cluster, (account, verb), (resource, namespace));
        if answer != *expected {
            wrong.push(format!("{account} may{} {verb} {resource} in {namespace:?}", if answer { "" } else { " not" }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} rights and refusals are as they should be", RIGHTS.len());
}

/// Asks the API server itself: `kubectl auth can-i` knows nothing of kinds that are not installed, as the Gateway API's.
fn may(cluster: &Cluster, (account, verb): (&str, &str), (resource, namespace): (&str, &str)) -> bool {
    let (kind, rest) = resource.split_once('/').unwrap_or((resource, ""));
    let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
    // A part of an object is asked for in its own word.
    let is_part = matches!(rest, "status" | "exec" | "token");
    let (name, part) = if is_part { ("", rest) } else { (rest, "") };
    let review = serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{SYSTEM}:{account}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{SYSTEM}"), "system:authenticated"],
            "resourceAttributes": {"verb": verb, "group": group, "resource": plural, "subresource": part, "name": name,
                "namespace": namespace},
        },
    });
    let arguments = ["create", "-f", "-", "-o", "jsonpath={.status.allowed}"];
    let answer = cluster.try_with(&arguments, &review.to_string()).expect("an answer");
    match answer.as_str() {
        "true" => true,
        "false" => false,
        other => panic!("{resource}: {other:?} is neither yes nor no"),
    }
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn no_part_runs_under_a_foreign_account_or_is_refused_what_it_asks() {
    let cluster = cluster();
    for (selector, account) in [("app=istiod", CONTROLLER), ("k8s-app=istio-cni-node", AGENT), ("app=ztunnel", ZTUNNEL)]
    {
        let found = cluster.field(&["pods", "-n", SYSTEM, "-l", selector], ".items[*].spec.serviceAccountName");
        assert!(!found.is_empty() && found.split(' ').all(|name| name == account), "{selector}: {found}");
        let log = cluster.kubectl(&["logs", "-n", SYSTEM, "-l", selector, "--tail=-1", "--prefix"]);
        // An access record speaks of an application's right, not of ours.
        let refused = |line: &&str| {
            let line = line.to_ascii_lowercase();
            !line.contains("connection complete")
                && (line.contains("forbidden") || line.contains("is not allowed") || line.contains("unauthorized"))
        };
        let refusals: Vec<&str> = log.lines().filter(refused).collect();
        assert!(refusals.is_empty(), "{selector}:\n{}", refusals.join("\n"));
    }
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn no_container_of_ours_is_privileged() {
    let cluster = cluster();
    let path = r#"jsonpath={range .items[*]}{.metadata.name}{" "}{range .spec.containers[*]}{.securityContext}{"\n"}{end}{end}"#;
    let contexts = cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-o", path]);
    for line in contexts.lines() {
        let (name, context) = line.split_once(' ').expect("a name");
        let context: serde_json::Value = serde_json::from_str(context).expect("a security context");
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_ne!(context["privileged"], true, "{name}");
        println!("{name}: {}", context["capabilities"]);
    }
}
