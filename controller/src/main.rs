//! lateen-controller: the mesh's control plane.

use std::process::ExitCode;

use lateen_controller::{
    app::{self, Shown, Sockets},
    config::Config,
    names,
};
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_telemetry::{
    log,
    metrics::{self, Registry},
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the log has ended, or is what failed")]
            {
                // Each of our errors says what lies beneath it.
                eprintln!("lateen-controller: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let log = log::init(&config.log)?;
    let registry = Registry::new(&names::TABLE);
    registry.install()?;
    registry.collect_from(metrics::process_collector);
    // kube's TLS takes the process's provider.
    let _already_set = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shown = Shown { level: Some(log.level()), registry };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let drain = Drain::new();
        let signals = Tasks::new();
        signals.spawn("signals", until_signalled(drain.clone()));
        let sockets = Sockets::bind(&config).await?;
        app::run(config, sockets, shown, drain).await?;
        Ok(())
    })
}

async fn until_signalled(drain: Drain) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught; the process ends without draining when told to");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drain.start();
}
