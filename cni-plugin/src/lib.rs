//! lateen-cni-plugin
