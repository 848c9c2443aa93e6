//! Where dumps come from: a file, or `/config_dump` of the ztunnels in a lab.
//!
//! In: a file name, or a lab and perhaps a node. Out: parsed dumps, each with the name of the ztunnel it is of.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// One ztunnel's configuration.
#[derive(Debug)]
pub(crate) struct Dump {
    /// The pod (or file) it came from.
    pub of: String,
    /// The dump.
    pub value: Value,
}

/// Reads the file if one is given, else asks the lab's ztunnels (of `node` only, where given).
pub(crate) fn read(lab: &str, node: Option<&str>, file: Option<&Path>) -> anyhow::Result<Vec<Dump>> {
    if let Some(file) = file {
        let name = file.display().to_string();
        let text = fs::read(file).with_context(|| format!("reading the dump {name}"))?;
        let value = serde_json::from_slice(&text).with_context(|| format!("{name} is not a ztunnel's /config_dump"))?;
        return Ok(vec![Dump { of: name, value }]);
    }
    let pods = ztunnels(lab, node)?;
    if pods.is_empty() {
        bail!("the lab has no running ztunnel{}", node.map(|node| format!(" on node {node}")).unwrap_or_default());
    }
    pods.into_iter().map(|pod| ask(lab, pod)).collect()
}

/// The names of the ztunnel pods.
fn ztunnels(lab: &str, node: Option<&str>) -> anyhow::Result<Vec<String>> {
    let mut arguments = vec!["lab", "kubectl", "--name", lab, "--", "get", "pods", "-n", "istio-system"];
    arguments.extend(["-l", "app=ztunnel", "-o", "json"]);
    let pods: Value = serde_json::from_slice(&ours(&arguments)?).context("the list of ztunnel pods")?;
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    let on_node = |pod: &&Value| node.is_none_or(|node| pod["spec"]["nodeName"] == node);
    let name = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
    Ok(items.iter().filter(on_node).filter_map(name).collect())
}

fn ask(lab: &str, pod: String) -> anyhow::Result<Dump> {
    let url = "http://127.0.0.1:15000/config_dump";
    let exec = ["lab", "exec", "--name", lab, "-n", "istio-system", &pod, "--", "curl", "-sS", "-m", "10", url];
    let text = ours(&exec).with_context(|| format!("asking ztunnel {pod}"))?;
    let value = serde_json::from_slice(&text).with_context(|| format!("the answer of ztunnel {pod}"))?;
    Ok(Dump { of: pod, value })
}

/// Runs another verb of this program and returns what it printed.
fn ours(arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let this = std::env::current_exe().context("finding our own program")?;
    let output = Command::new(this).args(arguments).output().context("starting ourselves")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}
