//! `lateen-load`: one end of a measured connection, server or client.
fn main() -> std::process::ExitCode {
    lateen_load::run()
}
