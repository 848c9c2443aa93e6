//! Sockets and the kernel: network namespaces, listening, dialling, original destinations, copying bytes, descriptors.
//!
//! In: addresses, options and namespaces. Out: connected and listening sockets, moved bytes, captured frames.
//! Absent on purpose: protocols above TCP and UDP, and every decision about where to connect.
//! This is the only crate with `unsafe`; each block is one system or library call that has no safe wrapper.

pub mod accept;
pub mod capture;
pub mod dial;
pub mod fdpass;
pub mod listen;
pub mod local;
pub mod netns;
pub mod nft;
pub mod options;
pub mod origdst;
pub mod splice;
pub mod trim;
pub mod unbegun;
mod watched;
