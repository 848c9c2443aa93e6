//! `lateen`: the words people speak to the mesh and to the lab.
fn main() -> std::process::ExitCode {
    // First of all: the lab's inner processes are this same program, and must begin without threads.
    if let Some(code) = lateen_lab::verbs::dispatch() {
        return code;
    }
    lateen_cli::run()
}
