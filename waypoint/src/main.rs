//! `waypoint`, the L7 proxy: reads its command and its environment, and runs the program in the library.

use lateen_waypoint::{app, config::Config};

const HELP: &str = "waypoint [proxy|version|help]\n\nproxy    run (the default); settings come from the environment\n\
                    version  print the version\nhelp     print this";

#[allow(clippy::print_stdout, reason = "a command's answer belongs on standard output")]
fn main() -> anyhow::Result<()> {
    let command = std::env::args().nth(1);
    match command.as_deref() {
        None | Some("proxy") => app::run(&Config::from_env()?),
        Some("version") => {
            println!("waypoint {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(unknown) => anyhow::bail!("unknown command {unknown:?}\n{HELP}"),
    }
}
