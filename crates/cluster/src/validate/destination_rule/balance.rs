//! How endpoints are chosen: D11, D12, D18.

use super::hash;
use crate::validate::{
    at::{At, Report},
    duration::{self, Least},
    field,
};

pub(super) fn check(balancer: &At<'_>, report: &mut Report) {
    field::alternatives(balancer, &["simple", "consistentHash"], report);
    if let Some(by_hash) = balancer.get("consistentHash") {
        hash::check(&by_hash, report);
    }
    field::alternatives(balancer, &["localityLbSetting", "zoneAwareLbSetting"], report);
    if let Some(setting) = balancer.get("localityLbSetting") {
        field::alternatives(&setting, &["distribute", "failover"], report);
        distribute(&setting, report);
        failover(&setting, report);
    }
    if let Some(setting) = balancer.get("zoneAwareLbSetting") {
        failover(&setting, report);
    }
    if let Some(warmup) = balancer.get("warmup") {
        if !warmup.has("duration") {
            report.error(warmup.field("duration"), "it does not say how long", "write for example 30s");
        }
        duration::check(&warmup, "duration", Least::Millisecond, report);
        field::share(&warmup, "minimumPercent", report);
        if let Some(given) = warmup.get("aggression").filter(|given| given.value.as_f64().is_some_and(|it| it <= 0.0)) {
            report.error(&given.path, format!("{} is not above 0", given.value), "write 1.0 for a straight line");
        }
    }
    duration::check(balancer, "warmupDurationSecs", Least::Millisecond, report);
}

fn distribute(setting: &At<'_>, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for one in field::entries(setting, "distribute", "entry", report) {
        let from = one.text("from");
        if from.is_empty() {
            report.error(one.field("from"), "it does not say from where", "write <region>/<zone>/*, or *");
        }
        if let Some(other) = seen.iter().find(|other| overlap(other, from)) {
            let reason = format!("{from:?} and {other:?} have localities in common");
            report.error(one.field("from"), reason, "write each locality once");
        }
        seen.push(from);
        let shares = one.get("to").map(|to| to.members()).unwrap_or_default();
        let mut sum: i64 = 0;
        for (_, share) in &shares {
            let share_of = share.value.as_i64().unwrap_or_default();
            if !(1..=100).contains(&share_of) {
                let reason = format!("{} is not a share", share.value);
                report.error(&share.path, reason, "write a whole number from 1 to 100");
            }
            sum = sum.saturating_add(share_of);
        }
        if sum != 100 {
            report.error(one.field("to"), format!("its shares are {sum} together"), "let them be 100");
        }
    }
}

/// Whether two patterns of localities have one in common.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("*"), _) | (_, Some("*")) | (None, _) | (_, None) => return true,
            (Some(one), Some(other)) if one != other => return false,
            (Some(_), Some(_)) => {}
        }
    }
}

fn failover(setting: &At<'_>, report: &mut Report) {
    let region = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    for one in field::entries(setting, "failover", "entry", report) {
        let (from, to) = (one.text("from"), one.text("to"));
        if from == to {
            report.error(one.field("to"), format!("{to:?} is where it fails over from"), "write another region");
        } else if region(from) == region(to) {
            let reason = format!("{from:?} and {to:?} are of one region");
            report.error(one.field("to"), reason, "write another region; within one, zones fail over by themselves");
        } else if to.contains('*') {
            report.error(one.field("to"), format!("{to:?} is not one region"), "write the name of one");
        }
    }
}
