//! The mesh in a lab: which programs, which objects, and whether it is up.
//!
//! In: the manifests of `deploy/lab`, the CRDs, what the user replaced. Out: applied objects; what is still missing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::Node,
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use lateen_rt::deadline::within;
use serde_json::{Value, json};

use super::rootfs::HOST;
use crate::{
    config::Parts,
    node::images::{Image, Images},
    verbs,
};

const MANIFESTS: [&str; 5] = [
    include_str!("../../../../deploy/lab/10-namespace.yaml"),
    include_str!("../../../../deploy/lab/20-istiod.yaml"),
    include_str!("../../../../deploy/lab/30-cni.yaml"),
    include_str!("../../../../deploy/lab/40-ztunnel.yaml"),
    include_str!("../../../../deploy/lab/50-webhook.yaml"),
];
/// The mesh's namespace.
const NAMESPACE: &str = "istio-system";
/// Our CNI plugin, which the lab chains behind its own.
const OWN_PLUGIN: &str = "lateen-cni";
const OWNER: &str = "lateen-lab";
/// How long the API may take for one object.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// The programs of a lab with a mesh.
#[derive(Debug)]
pub(crate) struct Programs {
    /// What images stand for.
    pub images: Images,
    /// The plugin to chain behind the lab's.
    pub plugin: Option<PathBuf>,
}

/// The images every lab offers.
pub(crate) fn offered(own: &Path) -> Images {
    let own = hosted(own).to_string_lossy().into_owned();
    let image = |words: &[&str]| Image {
        entrypoint: [own.as_str()].iter().chain(words).map(|word| (*word).to_owned()).collect(),
        carries: Vec::new(),
    };
    let known = OFFERED.iter().map(|(name, words)| ((*name).to_owned(), image(words)));
    Images { known: known.collect() }
}

/// Images and the words our own program is started with. The last ones are called as in the documents' YAML.
const OFFERED: [(&str, &[&str]); 10] = [
    ("echo", &[verbs::ECHO]),
    ("pause", &[verbs::PAUSE]),
    ("tcp-echo-server", &[verbs::LINES]),
    ("examples-bookinfo-productpage-v1", &[verbs::BOOKS, "productpage"]),
    ("examples-bookinfo-details-v1", &[verbs::BOOKS, "details"]),
    ("examples-bookinfo-reviews-v1", &[verbs::BOOKS, "reviews", "v1"]),
    ("examples-bookinfo-reviews-v2", &[verbs::BOOKS, "reviews", "v2"]),
    ("examples-bookinfo-reviews-v3", &[verbs::BOOKS, "reviews", "v3"]),
    ("examples-bookinfo-ratings-v1", &[verbs::BOOKS, "ratings"]),
    ("examples-bookinfo-ratings-v-faulty", &[verbs::BOOKS, "ratings", "v-faulty"]),
];

/// The mesh's images too: the programs beside our `own`, unless replaced.
pub(crate) fn programs(parts: &Parts, own: &Path) -> anyhow::Result<Programs> {
    let mut images = offered(own);
    let program =
        |given: &Option<PathBuf>, name: &str| found(given.clone().unwrap_or_else(|| own.with_file_name(name)));
    let plugin = program(&parts.cni_plugin, OWN_PLUGIN)?;
    let name = plugin.file_name().context("the CNI plugin's name")?.to_owned();
    let carries = vec![(PathBuf::from("/opt/cni/bin").join(&name), plugin.clone())];
    let agent = program(&parts.cni_agent, "lateen-cni-agent")?;
    let mut add = |image: &str, program: PathBuf, carries: Vec<(PathBuf, PathBuf)>| {
        let entrypoint = vec![program.to_string_lossy().into_owned()];
        images.known.insert(image.to_owned(), Image { entrypoint, carries });
    };
    add("ztunnel", program(&parts.ztunnel, "ztunnel")?, Vec::new());
    if parts.xds.is_none() {
        add("controller", program(&parts.controller, "lateen-controller")?, Vec::new());
    }
    add("cni-agent", agent, carries);
    add("waypoint", program(&parts.waypoint, "waypoint")?, Vec::new());
    Ok(Programs { images, plugin: is_chained(parts, name.as_ref()).then_some(plugin) })
}

/// Whether the lab chains the plugin itself. Another mesh's agent installs its own; ours before it would ask in vain.
fn is_chained(parts: &Parts, plugin: &Path) -> bool {
    let replaced = parts.cni_agent.is_some() && parts.cni_plugin.is_none();
    plugin == Path::new(OWN_PLUGIN) && !replaced
}

/// Where a path of the host is inside the lab.
pub(crate) fn hosted(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

/// A program of the host, as seen inside the lab.
fn found(path: PathBuf) -> anyhow::Result<PathBuf> {
    let inside = hosted(&path);
    if !inside.is_file() {
        let shown = path.display();
        bail!("there is no program {shown}: build all with `cargo build --workspace`, or name another (see --help)");
    }
    Ok(inside)
}

/// Applies CRDs and manifests.
pub(crate) async fn apply(client: &Client, parts: &Parts) -> anyhow::Result<()> {
    for definition in lateen_cluster::crds::all() {
        apply_one(client, serde_json::to_value(definition).context("a CRD")?).await?;
    }
    for definition in lateen_cluster::crds::gateway_api() {
        apply_one(client, definition).await?;
    }
    for object in objects(parts)? {
        apply_one(client, object).await?;
    }
    Ok(())
}

/// The mesh's objects with the user's replacements.
fn objects(parts: &Parts) -> anyhow::Result<Vec<Value>> {
    let mut objects: Vec<Value> = Vec::new();
    for text in MANIFESTS {
        objects.extend(serde_saphyr::from_multiple::<Value>(text).context("a manifest of deploy/lab")?);
    }
    if parts.xds.is_some() {
        let is_ours = |object: &Value| object["metadata"]["name"] == "istiod" && object["kind"] != "ServiceAccount";
        objects.retain(|object| !is_ours(object) && object["kind"] != "ValidatingWebhookConfiguration");
    }
    let ca = parts.ca.as_ref().or(parts.xds.as_ref());
    for object in &mut objects {
        for (name, value) in [("XDS_ADDRESS", parts.xds.as_ref()), ("CA_ADDRESS", ca)] {
            if let Some(value) = value {
                set_variable(object, name, value);
            }
        }
    }
    Ok(objects)
}

/// Sets a variable where an object's containers have it.
fn set_variable(object: &mut Value, name: &str, value: &str) {
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        for variable in container["env"].as_array_mut().into_iter().flatten() {
            if variable["name"] == name {
                variable["value"] = json!(value);
            }
        }
    }
}

async fn apply_one(client: &Client, object: Value) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(object).context("an object without kind")?;
    let types = object.types.clone().context("an object without kind")?;
    let name = object.metadata.name.clone().context("an object without name")?;
    let what = format!("{} {name}", types.kind);
    let kind = GroupVersionKind::try_from(&types).with_context(|| format!("the version of {what}"))?;
    let (resource, traits) = within("discovering a kind", API_TIMEOUT, pinned_kind(client, &kind))
        .await?
        .with_context(|| format!("the API does not serve {what}"))?;
    let api: Api<DynamicObject> = match traits.scope {
        Scope::Namespaced => {
            Api::namespaced_with(client.clone(), object.metadata.namespace.as_deref().unwrap_or("default"), &resource)
        }
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(OWNER).force();
    let applied = within("applying an object", API_TIMEOUT, api.patch(&name, &params, &Patch::Apply(&object))).await?;
    applied.map(drop).with_context(|| format!("applying {what}"))
}

/// Which nodes are not ready yet.
pub(crate) async fn missing_nodes(client: &Client, expected: &[String]) -> anyhow::Result<Vec<String>> {
    let api: Api<Node> = Api::all(client.clone());
    let known = within("listing nodes", API_TIMEOUT, api.list(&Default::default())).await??.items;
    let ready = |name: &String| {
        known.iter().any(|node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            node.metadata.name.as_ref() == Some(name)
                && conditions.into_iter().any(|each| each.type_ == "Ready" && each.status == "True")
        })
    };
    Ok(expected.iter().filter(|name| !ready(name)).cloned().collect())
}

/// Which parts of the mesh are not ready yet, in words.
pub(crate) async fn missing_parts(client: &Client, nodes: usize) -> anyhow::Result<Vec<String>> {
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let mut missing = Vec::new();
    for set in within("listing DaemonSets", API_TIMEOUT, sets.list(&Default::default())).await??.items {
        let ready = set.status.as_ref().map_or(0, |status| status.number_ready);
        if usize::try_from(ready).unwrap_or_default() < nodes {
            missing.push(format!("{} {ready}/{nodes}", set.metadata.name.unwrap_or_default()));
        }
    }
    for deployment in within("listing Deployments", API_TIMEOUT, deployments.list(&Default::default())).await??.items {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
        if ready < wanted {
            missing.push(format!("{} {ready}/{wanted}", deployment.metadata.name.unwrap_or_default()));
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_plugin_is_chained_and_only_with_an_agent_for_it() {
        let given = |agent: bool, plugin: bool| Parts {
            cni_agent: agent.then(|| "/x/agent".into()),
            cni_plugin: plugin.then(|| "/x/plugin".into()),
            ..Parts::default()
        };
        for (agent, plugin, name, chained) in [
            (false, false, "lateen-cni", true),
            (true, false, "lateen-cni", false),
            (true, true, "lateen-cni", true),
            (false, true, "lateen-cni", true),
            (true, true, "other-cni", false),
        ] {
            assert_eq!(is_chained(&given(agent, plugin), Path::new(name)), chained, "{agent} {plugin} {name}");
        }
    }

    #[test]
    fn a_control_plane_elsewhere_replaces_ours() {
        let all = objects(&Parts::default()).expect("valid manifests");
        assert!(all.iter().any(|object| object["kind"] == "Deployment"));
        let parts = Parts { xds: Some("https://10.0.0.9:15012".into()), ..Parts::default() };
        let rest = objects(&parts).expect("valid manifests");
        let gone = ["Deployment", "Service", "ValidatingWebhookConfiguration"];
        assert!(!rest.iter().any(|object| gone.iter().any(|kind| object["kind"] == *kind)));
        let ztunnel =
            rest.iter().find(|object| object["metadata"]["name"] == "ztunnel" && object["kind"] == "DaemonSet");
        let env = &ztunnel.expect("ztunnel")["spec"]["template"]["spec"]["containers"][0]["env"];
        for name in ["XDS_ADDRESS", "CA_ADDRESS"] {
            let found = env.as_array().expect("a list").iter().find(|variable| variable["name"] == name);
            assert_eq!(found.expect(name)["value"], "https://10.0.0.9:15012");
        }
    }
}
