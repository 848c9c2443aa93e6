//! The network namespace of a running pod that the plugin did not tell us of.
//!
//! In: a pod's UID and addresses. Out: its namespace and where it was found. Two ways: the runtime's directory of named
//! namespaces, and the processes whose control group names the pod. A namespace must own one of the pod's addresses,
//! and must not be the node's.

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use lateen_net::netns::{Netns, NetnsId};
use lateen_types::name::PodUid;

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The namespace.
    pub netns: Netns,
    /// Where.
    pub path: PathBuf,
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct Finder {
    node: NetnsId,
    host_root: PathBuf,
}

/// A directory of namespaces or processes is not read further than this.
const LOOKED_AT_MAX: usize = 100_000;

impl Finder {
    /// For the node with this namespace. `host_root` is where its files are mounted; where that is absent, they are ours.
    pub fn new(node: NetnsId, host_root: &Path) -> Self {
        Self { node, host_root: host_root.to_owned() }
    }

    /// Opens the path the runtime gave the plugin, which is the node's path.
    pub fn open(&self, given: &Path) -> Option<Found> {
        let below = given.strip_prefix("/").unwrap_or(given);
        [self.host_root.join(below), given.to_owned()].into_iter().find_map(|path| self.open_at(path))
    }

    /// Looks for the namespace of a pod. Reads many small files, so not for the async threads.
    pub fn find(&self, uid: &PodUid, ips: &[IpAddr]) -> Option<Found> {
        if ips.is_empty() {
            return None;
        }
        let owner = |found: &Found| owns(&found.netns, ips);
        let mut seen = HashSet::from([self.node]);
        let named = self.named().into_iter().filter_map(|path| self.open_at(path));
        if let Some(found) = named.filter(|found| seen.insert(found.netns.id())).find(owner) {
            return Some(found);
        }
        let processes = self.processes(uid).into_iter().filter_map(|path| self.open_at(path));
        processes.filter(|found| seen.insert(found.netns.id())).find(owner)
    }

    fn open_at(&self, path: PathBuf) -> Option<Found> {
        let netns = Netns::open(&path).ok()?;
        (netns.id() != self.node).then_some(Found { netns, path })
    }

    /// The runtime's named namespaces.
    fn named(&self) -> Vec<PathBuf> {
        let directories = [self.host_root.join("var/run/netns"), "/var/run/netns".into()];
        let found = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
        found.take(LOOKED_AT_MAX).filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// The namespaces of the pod's processes, the oldest process first.
    fn processes(&self, uid: &PodUid) -> Vec<PathBuf> {
        let mounted = self.host_root.join("proc");
        let proc = if mounted.join("self").exists() { mounted } else { "/proc".into() };
        let Ok(entries) = std::fs::read_dir(&proc) else { return Vec::new() };
        let numbers = entries.take(LOOKED_AT_MAX).filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let of_pod = |pid: &u32| {
            std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup"))
                .is_ok_and(|cgroup| names_pod(&cgroup, uid.as_str()))
        };
        let mut started: Vec<(u64, u32)> =
            numbers.filter(of_pod).map(|pid| (start_of(&proc, pid).unwrap_or(u64::MAX), pid)).collect();
        started.sort_unstable();
        started.into_iter().map(|(_, pid)| proc.join(pid.to_string()).join("ns/net")).collect()
    }
}

/// Whether a control group path is one of the pod's. Runtimes write the UID with `-` or, under systemd, with `_`.
fn names_pod(cgroup: &str, uid: &str) -> bool {
    if uid.is_empty() {
        return false;
    }
    let systemd = uid.replace('-', "_");
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
        path.split('/').any(|part| {
            let pod = part.strip_suffix(".slice").unwrap_or(part);
            let after = pod.rsplit_once("pod").map_or("", |(_, after)| after);
            after == uid || after == systemd
        })
    })
}

/// Field 22 of proc_pid_stat(5), counted from behind the name, which may hold anything.
fn start_of(proc: &Path, pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether any interface in the namespace has one of these addresses.
pub fn owns(netns: &Netns, ips: &[IpAddr]) -> bool {
    let Ok(Ok(addresses)) = netns.run(nix::ifaddrs::getifaddrs) else { return false };
    let ip_of = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    addresses.filter_map(|one| one.address.and_then(ip_of)).any(|ip| ips.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_every_runtime_name_their_pod() {
        let uid = "8d4a5c1e-1b2c-4d3e-9f00-a1b2c3d4e5f6";
        for path in [
            "0::/kubepods/besteffort/pod8d4a5c1e-1b2c-4d3e-9f00-a1b2c3d4e5f6/abc\n",
            "12:pids:/kubepods/burstable/pod8d4a5c1e-1b2c-4d3e-9f00-a1b2c3d4e5f6/abc",
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod8d4a5c1e_1b2c_4d3e_9f00_a1b2c3d4e5f6.slice/cri-containerd-abc.scope",
            "0::/kubepods.slice/kubepods-pod8d4a5c1e_1b2c_4d3e_9f00_a1b2c3d4e5f6.slice/crio-abc.scope",
        ] {
            assert!(names_pod(path, uid), "{path}");
        }
        for path in ["0::/", "", "0::/system.slice/sshd.service", "0::/kubepods/pod8d4a5c1e-other/abc"] {
            assert!(!names_pod(path, uid), "{path}");
        }
        assert!(!names_pod("0::/kubepods/pod/abc", ""));
    }

    #[test]
    fn a_named_namespace_is_found_by_its_address_and_no_other() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("var/run/netns");
        std::fs::create_dir_all(&directory).expect("made");
        let (node, pod) = (Netns::create().expect("made"), Netns::create().expect("made"));
        pod.loopback_up().expect("up");
        std::fs::write(directory.join("0-not-a-namespace"), "").expect("written");
        let fd = |netns: &Netns| {
            use std::os::fd::{AsFd as _, AsRawFd as _};
            format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd())
        };
        std::os::unix::fs::symlink(fd(&node), directory.join("1-node")).expect("linked");
        std::os::unix::fs::symlink(fd(&pod), directory.join("2-pod")).expect("linked");
        let finder = Finder::new(node.id(), root.path());
        let uid = PodUid::from("u1");
        let found = finder.find(&uid, &["127.0.0.1".parse().expect("valid")]).expect("the pod's");
        assert_eq!(found.netns.id(), pod.id());
        assert!(finder.find(&uid, &["10.0.0.5".parse().expect("valid")]).is_none());
        assert!(finder.find(&uid, &[]).is_none());
        assert!(finder.open(Path::new("/var/run/netns/1-node")).is_none(), "the node's own is refused");
        assert_eq!(finder.open(Path::new("/var/run/netns/2-pod")).expect("opens").netns.id(), pod.id());
    }
}
