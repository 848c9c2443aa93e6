//! A client for the cluster's API, with deadlines.
//!
//! In: how to reach it. Out: a [`kube::Client`].
//! Absent on purpose: reading the environment beyond what a pod is given to reach its API server.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// How to reach the API server.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// As a pod, by its service account; else by the user's own kubeconfig.
    #[default]
    Inferred,
    /// By this kubeconfig and its current context.
    Kubeconfig(PathBuf),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig names nothing we can use.
    #[error("kubeconfig {}: {source}; give the path of a valid kubeconfig", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a pod nor a user with a kubeconfig.
    #[error("no way to the Kubernetes API: {0}; run in a pod with a service account or set KUBECONFIG")]
    Inferred(#[source] Box<kube::config::InferConfigError>),
    /// The parts do not make a client.
    #[error("the Kubernetes client cannot be made: {0}; check the certificates it is given")]
    Build(#[source] Box<kube::Error>),
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than a watch may be silent (the server ends watches after five minutes), so that only a dead peer meets it.
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// A client. Does no network IO; the first request does.
pub async fn connect(access: &Access) -> Result<Client, ClientError> {
    let mut config = match access {
        Access::Inferred => match Config::incluster() {
            Ok(config) => config,
            Err(_) => Config::infer().await.map_err(|error| ClientError::Inferred(Box::new(error)))?,
        },
        Access::Kubeconfig(path) => from_file(path.clone()).await?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).map_err(|error| ClientError::Build(Box::new(error)))
}

async fn from_file(path: PathBuf) -> Result<Config, ClientError> {
    let wrong = |source| ClientError::Kubeconfig { path: path.clone(), source: Box::new(source) };
    let file = Kubeconfig::read_from(&path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let error = connect(&Access::Kubeconfig("/nowhere/config".into())).await.map(|_| ()).expect_err("missing");
        assert!(error.to_string().contains("/nowhere/config"), "{error}");
    }
}
