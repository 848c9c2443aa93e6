//! The kernel's settings of a network namespace, as files.
//!
//! In: a setting below `/proc/sys/net`, where the node's `/proc` is mounted. Out: a path. Whoever opens it sees the settings of
//! the namespace their thread is in, wherever it is mounted.
//! A container's own `/proc/sys` can only be read, unless it is privileged; so an agent in a container is given the node's
//! `/proc/sys/net` beside it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

const OWN: &str = "/proc/sys/net";

/// Set once, at the start: where a process finds its files is as fixed as the process.
static MOUNTED: OnceLock<PathBuf> = OnceLock::new();

/// From now on, settings are those below `host_root`, if they are mounted there.
pub fn mounted_below(host_root: &Path) {
    if let Some(given) = given(host_root) {
        // Said twice, it is the same place.
        let _ = MOUNTED.set(given);
    }
}

fn given(host_root: &Path) -> Option<PathBuf> {
    Some(host_root.join("proc/sys/net")).filter(|path| path.is_dir())
}

/// Where `setting` is, such as `ipv4/tcp_tw_reuse`.
pub fn file(setting: &str) -> PathBuf {
    MOUNTED.get().map_or(Path::new(OWN), PathBuf::as_path).join(setting)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lateen_net::netns::Netns;

    use super::*;

    #[test]
    fn the_nodes_files_show_the_threads_namespace_wherever_they_are() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(given(root.path()), None);
        fs::create_dir_all(root.path().join("proc/sys")).expect("made");
        std::os::unix::fs::symlink(OWN, root.path().join("proc/sys/net")).expect("linked");
        let file = given(root.path()).expect("there").join("ipv4/ip_local_reserved_ports");
        let (one, other) = (Netns::create().expect("made"), Netns::create().expect("made"));
        one.run(|| fs::write(&file, "15001")).expect("enter").expect("written");
        let read = |netns: &Netns| netns.run(|| fs::read_to_string(&file)).expect("enter").expect("read");
        assert_eq!((read(&one).trim(), read(&other).trim()), ("15001", ""));
    }
}
