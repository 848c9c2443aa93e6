//! `lateen-cni-agent`: the node agent, one per node, configured by its environment. With the word `verify` it only looks.

use std::{io::Write as _, process::ExitCode};

use anyhow::bail;
use lateen_cni_agent::{app, config::Config, rules::sysctl, verify};

fn main() -> anyhow::Result<ExitCode> {
    let config = Config::from_env()?;
    sysctl::mounted_below(&config.host_root);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match std::env::args_os().nth(1).as_deref().map(|word| word.to_str()) {
        None => {
            let log = lateen_telemetry::log::init(&config.log)?;
            let ended = runtime.block_on(app::run(config));
            drop(log);
            ended?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Some("verify")) => {
            let report = runtime.block_on(verify::run(&config))?;
            std::io::stdout().write_all(report.text.as_bytes())?;
            Ok(if report.fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some(_) => bail!("the only word is `verify`; everything else is set by environment variables"),
    }
}
