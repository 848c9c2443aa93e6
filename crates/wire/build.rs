//! Compiles the `.proto` files beside this script; protox parses them, so no protoc binary is needed.
use std::{error::Error, path::Path};

const FILES: [&str; 8] = [
    "status.proto",
    "core.proto",
    "discovery.proto",
    "workload.proto",
    "authorization.proto",
    "zds.proto",
    "ca.proto",
    "proxy.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let dir = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(FILES, [dir])?;
    let mut config = prost_build::Config::new();
    // Maps in key order make the encoding deterministic: the controller compares encoded bytes.
    config.btree_map(["."]);
    config.bytes([".google.protobuf.Any"]);
    tonic_prost_build::configure().build_transport(false).compile_fds_with_config(set, config)?;
    Ok(())
}
