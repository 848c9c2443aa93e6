//! The cluster these verbs work on: its Gateways and namespaces.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use lateen_rt::deadline::within;
use serde_json::Value;

use super::manifest::CLASSES;

/// Which cluster, and where in it.
#[derive(Debug, Args)]
pub(super) struct At {
    /// The namespace; by default that of the kubeconfig's context
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The kubeconfig, instead of KUBECONFIG or ~/.kube/config
    #[arg(short = 'c', long, global = true, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long, global = true)]
    context: Option<String>,
}

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A cluster.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl At {
    /// Does no request yet.
    pub(super) async fn connect(&self) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config =
            config.context("the kubeconfig names no cluster that can be used; set KUBECONFIG or --kubeconfig")?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config).context("making a client")?, namespace })
    }
}

/// One waypoint as the cluster holds it.
pub(super) struct Found {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: DynamicObject,
}

impl Found {
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.object.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The conditions of its status.
    pub(super) fn conditions(&self) -> &[Value] {
        self.object.data.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a condition says.
    pub(super) fn condition(&self, kind: &str) -> Option<&str> {
        self.conditions().iter().find(|one| one["type"] == kind)?["status"].as_str()
    }
}

impl Cluster {
    /// The waypoints of the namespace, or of all, in the order of their names. Other Gateways are not looked at.
    pub(super) async fn waypoints(&self, everywhere: bool) -> anyhow::Result<Vec<Found>> {
        let api = if everywhere { self.gateways_everywhere() } else { self.gateways() };
        let all = asked("listing Gateways", api.list(&ListParams::default())).await?;
        let is_waypoint = |object: &DynamicObject| {
            let class = object.data.pointer("/spec/gatewayClassName").and_then(Value::as_str);
            class.is_some_and(|class| CLASSES.contains(&class))
        };
        let found = all.items.into_iter().filter(is_waypoint).map(|object| Found {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            object,
        });
        let mut found: Vec<Found> = found.collect();
        found.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        Ok(found)
    }

    pub(super) fn gateways(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &gateway_kind())
    }

    fn gateways_everywhere(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &gateway_kind())
    }
}

fn gateway_kind() -> ApiResource {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
    ApiResource::from_gvk_with_plural(&kind, "gateways")
}

/// The answer to a request about Gateways.
pub(super) async fn asked<T>(what: &'static str, request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match within(what, TIMEOUT, request).await? {
        Ok(answer) => Ok(answer),
        // An object that is missing is named; a kind that is missing is not.
        Err(kube::Error::Api(status))
            if status.code == 404 && status.details.as_ref().is_none_or(|one| one.name.is_empty()) =>
        {
            bail!("{what}: the cluster does not know the kind Gateway; install the CRDs of the Gateway API first")
        }
        Err(error) => Err(error).context(what),
    }
}
