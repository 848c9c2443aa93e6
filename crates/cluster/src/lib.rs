//! lateen-cluster
