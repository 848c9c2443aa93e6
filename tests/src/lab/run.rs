//! A command in a pod that goes on beside the test.
//!
//! In: a command. Out: what it had printed when it ended. It is killed when nobody waits for it any more.

use std::process::{Child, Command, Stdio};

use super::printed;

/// How long it may take, whatever happens.
const RUN_SECONDS: &str = "400";

/// The command.
pub struct Run(Option<Child>);

impl Run {
    pub(super) fn begin(command: Command) -> Self {
        let mut bounded = Command::new("timeout");
        bounded.args(["-k", "1", RUN_SECONDS]).arg(command.get_program()).args(command.get_args());
        bounded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
        bounded.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(bounded.spawn().expect("started")))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| child.try_wait().expect("a child").is_some())
    }

    /// What it printed, or its complaint, once it has ended.
    pub fn finish(mut self) -> Result<String, String> {
        let child = self.0.take().expect("it is waited for once");
        printed(child.wait_with_output().expect("it ends"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
