//! What a served resource is, and the table of built-in ones.
//!
//! Absent on purpose: behaviour. Kinds with behaviour of their own have it in `admission`, `token`, `crd`.

use std::sync::Arc;

use serde_json::Value;

use crate::{status::About, store::GroupResource, table::Column};

/// One served resource in all its versions.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Kind of lists.
    pub list_kind: String,
    /// Plural name, as in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Served versions, preferred first; never empty.
    pub versions: Vec<Version>,
    /// The version objects are stored as.
    pub storage_version: String,
    /// Where objects are stored: two resources may share one place (`events`).
    pub stored_as: GroupResource,
    /// Where it comes from.
    pub origin: Origin,
}

/// One served version.
#[derive(Debug, Clone)]
pub struct Version {
    /// Such as `v1`.
    pub name: String,
    /// The structural schema; none for built-in kinds.
    pub schema: Option<Arc<Value>>,
    /// Extra printer columns of a CRD.
    pub columns: Vec<Column>,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// The scale subresource.
    pub scale: Option<Scale>,
}

/// Where the scale subresource finds its values, as JSON pointers.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Wanted replicas.
    pub spec: String,
    /// Present replicas.
    pub status: String,
    /// The selector; a LabelSelector object or text.
    pub selector: String,
}

/// Who defines a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This server.
    BuiltIn,
    /// A CustomResourceDefinition.
    Custom,
    /// Answers without storing: reviews, bindings.
    Virtual,
}

impl Resource {
    /// `group/version`, or the version alone for core.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// A version by name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// How refusals about an object name it.
    pub fn about<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.group, resource: &self.plural, name }
    }

    /// How refusals of an invalid object name it.
    pub fn about_kind<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.group, resource: &self.kind, name }
    }

    /// Whether this is the built-in resource of that group and name.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.origin != Origin::Custom && self.group == group && self.plural == plural
    }

    /// Whether it is one of ours, without a schema of its own.
    pub fn schemaless(&self) -> bool {
        self.origin != Origin::Custom
    }

    /// The verbs of discovery.
    pub fn verbs(&self) -> &'static [&'static str] {
        match self.origin {
            Origin::Virtual => &["create"],
            _ => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }
    }

    /// The subresources of a version, with the kind each speaks.
    pub fn subresources(&self, version: &Version) -> Vec<Subresource> {
        let mut found = Vec::new();
        if version.status {
            found.push(Subresource::of("status", &self.kind, &["get", "patch", "update"]));
        }
        if version.scale.is_some() {
            let mut scale = Subresource::of("scale", "Scale", &["get", "patch", "update"]);
            scale.group_version = Some(("autoscaling", "v1"));
            found.push(scale);
        }
        if self.is("", "pods") {
            found.push(Subresource::of("binding", "Binding", &["create"]));
            let mut eviction = Subresource::of("eviction", "Eviction", &["create"]);
            eviction.group_version = Some(("policy", "v1"));
            found.push(eviction);
            found.push(Subresource::of("exec", "PodExecOptions", &["create", "get"]));
            found.push(Subresource::of("log", "Pod", &["get"]));
            found.push(Subresource::of("ephemeralcontainers", "Pod", &["get", "patch", "update"]));
        }
        if self.is("", "serviceaccounts") {
            let mut token = Subresource::of("token", "TokenRequest", &["create"]);
            token.group_version = Some(("authentication.k8s.io", "v1"));
            found.push(token);
        }
        if self.is("", "namespaces") {
            found.push(Subresource::of("finalize", "Namespace", &["update"]));
        }
        found
    }
}

/// A subresource as discovery shows it.
#[derive(Debug)]
pub struct Subresource {
    /// The last path segment.
    pub name: &'static str,
    /// The kind of its bodies.
    pub kind: String,
    /// Its verbs.
    pub verbs: &'static [&'static str],
    /// The group and version of that kind, where they differ from the resource's.
    pub group_version: Option<(&'static str, &'static str)>,
}

impl Subresource {
    fn of(name: &'static str, kind: &str, verbs: &'static [&'static str]) -> Self {
        Self { name, kind: kind.to_owned(), verbs, group_version: None }
    }
}

/// One row of the built-in table.
struct BuiltIn {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    traits: &'static str,
}

/// A row: group, version, kind, plural, short names, traits.
/// Traits: `n` namespaced, `s` status, `c` scale, `a` category all, `v` virtual.
macro_rules! built_in {
    ($($group:literal $version:literal $kind:literal $plural:literal [$($short:literal),*] $traits:literal;)*) => {
        const BUILT_IN: &[BuiltIn] = &[$(BuiltIn {
            group: $group, version: $version, kind: $kind, plural: $plural, short: &[$($short),*], traits: $traits,
        }),*];
    };
}

built_in! {
    "" "v1" "Binding" "bindings" [] "nv";
    "" "v1" "ConfigMap" "configmaps" ["cm"] "n";
    "" "v1" "Endpoints" "endpoints" ["ep"] "n";
    "" "v1" "Event" "events" ["ev"] "n";
    "" "v1" "LimitRange" "limitranges" ["limits"] "n";
    "" "v1" "Namespace" "namespaces" ["ns"] "s";
    "" "v1" "Node" "nodes" ["no"] "s";
    "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" ["pvc"] "ns";
    "" "v1" "PersistentVolume" "persistentvolumes" ["pv"] "s";
    "" "v1" "Pod" "pods" ["po"] "nsa";
    "" "v1" "PodTemplate" "podtemplates" [] "n";
    "" "v1" "ReplicationController" "replicationcontrollers" ["rc"] "nsca";
    "" "v1" "ResourceQuota" "resourcequotas" ["quota"] "ns";
    "" "v1" "Secret" "secrets" [] "n";
    "" "v1" "ServiceAccount" "serviceaccounts" ["sa"] "n";
    "" "v1" "Service" "services" ["svc"] "nsa";
    "apps" "v1" "ControllerRevision" "controllerrevisions" [] "n";
    "apps" "v1" "DaemonSet" "daemonsets" ["ds"] "nsa";
    "apps" "v1" "Deployment" "deployments" ["deploy"] "nsca";
    "apps" "v1" "ReplicaSet" "replicasets" ["rs"] "nsca";
    "apps" "v1" "StatefulSet" "statefulsets" ["sts"] "nsca";
    "batch" "v1" "CronJob" "cronjobs" ["cj"] "nsa";
    "batch" "v1" "Job" "jobs" [] "nsa";
    "autoscaling" "v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" ["hpa"] "nsa";
    "policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" ["pdb"] "ns";
    "networking.k8s.io" "v1" "IngressClass" "ingressclasses" [] "";
    "networking.k8s.io" "v1" "Ingress" "ingresses" ["ing"] "ns";
    "networking.k8s.io" "v1" "NetworkPolicy" "networkpolicies" ["netpol"] "n";
    "discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" [] "n";
    "coordination.k8s.io" "v1" "Lease" "leases" [] "n";
    "events.k8s.io" "v1" "Event" "events" ["ev"] "n";
    "rbac.authorization.k8s.io" "v1" "ClusterRoleBinding" "clusterrolebindings" [] "";
    "rbac.authorization.k8s.io" "v1" "ClusterRole" "clusterroles" [] "";
    "rbac.authorization.k8s.io" "v1" "RoleBinding" "rolebindings" [] "n";
    "rbac.authorization.k8s.io" "v1" "Role" "roles" [] "n";
    "storage.k8s.io" "v1" "StorageClass" "storageclasses" ["sc"] "";
    "storage.k8s.io" "v1" "CSIDriver" "csidrivers" [] "";
    "scheduling.k8s.io" "v1" "PriorityClass" "priorityclasses" ["pc"] "";
    "admissionregistration.k8s.io" "v1" "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" [] "";
    "admissionregistration.k8s.io" "v1" "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" [] "";
    "apiextensions.k8s.io" "v1" "CustomResourceDefinition" "customresourcedefinitions" ["crd", "crds"] "s";
    "authentication.k8s.io" "v1" "TokenReview" "tokenreviews" [] "v";
    "authentication.k8s.io" "v1" "SelfSubjectReview" "selfsubjectreviews" [] "v";
    "authorization.k8s.io" "v1" "LocalSubjectAccessReview" "localsubjectaccessreviews" [] "nv";
    "authorization.k8s.io" "v1" "SelfSubjectAccessReview" "selfsubjectaccessreviews" [] "v";
    "authorization.k8s.io" "v1" "SelfSubjectRulesReview" "selfsubjectrulesreviews" [] "v";
    "authorization.k8s.io" "v1" "SubjectAccessReview" "subjectaccessreviews" [] "v";
}

/// Every built-in resource.
pub fn built_in() -> Vec<Resource> {
    BUILT_IN.iter().map(BuiltIn::resource).collect()
}

impl BuiltIn {
    fn has(&self, letter: char) -> bool {
        self.traits.contains(letter)
    }

    fn resource(&self) -> Resource {
        // events.k8s.io and core events are two views of the same objects.
        let stored_group = if self.plural == "events" { "" } else { self.group };
        let version = Version {
            name: self.version.to_owned(),
            schema: None,
            columns: Vec::new(),
            status: self.has('s'),
            scale: self.has('c').then(|| Scale {
                spec: "/spec/replicas".to_owned(),
                status: "/status/replicas".to_owned(),
                selector: "/spec/selector".to_owned(),
            }),
        };
        Resource {
            group: self.group.to_owned(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            short_names: self.short.iter().map(|name| (*name).to_owned()).collect(),
            categories: if self.has('a') { vec!["all".to_owned()] } else { Vec::new() },
            namespaced: self.has('n'),
            versions: vec![version],
            storage_version: self.version.to_owned(),
            stored_as: GroupResource::new(stored_group, self.plural),
            origin: if self.has('v') { Origin::Virtual } else { Origin::BuiltIn },
        }
    }
}
