//! The objects every cluster starts with, and those every namespace starts with.

use serde_json::{Value, json};

use crate::{
    api::{Api, stamp_new},
    store::GroupResource,
};

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Writes the first objects.
pub fn plant(api: &Api) {
    for name in NAMESPACES {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
            "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
        });
        put(api, "", "namespaces", namespace);
        furnish(api, name);
    }
    plant_own_service(api);
}

/// The service account and the CA bundle of a new namespace.
pub fn furnish(api: &Api, namespace: &str) {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": namespace } });
    put(api, "", "serviceaccounts", account);
    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "kube-root-ca.crt", "namespace": namespace,
            "annotations": { "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc." } },
        "data": { "ca.crt": api.ca_pem },
    });
    put(api, "", "configmaps", bundle);
}

/// `default/kubernetes`, the service pods find this server by.
fn plant_own_service(api: &Api) {
    let address = api.options.service_range_v4.at(1).to_string();
    let target = api.options.advertise.map_or(6443, |advertise| advertise.port());
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": target }],
        },
        "status": { "loadBalancer": {} },
    });
    put(api, "", "services", service);
    let Some(advertise) = api.options.advertise else { return };
    let ip = advertise.ip().to_string();
    let port = json!([{ "name": "https", "port": target, "protocol": "TCP" }]);
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": ip }], "ports": port }],
    });
    put(api, "", "endpoints", endpoints);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
        "ports": port,
    });
    put(api, "discovery.k8s.io", "endpointslices", slice);
}

fn put(api: &Api, group: &str, resource: &str, mut object: Value) {
    stamp_new(&mut object);
    api.store.put(&GroupResource::new(group, resource), object);
}
