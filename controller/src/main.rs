//! lateen-controller
fn main() {}
