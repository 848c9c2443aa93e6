//! An in-memory Kubernetes API server, good enough for unmodified `kubectl` and the `kube` crate.
//!
//! In: listeners and [`Options`]. Out: an [`ApiHandle`]; everything else goes over HTTPS.
//!
//! Absent on purpose:
//! - Authorization. Whoever is authenticated (admin token, service-account token) may do everything; access reviews say yes.
//! - Persistence. What it holds ends with it.
//! - Controllers and kubelets: the lab's. Here live only what users take for the API itself: namespaces, garbage collection,
//!   cluster IPs, defaults.
//! - Mutating webhooks, validating webhooks of deletions, and CEL (`x-kubernetes-validations`, `matchConditions`): stored,
//!   never evaluated.
//! - Protobuf answers (bodies are read in protobuf form), exec, attach, port-forward.

extern crate lateen_rt as rt;

mod admission;
mod api;
mod convert;
mod crd;
mod discovery;
mod gc;
mod http;
mod ipam;
mod names;
mod node_proxy;
mod object;
mod openapi;
mod ops;
mod patch;
mod protobuf;
mod registry;
mod resource;
mod schema;
mod seed;
mod selector;
mod server;
mod status;
mod store;
mod table;
mod tls;
mod token;
mod typed;
mod webhook;

pub use crate::{
    api::Options,
    ipam::{BadRange, Range},
    node_proxy::{LogQuery, LogStream, NodeError, NodeProxy},
    server::{ApiHandle, ApiServer, StartError},
};
