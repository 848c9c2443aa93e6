//! Which webhooks a write concerns. Pure.
//!
//! In: configurations as stored, the write. Out: whom to ask, and how.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{api::Target, object};

/// The write, as rules and selectors see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) target: &'a Target,
    pub(super) subresource: &'a str,
    pub(super) operation: &'static str,
    pub(super) object: &'a Value,
    pub(super) old: Option<&'a Value>,
    /// None for what is in no namespace.
    pub(super) namespace: Option<&'a Value>,
}

/// One webhook to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) timeout: Duration,
    pub(super) place: Place,
    /// The roots it is proven by, PEM.
    pub(super) roots: Vec<u8>,
    /// The version of the object it reads.
    pub(super) version: String,
    pub(super) may_dry_run: bool,
}

/// What it means when a webhook gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Fail,
    Ignore,
}

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Service { namespace: String, name: String, port: u16, path: String },
    Url(String),
}

/// Whether a configuration's rules name the resource at all.
pub(super) fn concerns(configuration: &Value, target: &Target, subresource: &str) -> bool {
    let hooks = object::list(configuration, "/webhooks");
    hooks.iter().any(|hook| version_of(hook, target, subresource, None).is_some())
}

/// The webhooks of a configuration that are to be asked.
pub(super) fn hooks(configuration: &Value, asked: &Asked<'_>) -> Vec<Hook> {
    // Whoever breaks a webhook's configuration must be able to mend it.
    if asked.target.resource.group == "admissionregistration.k8s.io" {
        return Vec::new();
    }
    let concerned = |hook: &&Value| selected(hook, asked);
    let hooks = object::list(configuration, "/webhooks").iter().filter(concerned);
    hooks
        .filter_map(|hook| {
            let version = version_of(hook, asked.target, asked.subresource, Some(asked.operation))?;
            Some(read(hook, version.to_owned()))
        })
        .collect()
}

fn read(hook: &Value, version: String) -> Hook {
    let seconds = hook.pointer("/timeoutSeconds").and_then(Value::as_u64).unwrap_or(10).clamp(1, 30);
    let text = |pointer: &str| object::text(hook, pointer).to_owned();
    let place = match object::text(hook, "/clientConfig/url") {
        "" => Place::Service {
            namespace: text("/clientConfig/service/namespace"),
            name: text("/clientConfig/service/name"),
            port: hook
                .pointer("/clientConfig/service/port")
                .and_then(Value::as_u64)
                .unwrap_or(443)
                .try_into()
                .unwrap_or(0),
            path: text("/clientConfig/service/path"),
        },
        url => Place::Url(url.to_owned()),
    };
    Hook {
        name: text("/name"),
        policy: if object::text(hook, "/failurePolicy") == "Ignore" { Policy::Ignore } else { Policy::Fail },
        timeout: Duration::from_secs(seconds),
        place,
        roots: STANDARD.decode(object::text(hook, "/clientConfig/caBundle")).unwrap_or_default(),
        version,
        may_dry_run: matches!(object::text(hook, "/sideEffects"), "None" | "NoneOnDryRun"),
    }
}

/// The version in which a webhook takes the object: the client's where a rule names it, else (unless it asks for exact
/// matches) another of the same resource.
fn version_of<'t>(hook: &Value, target: &'t Target, subresource: &str, operation: Option<&str>) -> Option<&'t str> {
    let rules = object::list(hook, "/rules");
    let takes = |version: &str| rules.iter().any(|rule| matches(rule, target, (version, subresource), operation));
    if takes(&target.version) {
        return Some(&target.version);
    }
    let exact = object::text(hook, "/matchPolicy") == "Exact";
    let mut others = target.resource.versions.iter().map(|version| version.name.as_str());
    others.find(|version| !exact && takes(version))
}

fn matches(rule: &Value, target: &Target, (version, subresource): (&str, &str), operation: Option<&str>) -> bool {
    let names =
        |pointer: &str, word: &str| object::texts(rule, pointer).into_iter().any(|named| named == "*" || named == word);
    let plural = target.resource.plural.as_str();
    let resource = |named: &str| match named.split_once('/') {
        None => subresource.is_empty() && (named == "*" || named == plural),
        Some((first, second)) => (first == "*" || first == plural) && (second == "*" || second == subresource),
    };
    let scope = match object::text(rule, "/scope") {
        "Cluster" => !target.resource.namespaced,
        "Namespaced" => target.resource.namespaced,
        _ => true,
    };
    scope
        && names("/apiGroups", &target.resource.group)
        && names("/apiVersions", version)
        && operation.is_none_or(|operation| names("/operations", operation))
        && object::texts(rule, "/resources").into_iter().any(resource)
}

fn selected(hook: &Value, asked: &Asked<'_>) -> bool {
    let nothing = Value::Null;
    let selector = |field: &str| hook.get(field).unwrap_or(&nothing).clone();
    let labels = |object: &Value| object.pointer("/metadata/labels").cloned().unwrap_or_default();
    let namespace = selector("namespaceSelector");
    let of_object = selector("objectSelector");
    asked.namespace.is_none_or(|one| fulfils(&namespace, &labels(one)))
        && [Some(asked.object), asked.old].into_iter().flatten().any(|one| fulfils(&of_object, &labels(one)))
}

/// Whether labels fulfil a selector; an absent one asks nothing.
fn fulfils(selector: &Value, labels: &Value) -> bool {
    let mut equal = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    equal.all(|(key, value)| labels.get(key) == Some(value))
        && object::list(selector, "/matchExpressions").iter().all(|one| {
            let found = labels.get(object::text(one, "/key")).and_then(Value::as_str);
            let among = found.is_some_and(|found| object::texts(one, "/values").contains(&found));
            match object::text(one, "/operator") {
                "In" => among,
                "NotIn" => !among,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::resource::built_in;

    fn target(group: &str, plural: &str) -> Target {
        let resource = built_in().into_iter().find(|one| one.group == group && one.plural == plural).expect("built in");
        let version = resource.storage_version.clone();
        Target { resource: Arc::new(resource), version, namespace: "shop".to_owned(), name: String::new() }
    }

    fn asked<'a>(target: &'a Target, subresource: &'a str, object: &'a Value, namespace: &'a Value) -> Asked<'a> {
        Asked { target, subresource, operation: "CREATE", object, old: None, namespace: Some(namespace) }
    }

    fn hook(rule: Value, more: Value) -> Value {
        let mut hook =
            json!({"name": "h", "rules": [rule], "clientConfig": {"url": "https://h/"}, "sideEffects": "None"});
        for (key, value) in more.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        json!({"webhooks": [hook]})
    }

    fn rule(group: &str, version: &str, resource: &str, operation: &str) -> Value {
        json!({"apiGroups": [group], "apiVersions": [version], "resources": [resource], "operations": [operation]})
    }

    #[test]
    fn rules_name_resources() {
        let (deployments, nothing) = (target("apps", "deployments"), json!({}));
        let check = |rule: Value, subresource: &str, expected: bool| {
            let found = hooks(&hook(rule.clone(), json!({})), &asked(&deployments, subresource, &nothing, &nothing));
            assert_eq!(!found.is_empty(), expected, "{rule} {subresource:?}");
        };
        check(rule("apps", "v1", "deployments", "CREATE"), "", true);
        check(rule("*", "*", "*", "*"), "", true);
        check(rule("apps", "v1", "deployments", "UPDATE"), "", false);
        check(rule("", "v1", "deployments", "CREATE"), "", false);
        check(rule("apps", "v1", "daemonsets", "CREATE"), "", false);
        check(rule("apps", "v1", "*", "CREATE"), "status", false);
        check(rule("apps", "v1", "*/*", "CREATE"), "status", true);
        check(rule("apps", "v1", "deployments/status", "CREATE"), "status", true);
        check(rule("apps", "v1", "deployments/scale", "CREATE"), "status", false);
        let mut cluster = rule("apps", "v1", "deployments", "CREATE");
        cluster["scope"] = "Cluster".into();
        check(cluster, "", false);
    }

    #[test]
    fn another_version_of_the_resource_is_equivalent() {
        let mut one = target("apps", "deployments");
        let resource = Arc::make_mut(&mut one.resource);
        let older = crate::resource::Version { name: "v1beta1".to_owned(), ..resource.versions[0].clone() };
        resource.versions.push(older);
        one.version = "v1beta1".to_owned();
        let nothing = json!({});
        let found = |policy: &str| {
            let configuration = hook(rule("apps", "v1", "deployments", "CREATE"), json!({"matchPolicy": policy}));
            hooks(&configuration, &asked(&one, "", &nothing, &nothing)).first().map(|hook| hook.version.clone())
        };
        assert_eq!((found("Equivalent").as_deref(), found("Exact")), (Some("v1"), None));
    }

    #[test]
    fn selectors_look_at_the_namespace_and_at_either_object() {
        let deployments = target("apps", "deployments");
        let labelled = |word: &str| json!({"metadata": {"labels": {"a": word}}});
        let (yes, no) = (labelled("yes"), labelled("no"));
        let expression = json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["no"]}]});
        let check = |more: Value, asked: Asked<'_>, expected: bool| {
            let found = hooks(&hook(rule("*", "*", "*", "*"), more.clone()), &asked);
            assert_eq!(!found.is_empty(), expected, "{more}");
        };
        check(json!({"namespaceSelector": expression}), asked(&deployments, "", &no, &yes), true);
        check(json!({"namespaceSelector": expression}), asked(&deployments, "", &yes, &no), false);
        let object = json!({"objectSelector": {"matchLabels": {"a": "yes"}}});
        check(object.clone(), asked(&deployments, "", &no, &yes), false);
        check(object, Asked { old: Some(&yes), ..asked(&deployments, "", &no, &yes) }, true);
    }

    #[test]
    fn defaults_are_the_references_and_its_own_configuration_is_never_asked_about() {
        let (nothing, services) = (json!({}), target("", "services"));
        let service = json!({"clientConfig": {"service": {"namespace": "n", "name": "s"}}, "sideEffects": "Some"});
        let found = hooks(&hook(rule("*", "*", "*", "*"), service), &asked(&services, "", &nothing, &nothing));
        let place = Place::Service { namespace: "n".into(), name: "s".into(), port: 443, path: String::new() };
        assert_eq!((&found[0].place, found[0].policy, found[0].may_dry_run), (&place, Policy::Fail, false));
        assert_eq!(found[0].timeout, Duration::from_secs(10));
        let own = target("admissionregistration.k8s.io", "validatingwebhookconfigurations");
        assert!(hooks(&hook(rule("*", "*", "*", "*"), json!({})), &asked(&own, "", &nothing, &nothing)).is_empty());
    }
}
