//! What is shipped: the images, and the manifests the charts render to.
//!
//! Absent on purpose: helm, which not every machine has; what needs it is in `charts`. And a cluster: whether the API
//! server takes the manifests, and whether the rights in them are enough, is seen there (`make test-cluster`).

mod images;
mod manifests;
mod values;
