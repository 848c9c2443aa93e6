//! How lists and maps of an object merge: by key, as a set, or as one piece.
//!
//! In: where we are (a built-in type, or a CRD's schema) and a field's name. Out: its topology and the shape below it.
//! One table serves strategic merge patch (merge keys) and server-side apply (topology).

use serde_json::Value;

/// How the members of a field are owned and merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// Maps: member by member. Lists: one piece.
    Usual,
    /// One piece, whatever it is.
    Atomic,
    /// A list of distinct scalars.
    Set,
    /// A list of maps known by these members.
    Keys(Vec<String>),
}

/// What lies below a field.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// A built-in type of the table below.
    Type(&'static str),
    /// The root of a custom resource with this schema.
    Custom(&'a Value),
    /// Inside a custom resource.
    Schema(&'a Value),
    /// Nothing is known.
    Unknown,
}

/// What is known of one field.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    /// How it merges.
    pub topology: Topology,
    /// The merge key of strategic patches; none where lists are replaced.
    pub merge_key: Option<&'static str>,
    /// The shape of the member, or of the list's items.
    pub shape: Shape<'a>,
}

impl<'a> Shape<'a> {
    /// What is known of the member `name`.
    pub fn field(&self, name: &str) -> Field<'a> {
        match *self {
            Shape::Type(of) => built_in(of, name),
            Shape::Custom(_) if name == "metadata" => built_in("*", name),
            Shape::Custom(schema) | Shape::Schema(schema) => custom(member_schema(schema, name)),
            Shape::Unknown => usual(Shape::Unknown),
        }
    }
}

fn usual(shape: Shape<'_>) -> Field<'_> {
    Field { topology: Topology::Usual, merge_key: None, shape }
}

fn member_schema<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let property = schema.get("properties").and_then(|properties| properties.get(name));
    property.or_else(|| schema.get("additionalProperties").filter(|more| more.is_object()))
}

fn custom(schema: Option<&Value>) -> Field<'_> {
    let Some(schema) = schema else { return usual(Shape::Unknown) };
    let word = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or("");
    if word("type") != "array" {
        let mut field = usual(Shape::Schema(schema));
        if word("x-kubernetes-map-type") == "atomic" {
            field.topology = Topology::Atomic;
        }
        return field;
    }
    let mut field = usual(schema.get("items").map_or(Shape::Unknown, Shape::Schema));
    field.topology = match word("x-kubernetes-list-type") {
        "set" => Topology::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            Topology::Keys(keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        _ => Topology::Usual,
    };
    field
}

fn built_in(of: &'static str, name: &str) -> Field<'static> {
    let row = |of: &str| ROWS.iter().find(|row| row.of == of && row.field == name);
    // Kinds without rows of their own share those of `*`.
    let root = of.starts_with(char::is_uppercase) && !TYPES.contains(&of);
    let Some(row) = row(of).or_else(|| if root { row("*") } else { None }) else { return usual(Shape::Unknown) };
    let topology = match row.list {
        "" => Topology::Usual,
        "atomic" => Topology::Atomic,
        "set" => Topology::Set,
        keys => Topology::Keys(keys.split(',').map(str::to_owned).collect()),
    };
    Field {
        topology,
        merge_key: (!row.merge_key.is_empty()).then_some(row.merge_key),
        shape: if row.then.is_empty() { Shape::Unknown } else { Shape::Type(row.then) },
    }
}

struct Row {
    of: &'static str,
    field: &'static str,
    then: &'static str,
    list: &'static str,
    merge_key: &'static str,
}

/// A row: type, field, type below, topology (empty, `atomic`, `set`, or keys), merge key of strategic patches
/// (`=` for a set of scalars).
macro_rules! rows {
    ($($of:literal $field:literal $then:literal $list:literal $key:literal; )*) => {
        const ROWS: &[Row] = &[$(Row {
            of: $of, field: $field, then: $then, list: $list, merge_key: $key,
        }),*];
    };
}

/// Types that are not kinds.
const TYPES: &[&str] = &[
    "ObjectMeta",
    "PodSpec",
    "PodTemplate",
    "Container",
    "Workload",
    "ServiceSpec",
    "EnvVar",
    "EnvVarSource",
    "Status",
    "PodStatus",
    "NodeStatus",
    "NodeSpec",
    "JobTemplate",
    "CronJobSpec",
    "SelectorSpec",
    "Volume",
];

rows! {
    "*" "metadata" "ObjectMeta" "" "";
    "*" "status" "Status" "" "";
    "ObjectMeta" "ownerReferences" "" "uid" "uid";
    "ObjectMeta" "finalizers" "" "set" "=";
    "ObjectMeta" "managedFields" "" "atomic" "";
    "Status" "conditions" "" "type" "type";
    "Pod" "spec" "PodSpec" "" "";
    "Pod" "status" "PodStatus" "" "";
    "Deployment" "spec" "Workload" "" "";
    "ReplicaSet" "spec" "Workload" "" "";
    "DaemonSet" "spec" "Workload" "" "";
    "StatefulSet" "spec" "Workload" "" "";
    "ReplicationController" "spec" "Workload" "" "";
    "Job" "spec" "Workload" "" "";
    "CronJob" "spec" "CronJobSpec" "" "";
    "CronJobSpec" "jobTemplate" "JobTemplate" "" "";
    "JobTemplate" "metadata" "ObjectMeta" "" "";
    "JobTemplate" "spec" "Workload" "" "";
    "PodDisruptionBudget" "spec" "SelectorSpec" "" "";
    "NetworkPolicy" "spec" "SelectorSpec" "" "";
    "SelectorSpec" "selector" "" "atomic" "";
    "SelectorSpec" "podSelector" "" "atomic" "";
    "Workload" "template" "PodTemplate" "" "";
    "Workload" "selector" "" "atomic" "";
    "Workload" "strategy" "" "" "";
    "PodTemplate" "metadata" "ObjectMeta" "" "";
    "PodTemplate" "spec" "PodSpec" "" "";
    "PodSpec" "containers" "Container" "name" "name";
    "PodSpec" "initContainers" "Container" "name" "name";
    "PodSpec" "ephemeralContainers" "Container" "name" "name";
    "PodSpec" "volumes" "Volume" "name" "name";
    "PodSpec" "imagePullSecrets" "" "name" "name";
    "PodSpec" "hostAliases" "" "ip" "ip";
    "PodSpec" "schedulingGates" "" "name" "name";
    "PodSpec" "resourceClaims" "" "name" "name";
    "PodSpec" "topologySpreadConstraints" "" "topologyKey,whenUnsatisfiable" "topologyKey";
    "PodSpec" "nodeSelector" "" "atomic" "";
    "PodSpec" "tolerations" "" "atomic" "";
    "PodStatus" "conditions" "" "type" "type";
    "PodStatus" "podIPs" "" "ip" "ip";
    "PodStatus" "hostIPs" "" "atomic" "ip";
    "Container" "ports" "" "containerPort,protocol" "containerPort";
    "Container" "env" "EnvVar" "name" "name";
    "Container" "volumeMounts" "" "mountPath" "mountPath";
    "Container" "volumeDevices" "" "devicePath" "devicePath";
    "EnvVar" "valueFrom" "EnvVarSource" "" "";
    "EnvVarSource" "fieldRef" "" "atomic" "";
    "EnvVarSource" "resourceFieldRef" "" "atomic" "";
    "EnvVarSource" "configMapKeyRef" "" "atomic" "";
    "EnvVarSource" "secretKeyRef" "" "atomic" "";
    "Service" "spec" "ServiceSpec" "" "";
    "ServiceSpec" "ports" "" "port,protocol" "port";
    "ServiceSpec" "selector" "" "atomic" "";
    "Node" "spec" "NodeSpec" "" "";
    "Node" "status" "NodeStatus" "" "";
    "NodeSpec" "podCIDRs" "" "set" "=";
    "NodeStatus" "conditions" "" "type" "type";
    "NodeStatus" "addresses" "" "type" "type";
    "ServiceAccount" "secrets" "" "name" "name";
    "MutatingWebhookConfiguration" "webhooks" "" "name" "name";
    "ValidatingWebhookConfiguration" "webhooks" "" "name" "name";
}
