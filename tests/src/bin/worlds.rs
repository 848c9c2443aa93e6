//! What a big mesh costs a ztunnel: `worlds PROGRAM [WORKLOADS [RESPONSE]]`, one JSON object on standard output.
//!
//! PROGRAM speaks ZDS and xDS; WORKLOADS (100000; 0: only the start) are told in responses of RESPONSE resources (5000; 0:
//! all in one).
//! Needs root for a namespace of its own.

use std::time::Duration;

use lateen_tests::harness::worlds::{Mesh, measure};

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command's answer belongs on standard output")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(program) = arguments.next() else { anyhow::bail!("usage: worlds PROGRAM [WORKLOADS [RESPONSE]]") };
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (workloads, response) = (number(100_000)?, number(5_000)?);
    let mesh = Mesh {
        program: program.into(),
        workloads,
        services: if workloads == 0 { 0 } else { (workloads / 50).max(1) },
        policies: if workloads == 0 { 0 } else { 200 },
        updates: if workloads == 0 { 0 } else { 1000 },
        response: if response == 0 { usize::MAX / 2 } else { response },
        settle: Duration::from_secs(if workloads == 0 { 0 } else { 12 }),
    };
    let cost = measure(&mesh).await;
    let report = serde_json::json!({
        "program": mesh.program,
        "workloads": workloads,
        "ready_seconds": cost.ready.as_secs_f64(),
        "idle_bytes": cost.idle,
        "settled_bytes": cost.settled,
        "peak_bytes": cost.peak,
        "load_seconds": cost.load.as_secs_f64(),
        "load_cpu_seconds": cost.load_cpu.as_secs_f64(),
        "update_cpu_microseconds": cost.update_cpu.as_secs_f64() * 1e6,
        "after_updates_bytes": cost.after_updates,
    });
    println!("{report}");
    Ok(())
}
