//! The API server as a client writes to it: paths and JSON.
//!
//! In: paths and objects. Out: what the server answers. One client is shared by all callers.

use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// Requests at once.
const AT_ONCE: usize = 64;

/// A client of the API; clones share it.
#[derive(Clone)]
pub(crate) struct Rest {
    client: Client,
}

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub path: String,
    pub body: Value,
    /// Of an object that is there, rather than a new one.
    pub is_patch: bool,
}

impl Write {
    /// A new object in the collection at `path`.
    pub fn create(path: String, body: Value) -> Self {
        Self { path, body, is_patch: false }
    }

    /// Changed fields of the object at `path`.
    pub fn patch(path: String, body: Value) -> Self {
        Self { path, body, is_patch: true }
    }
}

impl Rest {
    /// A client as this kubeconfig says.
    pub async fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let access = lateen_cluster::client::Access::Kubeconfig(kubeconfig.to_owned());
        Ok(Self { client: lateen_cluster::client::connect(&access).await? })
    }

    /// One object.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, ("application/json", None)).await
    }

    /// Makes or changes an object; the server's answer.
    pub async fn write(&self, write: &Write) -> anyhow::Result<Value> {
        let (method, kind) = if write.is_patch {
            (Method::PATCH, "application/merge-patch+json")
        } else {
            (Method::POST, "application/json")
        };
        self.send(method, &write.path, (kind, Some(&write.body))).await
    }

    /// Removes an object at once.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let options = serde_json::json!({"gracePeriodSeconds": 0});
        self.send(Method::DELETE, path, ("application/json", Some(&options))).await.map(drop)
    }

    /// Makes all of `writes`, many at once.
    pub async fn write_all(&self, writes: impl Iterator<Item = Write>) -> anyhow::Result<()> {
        let each = futures::stream::iter(writes.map(Ok::<_, anyhow::Error>));
        each.try_for_each_concurrent(AT_ONCE, |write| async move { self.write(&write).await.map(drop) }).await
    }

    /// What the server answers to each of `writes`, in their order.
    pub async fn answers(&self, writes: impl Iterator<Item = Write>) -> anyhow::Result<Vec<Value>> {
        let asked = writes.map(|write| async move { self.write(&write).await });
        futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    async fn send(&self, method: Method, path: &str, (kind, body): (&str, Option<&Value>)) -> anyhow::Result<Value> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder().method(&method).uri(path).header("content-type", kind).body(body)?;
        self.client.request::<Value>(request).await.with_context(|| format!("{method} {path}"))
    }
}
