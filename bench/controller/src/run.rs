//! A whole run: one cluster, one controller after the other.
//!
//! In: what was asked. Out: the table, and files. Everything started here ends here, also on a signal.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::Api,
    churn::Churn,
    config::{Ask, Run},
    fill,
    measure::{Bed, measure},
    output,
    rest::Rest,
    results::Results,
    table,
};

/// Measures, prints, writes.
pub(crate) fn run(asked: &Run) -> anyhow::Result<()> {
    asked.check()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = whole(asked) => done,
            _ = terminate.recv() => anyhow::bail!("interrupted"),
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

async fn whole(asked: &Run) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("lateen-bench-controller").tempdir().context("a directory")?;
    if let Some(logs) = &asked.logs {
        std::fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
    }
    let mut results = output::header(asked);
    let api = Api::start(directory.path()).await?;
    let (rest, size) = (Rest::new(&api.kubeconfig).await?, asked.size());
    println!("{} nodes, {} pods, {} services: filling the API server", size.nodes, size.pods, size.services);
    fill::fill(&rest, &size).await?;
    let tokens = fill::tokens(&rest, &size).await?;
    let mut churn = Churn::new(rest.clone(), size);
    let bed = Bed { asked, rest, kubeconfig: &api.kubeconfig, directory: directory.path(), tokens, api: api.pid()? };
    for subject in asked.programs() {
        // Istio's does not tell a proxy on demand of all that concerns it as we count; it would never be complete.
        for ask in asked.ask.iter().filter(|ask| !subject.is_peer || **ask == Ask::All) {
            let column = measure(&bed, &mut churn, (&subject, *ask)).await;
            results.columns.push(column.with_context(|| format!("{} ({})", subject.name, ask.word()))?);
            // What is there stays when a later one fails.
            output::keep(asked, &results)?;
        }
    }
    println!("\n{}", table::whole(&results));
    api.end().await?;
    complete(&results)
}

/// Fails where an acknowledgement never came.
fn complete(results: &Results) -> anyhow::Result<()> {
    for column in &results.columns {
        let churn = &column.churn;
        anyhow::ensure!(
            churn.heard == churn.expected,
            "{} ({}): {} of {} acknowledgements came; {} streams ended: {}",
            column.program,
            column.ask,
            churn.heard,
            churn.expected,
            column.failed_streams,
            column.failure
        );
    }
    Ok(())
}
