//! Pod specs, alone and inside templates: defaults and rules.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{names, object, status::FieldError};

/// Fills in a pod spec.
pub fn complete(spec: &mut Value) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
    ] {
        object::set_default(spec, &[field], value);
    }
    // The deprecated twin is always written beside the real field.
    let account = object::text(spec, "/serviceAccountName").to_owned();
    let old_account = object::text(spec, "/serviceAccount").to_owned();
    if account.is_empty() && !old_account.is_empty() {
        object::set(spec, &["serviceAccountName"], old_account);
    } else if !account.is_empty() {
        object::set(spec, &["serviceAccount"], account);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            complete_container(container);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        complete_volume(volume);
    }
}

fn complete_container(container: &mut Value) {
    let image = object::text(container, "/image");
    let tag = image.rsplit('/').next().unwrap_or("").split_once(':').map_or("latest", |(_, tag)| tag);
    let pull = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
    for (field, value) in [
        ("imagePullPolicy", json!(pull)),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources", json!({})),
    ] {
        object::set_default(container, &[field], value);
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        object::set_default(port, &["protocol"], "TCP");
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if variable.pointer("/valueFrom/fieldRef").is_some() {
            object::set_default(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) else { continue };
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            object::set_default(probe, &[field], value);
        }
        if probe.get("httpGet").is_some_and(Value::is_object) {
            object::set_default(probe, &["httpGet", "scheme"], "HTTP");
            object::set_default(probe, &["httpGet", "path"], "/");
        }
    }
}

fn complete_volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |members| members.keys().filter(|key| *key != "name").count());
    if sources == 0 {
        object::set(volume, &["emptyDir"], json!({}));
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if volume.get(source).is_some_and(Value::is_object) {
            object::set_default(volume, &[source, "defaultMode"], 420);
        }
    }
    if volume.get("hostPath").is_some_and(Value::is_object) {
        object::set_default(volume, &["hostPath", "type"], "");
    }
    let projected = volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut);
    for source in projected.into_iter().flatten() {
        if source.get("serviceAccountToken").is_some_and(Value::is_object) {
            object::set_default(source, &["serviceAccountToken", "expirationSeconds"], 3600);
        }
    }
}

/// Checks a pod spec at `path`.
pub fn check(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let containers = object::list(spec, "/containers");
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let volumes = check_volumes(spec, path, errors);
    let mut seen = HashSet::new();
    for list in ["containers", "initContainers"] {
        for (at, container) in object::list(spec, &format!("/{list}")).iter().enumerate() {
            let place = format!("{path}.{list}[{at}]");
            check_container(container, &place, &volumes, errors);
            let name = object::text(container, "/name");
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{place}.name"), name));
            }
        }
    }
    check_one_of(spec, path, "restartPolicy", &["Always", "OnFailure", "Never"], errors);
    check_one_of(spec, path, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    if let Some(seconds) = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).filter(|s| *s < 0) {
        let place = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(place, seconds, "must be greater than or equal to 0"));
    }
}

fn check_volumes<'a>(spec: &'a Value, path: &str, errors: &mut Vec<FieldError>) -> HashSet<&'a str> {
    let mut names_seen = HashSet::new();
    for (at, volume) in object::list(spec, "/volumes").iter().enumerate() {
        let place = format!("{path}.volumes[{at}]");
        let name = object::text(volume, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{place}.name"), ""));
        } else if let Err(why) = names::label(name) {
            errors.push(FieldError::invalid(format!("{place}.name"), name, why));
        } else if !names_seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{place}.name"), name));
        }
        let sources = volume.as_object().map_or(0, |members| members.keys().filter(|key| *key != "name").count());
        if sources > 1 {
            errors.push(FieldError::forbidden(place, "may not specify more than 1 volume type"));
        }
    }
    names_seen
}

fn check_container(container: &Value, place: &str, volumes: &HashSet<&str>, errors: &mut Vec<FieldError>) {
    let name = object::text(container, "/name");
    if name.is_empty() {
        errors.push(FieldError::required(format!("{place}.name"), ""));
    } else if let Err(why) = names::label(name) {
        errors.push(FieldError::invalid(format!("{place}.name"), name, why));
    }
    if object::text(container, "/image").is_empty() {
        errors.push(FieldError::required(format!("{place}.image"), ""));
    }
    for (at, port) in object::list(container, "/ports").iter().enumerate() {
        let place = format!("{place}.ports[{at}]");
        match port.get("containerPort").and_then(Value::as_i64) {
            None => errors.push(FieldError::required(format!("{place}.containerPort"), "")),
            Some(number) => check_port(number, &format!("{place}.containerPort"), errors),
        }
        check_one_of(port, &place, "protocol", &["SCTP", "TCP", "UDP"], errors);
    }
    for (at, mount) in object::list(container, "/volumeMounts").iter().enumerate() {
        let place = format!("{place}.volumeMounts[{at}]");
        let name = object::text(mount, "/name");
        if !volumes.contains(name) {
            errors.push(FieldError {
                field: format!("{place}.name"),
                problem: crate::status::Problem::NotFound(name.into()),
            });
        }
        if object::text(mount, "/mountPath").is_empty() {
            errors.push(FieldError::required(format!("{place}.mountPath"), ""));
        }
    }
    for (at, variable) in object::list(container, "/env").iter().enumerate() {
        if object::text(variable, "/name").is_empty() {
            errors.push(FieldError::required(format!("{place}.env[{at}].name"), ""));
        }
    }
    check_one_of(container, place, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], errors);
}

/// A port number in range.
pub fn check_port(number: i64, place: &str, errors: &mut Vec<FieldError>) {
    if !(1..=65535).contains(&number) {
        errors.push(FieldError::invalid(place, number, "must be between 1 and 65535, inclusive"));
    }
}

/// A member that is one of a closed set, or absent.
pub fn check_one_of(value: &Value, path: &str, field: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    if let Some(word) = value.get(field).and_then(Value::as_str)
        && !allowed.contains(&word)
    {
        errors.push(FieldError::unsupported(format!("{path}.{field}"), word, allowed));
    }
}
