//! Kinds users bring along whose definitions are written as a table: those that no program of ours acts on yet, and those
//! that are read by types of their own (see `api`).
//!
//! In: the table below. Out: their definitions, so that applying them works and what is written is kept.
//! Schemas name every field and its type ([`super::messages`]); what is free in the reference is kept as it was written.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::api::ObjectMeta;

use super::messages;

/// One kind.
struct Later {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    /// The first is stored.
    versions: &'static [&'static str],
    /// `name=path` of the columns before the age.
    columns: &'static [(&'static str, &'static str)],
    description: &'static str,
    /// `field:type`, a type being one of those [`schema`] knows, or a message.
    spec: &'static str,
}

const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &[&str] = &["v1", "v1beta1"];

const TABLE: &[Later] = &[
    Later {
        group: "extensions.istio.io",
        kind: "TrafficExtension",
        plural: "trafficextensions",
        short: &[],
        versions: &["v1alpha1"],
        columns: &[],
        description: "Code that sees the traffic of waypoints.",
        spec: "selector:Selector targetRefs:[Target] phase:one(UNSPECIFIED,AUTHN,AUTHZ,STATS) priority:integer \
               match:[TrafficSelector] wasm:Wasm lua:Lua",
    },
    Later {
        group: "extensions.istio.io",
        kind: "WasmPlugin",
        plural: "wasmplugins",
        short: &[],
        versions: &["v1alpha1"],
        columns: &[],
        description: "WebAssembly that sees the traffic of waypoints.",
        spec: "selector:Selector targetRef:Target targetRefs:[Target] url:text sha256:text \
               imagePullPolicy:one(UNSPECIFIED_POLICY,IfNotPresent,Always) imagePullSecret:text verificationKey:text \
               pluginConfig:object pluginName:text failStrategy:one(FAIL_CLOSE,FAIL_OPEN,FAIL_RELOAD) \
               phase:one(UNSPECIFIED_PHASE,AUTHN,AUTHZ,STATS) priority:integer vmConfig:VmConfig match:[TrafficSelector] \
               type:one(UNSPECIFIED_PLUGIN_TYPE,HTTP,NETWORK)",
    },
    Later {
        group: "networking.istio.io",
        kind: "DestinationRule",
        plural: "destinationrules",
        short: &["dr"],
        versions: NETWORKING,
        columns: &[("Host", ".spec.host")],
        description: "How a service's endpoints are used once it has been chosen.",
        spec: "host:text trafficPolicy:TrafficPolicy subsets:[Subset] exportTo:texts workloadSelector:Selector",
    },
    Later {
        group: "networking.istio.io",
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        short: &[],
        versions: &["v1alpha3"],
        columns: &[],
        description: "Patches of Envoy's configuration. Nothing in this mesh is Envoy.",
        spec: "workloadSelector:LabelsSelector targetRefs:[Target] configPatches:[EnvoyPatch] priority:integer",
    },
    Later {
        group: "networking.istio.io",
        kind: "Gateway",
        plural: "gateways",
        short: &["gw"],
        versions: NETWORKING,
        columns: &[],
        description: "Ports a gateway listens on.",
        spec: "servers:[Server] selector:map",
    },
    Later {
        group: "networking.istio.io",
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        short: &[],
        versions: &["v1beta1"],
        columns: &[],
        description: "Settings of proxies.",
        spec: "selector:Selector concurrency:integer environmentVariables:map image:Image",
    },
    Later {
        group: "networking.istio.io",
        kind: "Sidecar",
        plural: "sidecars",
        short: &[],
        versions: NETWORKING,
        columns: &[],
        description: "What sidecars see. There are none in this mesh.",
        spec: "workloadSelector:LabelsSelector ingress:[SidecarIngress] egress:[SidecarEgress] \
               inboundConnectionPool:ConnectionPool outboundTrafficPolicy:Outbound",
    },
    Later {
        group: "networking.istio.io",
        kind: "VirtualService",
        plural: "virtualservices",
        short: &["vs"],
        versions: NETWORKING,
        columns: &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")],
        description: "Where requests to a host go.",
        spec: "hosts:texts gateways:texts http:[HttpRoute] tls:[TlsRoute] tcp:[TcpRoute] exportTo:texts",
    },
    Later {
        group: "networking.istio.io",
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short: &["wg"],
        versions: NETWORKING,
        columns: &[],
        description: "What workloads outside of Kubernetes have in common.",
        spec: "metadata:GroupMetadata template:GroupTemplate probe:Probe",
    },
    Later {
        group: "security.istio.io",
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short: &["ra"],
        versions: SECURITY,
        columns: &[],
        description: "Which tokens of requests are valid.",
        spec: "selector:Selector targetRef:Target targetRefs:[Target] jwtRules:[JwtRule]",
    },
    Later {
        group: "telemetry.istio.io",
        kind: "Telemetry",
        plural: "telemetries",
        short: &["telemetry"],
        versions: &["v1", "v1alpha1"],
        columns: &[],
        description: "What waypoints report.",
        spec: "selector:Selector targetRef:Target targetRefs:[Target] tracing:[Tracing] metrics:[Metrics] \
               accessLogging:[AccessLogging]",
    },
];

/// Their definitions.
pub(super) fn all() -> impl Iterator<Item = CustomResourceDefinition> {
    TABLE.iter().map(Later::definition)
}

/// Whether objects of this kind are kept, and nothing else happens.
pub fn is_later(group: &str, kind: &str) -> bool {
    let acts = group == "networking.istio.io" && matches!(kind, "VirtualService" | "DestinationRule" | "Gateway");
    !acts && TABLE.iter().any(|later| later.group == group && later.kind == kind)
}

impl Later {
    fn definition(&self) -> CustomResourceDefinition {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        CustomResourceDefinition {
            metadata: ObjectMeta { name: Some(format!("{}.{}", self.plural, self.group)), ..ObjectMeta::default() },
            spec: CustomResourceDefinitionSpec {
                group: self.group.to_owned(),
                names: CustomResourceDefinitionNames {
                    categories: Some(vec!["istio-io".to_owned(), self.group.replace('.', "-")]),
                    kind: self.kind.to_owned(),
                    plural: self.plural.to_owned(),
                    short_names: Some(words(self.short)).filter(|short| !short.is_empty()),
                    singular: Some(self.kind.to_lowercase()),
                    ..CustomResourceDefinitionNames::default()
                },
                scope: "Namespaced".to_owned(),
                versions: vec![self.version(self.versions[0])],
                ..CustomResourceDefinitionSpec::default()
            },
            status: None,
        }
    }

    fn version(&self, name: &str) -> CustomResourceDefinitionVersion {
        let column = |name: &str, kind: &str, path: &str| CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: kind.to_owned(),
            json_path: path.to_owned(),
            ..CustomResourceColumnDefinition::default()
        };
        let columns = self.columns.iter().map(|(name, path)| column(name, "string", path));
        let age = column("Age", "date", ".metadata.creationTimestamp");
        CustomResourceDefinitionVersion {
            name: name.to_owned(),
            served: true,
            storage: true,
            additional_printer_columns: Some(columns.chain([age]).collect()),
            schema: Some(CustomResourceValidation { open_api_v3_schema: Some(self.object()) }),
            subresources: Some(CustomResourceSubresources {
                status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
                ..CustomResourceSubresources::default()
            }),
            ..CustomResourceDefinitionVersion::default()
        }
    }

    fn object(&self) -> JSONSchemaProps {
        let properties =
            BTreeMap::from([("spec".to_owned(), message(self.spec)), ("status".to_owned(), schema("object"))]);
        JSONSchemaProps { description: Some(self.description.to_owned()), ..of_type("object", Some(properties)) }
    }

    /// The versions beside the stored one.
    fn older(&self) -> &'static [&'static str] {
        &self.versions[1..]
    }
}

/// The older versions of a kind of this table.
pub(super) fn older(group: &str, kind: &str) -> &'static [&'static str] {
    TABLE.iter().find(|later| later.group == group && later.kind == kind).map_or(&[], Later::older)
}

/// An object with these fields and no others.
fn message(fields: &str) -> JSONSchemaProps {
    let fields = fields.split_whitespace().filter_map(|field| field.split_once(':'));
    of_type("object", Some(fields.map(|(name, kind)| (name.to_owned(), schema(kind))).collect()))
}

fn schema(kind: &str) -> JSONSchemaProps {
    let between = |open: char, close: char| kind.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(items) = between('[', ']') {
        return list(schema(items));
    }
    if let Some(values) = between('{', '}') {
        return map(schema(values));
    }
    match kind {
        "text" => of_type("string", None),
        "texts" => list(of_type("string", None)),
        "integer" => of_type("integer", None),
        "integers" => list(of_type("integer", None)),
        "number" => of_type("number", None),
        "flag" => of_type("boolean", None),
        "map" => map(of_type("string", None)),
        "object" => JSONSchemaProps { x_kubernetes_preserve_unknown_fields: Some(true), ..of_type("object", None) },
        one if one.starts_with("one(") => {
            let words = one.trim_start_matches("one(").trim_end_matches(')').split(',');
            let words = words.map(|word| JSON(word.into())).collect();
            JSONSchemaProps { enum_: Some(words), ..of_type("string", None) }
        }
        name => message(messages::fields_of(name).unwrap_or_default()),
    }
}

fn list(items: JSONSchemaProps) -> JSONSchemaProps {
    JSONSchemaProps { items: Some(JSONSchemaPropsOrArray::Schema(Box::new(items))), ..of_type("array", None) }
}

fn map(values: JSONSchemaProps) -> JSONSchemaProps {
    let values = JSONSchemaPropsOrBool::Schema(Box::new(values));
    JSONSchemaProps { additional_properties: Some(values), ..of_type("object", None) }
}

fn of_type(kind: &str, properties: Option<BTreeMap<String, JSONSchemaProps>>) -> JSONSchemaProps {
    JSONSchemaProps { type_: Some(kind.to_owned()), properties, ..JSONSchemaProps::default() }
}
