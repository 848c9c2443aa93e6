//! `lateen-bench`: measures the mesh beside no mesh and beside a peer, in one run.
fn main() -> std::process::ExitCode {
    // First of all: the labs' inner processes are this same program, and must begin without threads.
    if let Some(code) = lateen_lab::verbs::dispatch() {
        return code;
    }
    lateen_bench::run()
}
