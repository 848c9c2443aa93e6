//! The program `nft`, run inside a namespace.
//!
//! In: a namespace, rule text or a question. Out: done, the answer, or nft's complaint.
//! Absent on purpose: what the text says.

use std::{io, process::Stdio, time::Duration};

use lateen_net::netns::{Netns, NetnsError};
use lateen_rt::deadline::{Elapsed, within};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// A transaction takes milliseconds, but one that deletes has been seen to take 12 s to end on a busy node: the kernel
/// frees what was deleted before it lets the process go. A stuck one must not hold up its pod for ever.
const NFT_TIMEOUT: Duration = Duration::from_secs(30);
/// What of nft's complaint is told on.
const COMPLAINT_MAX: usize = 1024;

/// Why rules were not written or read.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The program does not start.
    #[error("cannot run nft: {0}; is the package nftables installed in the agent's image?")]
    Start(#[source] io::Error),
    /// It was started, then lost.
    #[error("talking to nft: {0}")]
    Talk(#[source] io::Error),
    /// It hangs.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// It refused; nothing was changed.
    #[error("nft refused: {0}")]
    Refused(String),
}

/// Carries out `text` in one transaction: all of it or nothing.
pub async fn transaction(netns: &Netns, text: &str) -> Result<(), NftError> {
    run(netns, &["-f", "-"], text).await.map(|_| ())
}

/// A table as nft prints it, without counters; `None` if it is not there.
pub async fn list(netns: &Netns, table: &str) -> Result<Option<String>, NftError> {
    match run(netns, &["--stateless", "list", "table", "inet", table], "").await {
        Ok(text) => Ok(Some(text)),
        Err(NftError::Refused(complaint)) if complaint.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn run(netns: &Netns, args: &[&str], stdin: &str) -> Result<String, NftError> {
    let mut command = Command::new("nft");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // The new process inherits the namespace of the thread that forks, which is this one, inside the scope.
    let mut child = netns.run(|| command.spawn())?.map_err(NftError::Start)?;
    let talk = async {
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = within("running nft", NFT_TIMEOUT, talk).await?.map_err(NftError::Talk)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(complaint.trim().chars().take(COMPLAINT_MAX).collect()))
}
