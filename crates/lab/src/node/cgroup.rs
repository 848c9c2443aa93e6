//! What a container's control group would be called, for those who look for pods by it.
//!
//! Node agents find the network namespace of a pod that runs already by `/proc/<pid>/cgroup`. A lab makes no control
//! groups: an ordinary user may not, and they would outlive a lab that is killed. So this one file of a container's first
//! process is covered by another, which says what a kubelet would have made of it; the cover goes with the process.
//!
//! In: a process, and whose it is. Out: the cover. Absent on purpose: limits, and the processes the first one starts.

use std::path::Path;

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

/// Covers the file of process `pid` of `container`. `dir` is the pod's own.
pub(super) async fn cover(dir: &Path, pid: u32, (uid, container): (&str, &str)) -> anyhow::Result<()> {
    let file = dir.join(format!("{container}.cgroup"));
    tokio::fs::write(&file, text(uid, container)).await.with_context(|| format!("writing {}", file.display()))?;
    let (at, none) = (format!("/proc/{pid}/cgroup"), None::<&str>);
    mount(Some(&file), at.as_str(), none, MsFlags::MS_BIND, none).with_context(|| format!("covering {at}"))
}

/// In the words of the unified hierarchy. Readers take what follows the last punctuation for the container's id.
fn text(uid: &str, container: &str) -> String {
    let id: String = container.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("0::/kubepods/besteffort/pod{uid}/{id}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_pod_and_container() {
        let text = text("8d4a5c1e-1b2c-4d3e-9f00-a1b2c3d4e5f6", "istio-proxy-2");
        assert_eq!(text, "0::/kubepods/besteffort/pod8d4a5c1e-1b2c-4d3e-9f00-a1b2c3d4e5f6/istioproxy2\n");
    }
}
