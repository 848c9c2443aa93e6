//! `lateen-cni-agent`: the node agent, one per node, configured by its environment.

use lateen_cni_agent::{app, config::Config, rules::sysctl};

fn main() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let log = lateen_telemetry::log::init(&config.log)?;
    sysctl::mounted_below(&config.host_root);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(app::run(config));
    drop(log);
    Ok(ended?)
}
