//! A container's environment, and the downward API.
//!
//! In: the pod as it stands, its addresses, ConfigMaps and Secrets. Out: variables in order, with `$(NAME)` expanded.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use kube::Api;

use super::Kubelet;
use crate::fabric::addresses::KUBERNETES;

/// What fields of a pod may be asked for by name.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// Its node's addresses.
    pub node: &'a [IpAddr],
}

/// The environment of `container`.
pub(super) async fn resolve(
    kubelet: &Kubelet,
    facts: &Facts<'_>,
    container: &Container,
) -> anyhow::Result<Vec<(String, String)>> {
    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut env: BTreeMap<String, String> = defaults(facts);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut given = BTreeMap::new();
        if let Some(map) = &from.config_map_ref {
            given.extend(config_map(kubelet, namespace, &map.name, map.optional.unwrap_or_default()).await?);
        }
        if let Some(secret) = &from.secret_ref {
            given.extend(self::secret(kubelet, namespace, &secret.name, secret.optional.unwrap_or_default()).await?);
        }
        for (name, value) in given {
            env.insert(format!("{prefix}{name}"), String::from_utf8_lossy(&value).into_owned());
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(kubelet, facts, namespace, variable, &env).await? {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env.into_iter().collect())
}

fn defaults(facts: &Facts<'_>) -> BTreeMap<String, String> {
    let host = KUBERNETES[0].to_string();
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([
        own("PATH", super::PATH),
        own("HOME", "/root"),
        own("HOSTNAME", &hostname(facts.pod)),
        own("KUBERNETES_SERVICE_HOST", &host),
        own("KUBERNETES_SERVICE_PORT", "443"),
        own("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        own("KUBERNETES_PORT", &format!("tcp://{host}:443")),
    ])
}

async fn value(
    kubelet: &Kubelet,
    facts: &Facts<'_>,
    namespace: &str,
    variable: &EnvVar,
    env: &BTreeMap<String, String>,
) -> anyhow::Result<Option<String>> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), env)));
    };
    from_source(kubelet, facts, namespace, source).await.with_context(|| format!("variable {}", variable.name))
}

async fn from_source(
    kubelet: &Kubelet,
    facts: &Facts<'_>,
    namespace: &str,
    source: &EnvVarSource,
) -> anyhow::Result<Option<String>> {
    if let Some(path) = &source.field_ref {
        return facts.field(&path.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(limit(&resource.resource)));
    }
    let (mut data, key, optional) = if let Some(from) = &source.config_map_key_ref {
        let optional = from.optional.unwrap_or_default();
        (config_map(kubelet, namespace, &from.name, optional).await?, &from.key, optional)
    } else if let Some(from) = &source.secret_key_ref {
        let optional = from.optional.unwrap_or_default();
        (secret(kubelet, namespace, &from.name, optional).await?, &from.key, optional)
    } else {
        bail!("its valueFrom names no source this lab knows");
    };
    match data.remove(key) {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None if optional => Ok(None),
        None => bail!("there is no key {key:?}"),
    }
}

/// What a container may use: all of the machine.
fn limit(resource: &str) -> String {
    if resource.ends_with("cpu") {
        return std::thread::available_parallelism().map_or(1, usize::from).to_string();
    }
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default();
    (kilobytes * 1024).to_string()
}

impl Facts<'_> {
    /// The pod's field called `path`, as the downward API names it.
    pub fn field(&self, path: &str) -> anyhow::Result<String> {
        let (meta, spec) = (&self.pod.metadata, self.pod.spec.as_ref());
        let list = |of: &[IpAddr]| of.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        let first = |of: &[IpAddr]| of.first().map(IpAddr::to_string);
        let text = match path {
            "metadata.name" => meta.name.clone(),
            "metadata.namespace" => meta.namespace.clone(),
            "metadata.uid" => meta.uid.clone(),
            "metadata.labels" => Some(lines(meta.labels.as_ref())),
            "metadata.annotations" => Some(lines(meta.annotations.as_ref())),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "status.hostIP" => first(self.node),
            "status.hostIPs" => Some(list(self.node)),
            "status.podIP" => first(self.addresses),
            "status.podIPs" => Some(list(self.addresses)),
            _ => return self.entry(path).with_context(|| format!("the field {path:?} is not offered")),
        };
        Ok(text.unwrap_or_default())
    }

    /// One label or annotation: `metadata.labels['key']`.
    fn entry(&self, path: &str) -> Option<String> {
        let (which, rest) = path.split_once('[')?;
        let key = rest.strip_suffix(']')?.trim_matches(['\'', '"']);
        let map = match which {
            "metadata.labels" => self.pod.metadata.labels.as_ref(),
            "metadata.annotations" => self.pod.metadata.annotations.as_ref(),
            _ => return None,
        };
        Some(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The host name of a pod: what its spec says, else its name.
pub(super) fn hostname(pod: &Pod) -> String {
    let asked = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    // The kernel takes 64 bytes; Kubernetes cuts at 63.
    asked.or_else(|| pod.metadata.name.clone()).unwrap_or_default().chars().take(63).collect()
}

/// Replaces `$(NAME)` by variables set so far; `$$` is a dollar sign; unknown names stay as they are.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let name = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match name {
            Some((name, tail)) if env.contains_key(name) => {
                out.push_str(&env[name]);
                rest = tail;
            }
            _ => {
                out.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
            }
        }
    }
    out + rest
}

/// A ConfigMap's entries.
pub(super) async fn config_map(
    kubelet: &Kubelet,
    namespace: &str,
    name: &str,
    optional: bool,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let api: Api<ConfigMap> = Api::namespaced(kubelet.client.clone(), namespace);
    let found = api.get_opt(name).await.with_context(|| format!("reading ConfigMap {namespace}/{name}"))?;
    match found {
        Some(map) => {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            Ok(text.chain(binary).collect())
        }
        None if optional => Ok(BTreeMap::new()),
        None => bail!("configmap {name:?} not found"),
    }
}

/// A Secret's entries.
pub(super) async fn secret(
    kubelet: &Kubelet,
    namespace: &str,
    name: &str,
    optional: bool,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let api: Api<Secret> = Api::namespaced(kubelet.client.clone(), namespace);
    match api.get_opt(name).await.with_context(|| format!("reading Secret {namespace}/{name}"))? {
        Some(secret) => Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()),
        None if optional => Ok(BTreeMap::new()),
        None => bail!("secret {name:?} not found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_once() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        for (text, expected) in
            [("x$(A)y", "x1y"), ("$$(A)", "$(A)"), ("$(C)", "$(C)"), ("$(B)", "$(A)"), ("$", "$"), ("$(A", "$(A")]
        {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    #[test]
    fn the_downward_api_names_fields() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "x"}}, "spec": {"containers": [], "nodeName": "node-1"},
        }))
        .expect("a pod");
        let addresses = ["10.0.0.1".parse().expect("v4"), "fd00::1".parse().expect("v6")];
        let facts = Facts { pod: &pod, addresses: &addresses, node: &addresses[..1] };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels['app']", "x"),
            ("metadata.labels['none']", ""),
            ("spec.nodeName", "node-1"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
            ("status.hostIP", "10.0.0.1"),
        ] {
            assert_eq!(facts.field(path).expect(path), expected);
        }
        assert!(facts.field("spec.everything").is_err());
    }
}
