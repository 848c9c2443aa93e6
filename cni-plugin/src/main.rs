//! `lateen-cni`: reads one CNI command, answers it.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use lateen_cni_plugin::{config::Environment, run, run::STDIN_MAX};

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    // One byte more than allowed, so that a longer input is seen as such.
    let read = std::io::stdin().lock().take(STDIN_MAX as u64 + 1).read_to_end(&mut stdin);
    let answer = run::run(&Environment::read(), read.map(|_| stdin.as_slice()));
    let written = std::io::stdout().lock().write_all(answer.stdout.as_bytes());
    if written.is_ok() && answer.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
