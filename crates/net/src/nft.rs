//! The program `nft`, run inside a namespace.
//!
//! In: a namespace and rule text, or a table's name. Out: done, the table as nft prints it, or nft's complaint.
//! Absent on purpose: what the text says; each user plans its own.

use std::{io, process::Stdio, time::Duration};

use lateen_rt::deadline::{Elapsed, within};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::netns::{Netns, NetnsError};

/// A transaction takes milliseconds, but one that deletes has been seen to take 12 s to end on a busy node: the kernel
/// frees what was deleted before it lets the process go. A stuck one must not hold up its caller for ever.
const NFT_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of nft's complaint is told on.
const COMPLAINT_MAX: usize = 1024;

/// Why rules were not written or read.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The program does not start.
    #[error("cannot run nft: {0}; is the package nftables installed?")]
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

/// A table of family `inet` as nft prints it, without counters; `None` if it is not there.
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
    let pipe = child.stdin.take();
    // Written while the answer is read: nft may complain before it has read all, and neither side may wait for the other.
    let write = async {
        match pipe {
            Some(mut pipe) => pipe.write_all(stdin.as_bytes()).await,
            None => Ok(()),
        }
    };
    let talk = async { tokio::join!(write, child.wait_with_output()) };
    let (written, output) = within("running nft", NFT_TIMEOUT, talk).await?;
    let output = output.map_err(NftError::Talk)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(NftError::Refused(complaint.trim().chars().take(COMPLAINT_MAX).collect()));
    }
    written.map_err(NftError::Talk)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transaction_is_all_or_nothing_and_stays_in_its_namespace() {
        let (one, other) = (Netns::create().expect("create"), Netns::create().expect("create"));
        transaction(&one, "add table inet t\nadd chain inet t c\n").await.expect("rules");
        assert!(list(&one, "t").await.expect("list").expect("there").contains("chain c"));
        assert_eq!(list(&other, "t").await.expect("list"), None);

        let half = "add chain inet t d\nadd rule inet t nowhere accept\n";
        let refused = transaction(&one, half).await.expect_err("the second line names no chain");
        assert!(matches!(&refused, NftError::Refused(text) if text.contains("nowhere")), "{refused}");
        assert!(!list(&one, "t").await.expect("list").expect("there").contains("chain d"));
    }
}
