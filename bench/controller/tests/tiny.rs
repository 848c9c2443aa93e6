//! A tiny crowd, to the end: counts, never times.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use lateen_bench_controller::results::{Column, Results};

const NODES: usize = 3;
const PODS: usize = 60;
const SERVICES: usize = 6;
const CHANGES: usize = 40;

/// The controller beside this program; building all programs of the workspace makes it.
fn controller() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_lateen-bench-controller"));
    let program = bench.with_file_name("lateen-controller");
    assert!(program.exists(), "there is no {}: cargo build --workspace --bins", program.display());
    program
}

fn measured() -> Results {
    let (out, ours) = (tempfile::tempdir().expect("a directory"), controller());
    let output = Command::new("timeout")
        .args(["-k", "5", "180", env!("CARGO_BIN_EXE_lateen-bench-controller"), "run"])
        .args(["--nodes", "3", "--pods", "60", "--services", "6", "--used", "2", "--churn", "20", "--seconds", "2"])
        .args([Path::new("--ours"), ours.as_path(), Path::new("--out"), out.path(), Path::new("--logs"), out.path()])
        .output()
        .expect("started");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let logs = ["ours.all.log", "ours.on-demand.log"].map(|log| std::fs::read_to_string(out.path().join(log)));
    assert!(output.status.success(), "{}\n{}\n{logs:?}", said(&output.stdout), said(&output.stderr));
    assert!(said(&output.stdout).contains("| CPU per change, ms |"), "{}", said(&output.stdout));
    Results::read(&out.path().join("controller.json")).expect("results")
}

fn check(column: &Column) {
    assert!(column.failed_streams == 0, "{column:?}");
    assert!(column.ready.memory.rss > 0 && column.churn.phase.memory.peak >= column.ready.memory.anonymous);
    assert_eq!(column.churn.changes, CHANGES);
    assert_eq!(column.churn.heard, column.churn.expected);
    // Nothing waits behind an answer that is out, so no change is told twice, and batches are fewer than changes.
    assert!(column.churn.batches.is_some_and(|batches| batches >= 1.0 && batches <= CHANGES as f64), "{column:?}");
}

#[test]
fn every_change_reaches_every_proxy_it_concerns_and_no_other() {
    let results = measured();
    let [all, on_demand] = &results.columns[..] else { panic!("{results:?}") };
    [all, on_demand].into_iter().for_each(check);
    // Pods, the proxies' own, services, and the cluster's own service.
    assert_eq!(all.full_resources, (PODS + NODES + SERVICES + 1) as f64);
    assert!(on_demand.full_resources < all.full_resources, "{on_demand:?}");
    let pairs = (CHANGES * NODES) as u64;
    assert_eq!(all.churn.expected, pairs);
    assert!(on_demand.churn.expected < pairs);
    // One resource for each change and proxy. On demand only those that are concerned are told.
    for column in [all, on_demand] {
        let (resources, expected) = (column.churn.resources, column.churn.expected);
        assert_eq!(resources, expected, "{}: {column:?}", column.ask);
    }
}
