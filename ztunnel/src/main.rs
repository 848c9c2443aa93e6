//! lateen-ztunnel
fn main() {}
