//! The node agent: enrols this node's pods into the mesh, and takes them out again.
//!
//! In: the CNI plugin's questions, the cluster's pods and namespaces. Out: rules in pods' network namespaces, the pods
//! ztunnel serves, the redirection annotation. Absent on purpose: traffic (ztunnel carries it) and the API of the mesh.

pub mod rules;
