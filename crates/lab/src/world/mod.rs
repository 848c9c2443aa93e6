//! The lab's outer life: starting, finding, entering and ending it.
//!
//! In: a configuration, or the name of a lab. Out: a running process tree in its own namespaces.

pub mod init;
pub mod rootfs;
pub mod run;
pub mod session;
pub mod state;
pub mod up;
