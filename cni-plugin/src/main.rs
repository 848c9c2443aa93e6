//! lateen-cni-plugin
fn main() {}
