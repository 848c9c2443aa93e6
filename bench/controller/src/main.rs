//! `lateen-bench-controller`: what a crowd of nodes, pods and services costs the controller.
fn main() -> std::process::ExitCode {
    lateen_bench_controller::run()
}
