//! Runs the API server alone on a loopback port, to try `kubectl` against it.
//!
//! Usage: `cargo run -p lateen-embedded-api --example serve -- 6443 /tmp/kubeconfig`

use std::io::Write as _;

use anyhow::Context as _;
use lateen_embedded_api::{ApiServer, Options};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().context("give a port")?.parse()?;
    let path = args.next().context("give a file for the kubeconfig")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("https://{}", listener.local_addr()?);
    let server = ApiServer::start(Options::default(), vec![listener]).await?;
    std::fs::write(&path, server.kubeconfig(&url, server.admin_token()))?;
    writeln!(std::io::stdout(), "serving on {url}; KUBECONFIG={path}; Ctrl-C ends it")?;
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
