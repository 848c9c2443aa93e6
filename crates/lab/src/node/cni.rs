//! Runs a chain of CNI plugins as a container runtime does.
//!
//! In: the first configuration of a directory and an attachment. Out: the last plugin's result.
//! Absent on purpose: knowledge of any plugin; retrying (the sandbox does).

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use lateen_rt::deadline::{Elapsed, within};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// How long one plugin may take; the mesh's own waits for its agent are shorter.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Why an attachment could not be made, removed or checked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CniError {
    /// Nothing to run.
    #[error("no CNI configuration in {}: {reason}", dir.display())]
    Config {
        /// The directory searched.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The program is not there or cannot be run.
    #[error("CNI plugin {plugin}: {source}")]
    Start {
        /// Its type.
        plugin: String,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("CNI plugin {plugin}: {source}")]
    Slow {
        /// Its type.
        plugin: String,
        /// After how long.
        source: Elapsed,
    },
    /// It said no.
    #[error("CNI plugin {plugin} {command}: {message}")]
    Refused {
        /// Its type.
        plugin: String,
        /// What it was asked.
        command: &'static str,
        /// Its words.
        message: String,
    },
    /// Its answer is no CNI result.
    #[error("CNI plugin {plugin}: its answer is not a CNI result: {reason}")]
    Result {
        /// Its type.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
}

/// What is attached to what.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    /// The sandbox's id; a new one for every try.
    pub container: String,
    /// The pod's namespace as a path.
    pub netns: PathBuf,
    /// The pod.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A list of plugins, as configured when it was loaded.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    name: String,
    version: String,
    plugins: Vec<Value>,
    path: PathBuf,
}

impl Chain {
    /// The first configuration in `dir` by name, its plugins to be found in `path`.
    pub async fn load(dir: &Path, path: &Path) -> Result<Self, CniError> {
        let wrong = |reason: String| CniError::Config { dir: dir.to_owned(), reason };
        let mut listed = tokio::fs::read_dir(dir).await.map_err(|error| wrong(error.to_string()))?;
        let mut files = Vec::new();
        while let Some(entry) = listed.next_entry().await.map_err(|error| wrong(error.to_string()))? {
            let file = entry.path();
            if file.extension().is_some_and(|kind| ["conf", "conflist", "json"].iter().any(|known| kind == *known)) {
                files.push(file);
            }
        }
        files.sort();
        let file = files.first().ok_or_else(|| wrong("there is no .conflist".into()))?;
        let text = tokio::fs::read(file).await.map_err(|error| wrong(format!("{}: {error}", file.display())))?;
        Self::parse(&text, path).map_err(|reason| wrong(format!("{}: {reason}", file.display())))
    }

    fn parse(text: &[u8], path: &Path) -> Result<Self, String> {
        let config: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let word = |name: &str| config[name].as_str().map(str::to_owned).ok_or(format!("{name} is missing"));
        let plugins = match &config["plugins"] {
            Value::Array(plugins) => plugins.clone(),
            _ => vec![config.clone()],
        };
        if plugins.is_empty() || plugins.iter().any(|plugin| !plugin["type"].is_string()) {
            return Err("it needs plugins, each with a type".into());
        }
        Ok(Self { name: word("name")?, version: word("cniVersion")?, plugins, path: path.to_owned() })
    }

    /// Runs ADD through the chain, each plugin with its forerunner's result. The last result.
    pub async fn add(&self, to: &Attachment) -> Result<Value, CniError> {
        let mut previous = Value::Null;
        for plugin in &self.plugins {
            previous = self.call("ADD", plugin, &previous, to).await?;
            if !previous["ips"].is_array() && !previous["interfaces"].is_array() {
                return Err(CniError::Result { plugin: kind(plugin), reason: "neither ips nor interfaces".into() });
            }
        }
        Ok(previous)
    }

    /// Runs DEL through the chain backwards; every plugin is asked, the first refusal is returned.
    pub async fn del(&self, of: &Attachment, result: &Value) -> Result<(), CniError> {
        let mut end = Ok(());
        for plugin in self.plugins.iter().rev() {
            end = end.and(self.call("DEL", plugin, result, of).await.map(|_| ()));
        }
        end
    }

    /// Runs CHECK through the chain.
    pub async fn check(&self, of: &Attachment, result: &Value) -> Result<(), CniError> {
        for plugin in &self.plugins {
            self.call("CHECK", plugin, result, of).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        command: &'static str,
        plugin: &Value,
        previous: &Value,
        of: &Attachment,
    ) -> Result<Value, CniError> {
        let mut config = plugin.clone();
        config["name"] = json!(self.name);
        config["cniVersion"] = json!(self.version);
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        let kind = kind(plugin);
        let done = within("the plugin's answer", PLUGIN_TIMEOUT, self.exec(command, &kind, &config, of)).await;
        let output = done
            .map_err(|source| CniError::Slow { plugin: kind.clone(), source })?
            .map_err(|source| CniError::Start { plugin: kind.clone(), source })?;
        if !output.status.success() {
            return Err(CniError::Refused { plugin: kind, command, message: refusal(&output) });
        }
        if command != "ADD" {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| CniError::Result { plugin: kind, reason: error.to_string() })
    }

    async fn exec(
        &self,
        command: &str,
        kind: &str,
        config: &Value,
        of: &Attachment,
    ) -> std::io::Result<std::process::Output> {
        let mut child = Command::new(self.path.join(kind))
            .env_clear()
            .envs([("PATH", super::PATH), ("CNI_COMMAND", command), ("CNI_CONTAINERID", &of.container)])
            .env("CNI_NETNS", &of.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.path)
            .env("CNI_ARGS", arguments(of))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin may answer without reading all of it; its answer counts, not the broken pipe.
            drop(stdin.write_all(config.to_string().as_bytes()).await);
        }
        child.wait_with_output().await
    }
}

fn arguments(of: &Attachment) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        of.namespace, of.name, of.container, of.uid
    )
}

fn kind(plugin: &Value) -> String {
    plugin["type"].as_str().unwrap_or_default().to_owned()
}

/// A plugin's reason: CNI's error object, else whatever it printed.
fn refusal(output: &std::process::Output) -> String {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if let Some(message) = said["msg"].as_str() {
        let details = said["details"].as_str().unwrap_or_default();
        return if details.is_empty() { message.to_owned() } else { format!("{message}: {details}") };
    }
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}: {}", output.status, text.trim().chars().take(500).collect::<String>())
}

/// The addresses of a CNI result.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = ips.iter().filter_map(|ip| ip["address"].as_str());
    text.filter_map(|address| address.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_any_version_yield_addresses() {
        let result = json!({"ips": [{"address": "10.0.0.5/24", "version": "4"}, {"address": "fd00::5/64"}, {}]});
        assert_eq!(addresses(&result), ["10.0.0.5".parse::<IpAddr>().expect("v4"), "fd00::5".parse().expect("v6")]);
        assert!(addresses(&Value::Null).is_empty());
    }

    #[test]
    fn a_configuration_without_plugins_is_refused() {
        let parse = |text: &str| Chain::parse(text.as_bytes(), Path::new("/bin")).map(|chain| chain.plugins.len());
        assert_eq!(parse(r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"},{"type":"b"}]}"#), Ok(2));
        assert_eq!(parse(r#"{"cniVersion":"1.0.0","name":"n","type":"a"}"#), Ok(1));
        for bad in [r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "{}", "x", r#"{"plugins":[{"type":"a"}]}"#] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_plugin_that_fails_says_why_and_stops_the_chain() {
        let dir = tempfile::tempdir().expect("a directory");
        let script =
            "#!/bin/sh\ncat >/dev/null\necho '{\"code\":7,\"msg\":\"no way\",\"details\":\"today\"}'; exit 1\n";
        let plugin = dir.path().join("no");
        std::fs::write(&plugin, script).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&plugin, mode).expect("executable");
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"no"},{"type":"absent"}]}"#;
        let chain = Chain::parse(text.as_bytes(), dir.path()).expect("parsed");
        let to = Attachment {
            container: "c".into(),
            netns: "/n".into(),
            namespace: "ns".into(),
            name: "p".into(),
            uid: "u".into(),
        };
        let error = chain.add(&to).await.expect_err("refused").to_string();
        assert_eq!(error, "CNI plugin no ADD: no way: today");
        assert!(chain.del(&to, &Value::Null).await.is_err(), "the absent plugin cannot be asked");
    }
}
