//! lateen-cli
fn main() {}
