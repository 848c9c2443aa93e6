//! The mesh on genuine Kubernetes: on the test cluster (`make cluster-up`), or on any that `KUBECONFIG` names.
//!
//! In: a cluster whose nodes have our images. Out: it is what we say it is, with what was measured printed on the way.
//! Every test is ignored unless asked for (`make test-cluster`), and they run one at a time, in the order of their
//! names: they share the cluster's one mesh, which the first of them installs and the last removes.
//! Absent on purpose: our own Kubernetes client. What a test does is what a person would type.

mod app;
#[path = "../../../crates/cluster/src/validate/tests/cases.rs"]
mod cases;
mod driver;
mod install;
mod layer7;
mod life;
mod nodes;
mod policy;
mod rights;
#[path = "../../../crates/cluster/src/validate/tests/rows.rs"]
mod rows;
mod traffic;
mod uninstall;
mod wire;
