//! What users change about the objects of a Gateway: strategic merge patches in ConfigMaps.
//!
//! In: a ConfigMap's data; an object. Out: the object with the patches in it, or the key and field that is wrong.
//! Maps are merged, lists with a known key by their elements, other lists replaced; `null` removes. Of the directives
//! `$patch: delete`, `replace` and `merge` are known.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::plan::{Kind, Refused};

/// One ConfigMap's patches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlays {
    from: String,
    patches: BTreeMap<Kind, Value>,
}

const KEYS: [(&str, Kind); 5] = [
    ("deployment", Kind::Deployment),
    ("service", Kind::Service),
    ("serviceAccount", Kind::ServiceAccount),
    ("horizontalPodAutoscaler", Kind::HorizontalPodAutoscaler),
    ("podDisruptionBudget", Kind::PodDisruptionBudget),
];

impl Overlays {
    /// Reads the data of the ConfigMap called `from`.
    pub fn read(from: &str, data: &BTreeMap<String, String>) -> Result<Self, Refused> {
        let wrong = |key: &str, what: String| Refused::parameters(format!("ConfigMap {from}, key {key}: {what}"));
        let mut patches = BTreeMap::new();
        for (key, text) in data {
            let Some((_, kind)) = KEYS.iter().find(|(known, _)| known == key) else {
                let known = KEYS.map(|(known, _)| known).join(", ");
                return Err(wrong(key, format!("it is unknown; use {known}")));
            };
            let patch: Value =
                serde_saphyr::from_str(text).map_err(|error| wrong(key, format!("it is no YAML: {error}")))?;
            if !patch.is_null() && !patch.is_object() {
                return Err(wrong(key, "use a mapping, a part of the object".to_owned()));
            }
            // An empty patch asks for the object as it is: of an autoscaler, that there is one.
            let patch = if patch.is_null() { Value::Object(Map::new()) } else { patch };
            patches.insert(*kind, patch);
        }
        Ok(Self { from: from.to_owned(), patches })
    }

    /// The patch of a kind.
    pub fn of(&self, kind: Kind) -> Option<&Value> {
        self.patches.get(&kind)
    }
}

/// The object with every layer's patch, in order.
pub fn all(layers: &[Overlays], kind: Kind, object: Value) -> Result<Value, Refused> {
    let mut patched = object.clone();
    for layer in layers {
        let Some(patch) = layer.of(kind) else { continue };
        let wrong = |what: String| {
            let key = KEYS.iter().find(|(_, one)| *one == kind).map_or("", |(key, _)| key);
            Refused::parameters(format!("ConfigMap {}, key {key}: {what}", layer.from))
        };
        patched = merged(Some(patched), patch, "").map_err(wrong)?.unwrap_or_default();
        for fixed in FIXED {
            if patched.pointer(fixed) != object.pointer(fixed) {
                return Err(wrong(format!("{} cannot be changed", fixed[1..].replace('/', "."))));
            }
        }
    }
    Ok(patched)
}

/// By what the object is known to be ours, and the Gateway's.
const FIXED: [&str; 7] = [
    "/apiVersion",
    "/kind",
    "/metadata/name",
    "/metadata/namespace",
    "/metadata/ownerReferences",
    "/metadata/labels/gateway.istio.io~1managed",
    "/metadata/labels/gateway.networking.k8s.io~1gateway-name",
];

/// `patch` over `base`; nothing where it removes what is there.
fn merged(base: Option<Value>, patch: &Value, path: &str) -> Result<Option<Value>, String> {
    match patch {
        Value::Null => Ok(None),
        Value::Object(patch) => merged_map(base, patch, path),
        Value::Array(patch) => merged_list(base, patch, path).map(Some),
        scalar => Ok(Some(scalar.clone())),
    }
}

fn merged_map(base: Option<Value>, patch: &Map<String, Value>, path: &str) -> Result<Option<Value>, String> {
    let mut map = match (base, directive(patch, path)?) {
        (_, Some("delete")) => return Ok(None),
        (Some(Value::Object(map)), None) => map,
        _ => Map::new(),
    };
    for (key, below) in patch.iter().filter(|(key, _)| *key != "$patch") {
        let path = format!("{path}.{key}");
        if key.starts_with('$') {
            return Err(format!("{}: this directive is not supported; use $patch", &path[1..]));
        }
        if let Some(value) = merged(map.remove(key), below, &path)? {
            map.insert(key.clone(), value);
        }
    }
    Ok(Some(Value::Object(map)))
}

fn directive<'a>(patch: &'a Map<String, Value>, path: &str) -> Result<Option<&'a str>, String> {
    match patch.get("$patch").map(|word| word.as_str().unwrap_or_default()) {
        None | Some("merge") => Ok(None),
        Some(word @ ("delete" | "replace")) => Ok(Some(word)),
        Some(word) => Err(format!("{path}: $patch: {word:?}; use merge, replace or delete")),
    }
}

fn merged_list(base: Option<Value>, patch: &[Value], path: &str) -> Result<Value, String> {
    let Some(key) = merge_key(path, patch) else { return Ok(Value::Array(patch.to_vec())) };
    let mut list = match base {
        Some(Value::Array(list)) => list,
        Some(_) | None => Vec::new(),
    };
    if patch.iter().any(|one| one.get("$patch").is_some_and(|word| word == "replace") && one.get(key).is_none()) {
        list.clear();
    }
    for one in patch.iter().filter(|one| one.get(key).is_some() || one.get("$patch").is_none()) {
        let Some(name) = one.get(key) else { return Err(format!("{path}: an element without {key}")) };
        let path = format!("{path}[{key}={name}]");
        match list.iter().position(|held| held.get(key) == Some(name)) {
            Some(at) => {
                if let Some(value) = merged(Some(list.remove(at)), one, &path)? {
                    list.insert(at, value);
                }
            }
            None => list.extend(merged(None, one, &path)?),
        }
    }
    Ok(Value::Array(list))
}

/// What tells the elements of a list apart, as the API's own types say.
fn merge_key(path: &str, patch: &[Value]) -> Option<&'static str> {
    let field = path.rsplit('.').next().unwrap_or_default();
    match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => {
            Some("name")
        }
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "ports" if path.contains("containers") => Some("containerPort"),
        "ports" => Some("port"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
    // Elements that are no maps have no key.
    .filter(|_| patch.iter().all(Value::is_object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(base: Value, patch: Value, expected: Value) {
        assert_eq!(merged(Some(base), &patch, "").expect("merged"), Some(expected), "{patch}");
    }

    #[test]
    fn patches_merge_as_the_api_does() {
        check(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 3}}), json!({"a": {"b": 3, "c": 2}}));
        check(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}}));
        check(json!({"a": {"b": 1}}), json!({"a": {"$patch": "replace", "c": 2}}), json!({"a": {"c": 2}}));
        check(json!({"a": {"b": 1}}), json!({"a": {"$patch": "delete"}}), json!({}));
        check(json!({"args": ["x", "y"]}), json!({"args": ["z"]}), json!({"args": ["z"]}));
        let containers = json!({"containers": [{"name": "p", "image": "i", "env": [{"name": "A", "value": "1"}]}]});
        check(
            containers.clone(),
            json!({"containers": [{"name": "p", "env": [{"name": "B", "value": "2"}]}, {"name": "q", "image": "j"}]}),
            json!({"containers": [
                {"name": "p", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                {"name": "q", "image": "j"},
            ]}),
        );
        check(
            containers.clone(),
            json!({"containers": [{"name": "p", "env": [{"name": "A", "$patch": "delete"}]}]}),
            json!({"containers": [{"name": "p", "image": "i", "env": []}]}),
        );
        check(
            containers,
            json!({"containers": [{"$patch": "replace"}, {"name": "q"}]}),
            json!({"containers": [{"name": "q"}]}),
        );
        check(
            json!({"ports": [{"port": 80, "name": "a"}]}),
            json!({"ports": [{"port": 80, "nodePort": 30080}]}),
            json!({"ports": [{"port": 80, "name": "a", "nodePort": 30080}]}),
        );
    }

    #[test]
    fn what_cannot_be_merged_is_named() {
        let check = |patch: Value, part: &str| {
            let error = merged(Some(json!({})), &patch, "").expect_err("refused");
            assert!(error.contains(part), "{patch}: {error}");
        };
        check(json!({"spec": {"$retainKeys": ["a"]}}), "spec.$retainKeys");
        check(json!({"spec": {"$patch": "forget"}}), "forget");
        check(json!({"containers": [{"image": "i"}]}), "without name");
    }

    #[test]
    fn a_config_map_holds_known_keys_with_mappings() {
        let check = |key: &str, text: &str, part: Option<&str>| {
            let read = Overlays::read("o", &[(key.to_owned(), text.to_owned())].into());
            match part {
                None => assert!(read.is_ok(), "{key}: {read:?}"),
                Some(part) => assert!(read.expect_err("refused").message.contains(part), "{key}"),
            }
        };
        check("deployment", "spec: {replicas: 3}", None);
        check("horizontalPodAutoscaler", "", None);
        check("deploymnt", "spec: {}", Some("ConfigMap o, key deploymnt"));
        check("service", "a: [", Some("no YAML"));
        check("service", "[]", Some("a mapping"));
    }

    #[test]
    fn what_makes_it_ours_stays() {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "w", "namespace": "n",
            "labels": {"gateway.istio.io/managed": "m"}, "ownerReferences": [{"uid": "u"}]}});
        let patched = |text: &str| {
            let layer = Overlays::read("o", &[("service".to_owned(), text.to_owned())].into()).expect("readable");
            all(&[layer], Kind::Service, object.clone())
        };
        assert_eq!(patched("metadata: {labels: {a: b}}").expect("allowed")["metadata"]["labels"]["a"], "b");
        for (text, field) in [
            ("metadata: {name: x}", "metadata.name"),
            ("metadata: {namespace: x}", "metadata.namespace"),
            ("metadata: {ownerReferences: null}", "metadata.ownerReferences"),
            ("metadata: {labels: {gateway.istio.io/managed: x}}", "managed"),
            ("kind: Secret", "kind"),
            ("$patch: delete", "apiVersion"),
        ] {
            let error = patched(text).expect_err(text);
            assert!(error.reason == "InvalidParameters" && error.message.contains(field), "{text}: {}", error.message);
        }
    }
}
