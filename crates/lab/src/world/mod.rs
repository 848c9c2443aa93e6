//! The lab's outer life: starting, finding, entering and ending it.
//!
//! In: a configuration, or the name of a lab. Out: a running process tree in its own namespaces.

pub mod capture;
pub mod enter;
pub(crate) mod init;
pub(crate) mod mesh;
pub(crate) mod podlogs;
pub(crate) mod rootfs;
pub(crate) mod run;
pub(crate) mod session;
pub mod state;
pub mod up;

/// Where the id (in the lab) of each node's first process is noted, seen from inside the lab.
pub(crate) fn noted_nodes() -> std::path::PathBuf {
    std::path::Path::new(init::SHARED).join("state/nodes")
}

/// Where nodes note, seen from inside the lab, which process is which container's: `<namespace>/<pod>/<container>`.
pub(crate) fn noted_containers() -> std::path::PathBuf {
    std::path::Path::new(init::SHARED).join("state/containers")
}
