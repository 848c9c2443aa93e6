//! `lateen waypoint list` and `status`.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use lateen_cluster::labels;
use tokio::time::Instant;

use super::cluster::{Cluster, Found};
use crate::{output, table::Table};

/// How often a status is looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn list(cluster: &Cluster, everywhere: bool) -> anyhow::Result<ExitCode> {
    let found = cluster.waypoints(everywhere).await?;
    if found.is_empty() {
        return none(cluster, everywhere);
    }
    let own = |waypoint: &Found| {
        [
            waypoint.name.clone(),
            waypoint.label(labels::REVISION).unwrap_or("default").to_owned(),
            waypoint.label(labels::WAYPOINT_FOR).unwrap_or("service").to_owned(),
            waypoint.condition("Programmed").unwrap_or("Unknown").to_owned(),
        ]
    };
    let mut table = Table::new(if everywhere { &WIDE[..] } else { &WIDE[1..] });
    for waypoint in &found {
        let [name, revision, traffic, programmed] = own(waypoint);
        match everywhere {
            true => table.row([waypoint.namespace.clone(), name, revision, traffic, programmed]),
            false => table.row([name, revision, traffic, programmed]),
        }
    }
    output::text(table)?;
    Ok(ExitCode::SUCCESS)
}

const WIDE: [&str; 5] = ["NAMESPACE", "NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"];

fn none(cluster: &Cluster, everywhere: bool) -> anyhow::Result<ExitCode> {
    let place = if everywhere { "any namespace".to_owned() } else { format!("namespace {}", cluster.namespace) };
    output::line(format_args!("No waypoints found in {place}."))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn status(cluster: &Cluster, everywhere: bool, wait: Option<Duration>) -> anyhow::Result<ExitCode> {
    let end = wait.map(|wait| Instant::now() + wait);
    loop {
        let found = cluster.waypoints(everywhere).await?;
        if found.is_empty() {
            return none(cluster, everywhere);
        }
        let late: Vec<&Found> = found.iter().filter(|one| one.condition("Programmed") != Some("True")).collect();
        let is_over = end.is_none_or(|end| Instant::now() >= end);
        if late.is_empty() || is_over {
            output::text(conditions(&found, everywhere))?;
            if !late.is_empty() && wait.is_some() {
                bail!("not programmed in time: {}", late.iter().map(|one| said(one)).collect::<Vec<_>>().join("; "));
            }
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Where a waypoint is, and the last word on it.
pub(super) fn said(waypoint: &Found) -> String {
    let programmed = waypoint.conditions().iter().find(|one| one["type"] == "Programmed");
    let text = |field: &str| programmed.and_then(|one| one[field].as_str()).unwrap_or_default();
    match (text("reason"), text("message")) {
        ("", _) => format!(
            "{}/{}: nobody has said anything of it; is the controller running?",
            waypoint.namespace, waypoint.name
        ),
        (reason, message) => format!("{}/{}: {reason}: {message}", waypoint.namespace, waypoint.name),
    }
}

fn conditions(found: &[Found], everywhere: bool) -> Table {
    const WIDE: [&str; 6] = ["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"];
    let mut table = Table::new(if everywhere { &WIDE[..] } else { &WIDE[1..] });
    for waypoint in found {
        for condition in waypoint.conditions() {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let [status, kind, reason, message] = ["status", "type", "reason", "message"].map(text);
            match everywhere {
                true => table.row([waypoint.namespace.clone(), waypoint.name.clone(), status, kind, reason, message]),
                false => table.row([waypoint.name.clone(), status, kind, reason, message]),
            }
        }
    }
    table
}
