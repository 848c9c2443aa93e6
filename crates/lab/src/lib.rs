//! A whole Kubernetes cluster inside one process tree: namespaces for nodes and pods, programs for images.
//!
//! In: a [`config::LabConfig`]. Out: an API address and a kubeconfig; pods that really run.
//! Absent on purpose: container images, cgroups, and anything that would outlive the lab's first process.
//!
//! ```text
//! lateen lab up ─► session ─► init (PID 1: root directory, reaping) ─► run (API, fabric, controllers, DNS)
//!                                                                       └─► node 1..n (kubelet) ─► containers
//! ```
//! Each arrow is a re-execution of our own binary with a hidden verb (`verbs`), because namespaces are entered by a
//! whole, still single-threaded process.

pub mod books;
pub mod config;
pub mod controllers;
pub mod dns;
pub mod echo;
pub mod fabric;
pub mod followed;
pub mod node;
pub mod services;
pub mod verbs;
pub mod veth;
pub mod world;
