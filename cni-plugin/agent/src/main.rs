//! lateen-cni-agent
fn main() {}
