//! The embedded API server as a process of its own, so that what it costs is not the controller's.
//!
//! In: where the kubeconfig goes. Out: the server, until standard input ends; the measuring process holds the other end of
//! that, so that the server ends however that one does.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use lateen_embedded_api::{ApiServer, Options};
use lateen_rt::deadline::within;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    process::{Child, Command},
};

use crate::program::{START_TIMEOUT, until};

/// Serves until standard input ends.
pub(crate) fn serve(kubeconfig: &Path) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding a port for the API")?;
        let url = format!("https://{}", listener.local_addr()?);
        let server = ApiServer::start(Options::default(), vec![listener]).await?;
        // Appears whole: whoever waits for it may read it at once.
        let partial = kubeconfig.with_extension("partial");
        let mut file = tokio::fs::File::create(&partial).await.context("writing the kubeconfig")?;
        file.write_all(server.kubeconfig(&url, server.admin_token()).as_bytes()).await?;
        file.flush().await?;
        tokio::fs::rename(&partial, kubeconfig).await?;
        // Nothing is ever written there: it ends.
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await??;
        server.shutdown().await?;
        Ok(())
    })
}

/// A running server.
pub(crate) struct Api {
    /// Ends when its standard input does.
    child: Child,
    /// How to reach it as its administrator.
    pub kubeconfig: PathBuf,
}

impl Api {
    /// Starts one, its kubeconfig in `directory`.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let kubeconfig = directory.join("kubeconfig");
        let mut command = Command::new("/proc/self/exe");
        command.arg("api").arg(&kubeconfig).stdin(std::process::Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().context("starting the API server")?;
        let written = until(|| async { tokio::fs::try_exists(&kubeconfig).await.unwrap_or(false).then_some(()) });
        within("the API server's kubeconfig", START_TIMEOUT, written).await?;
        Ok(Self { child, kubeconfig })
    }

    /// Its process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the API server has ended")
    }

    /// Ends it.
    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        within("the end of the API server", START_TIMEOUT, self.child.wait()).await??;
        Ok(())
    }
}
