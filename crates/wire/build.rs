//! Compiles the `.proto` files beside this script; protox parses them, so no protoc binary is needed.
use std::{error::Error, path::Path};

const FILES: [&str; 7] =
    ["status.proto", "core.proto", "discovery.proto", "workload.proto", "authorization.proto", "zds.proto", "ca.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let dir = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(FILES, [dir])?;
    let mut config = prost_build::Config::new();
    // Maps in key order make the encoding deterministic: the controller compares encoded bytes.
    config.btree_map(["."]);
    config.bytes([".google.protobuf.Any"]);
    tonic_prost_build::configure().build_transport(false).compile_fds_with_config(set, config)?;
    serve_encoded();
    Ok(())
}

/// The discovery service once more, as a server whose responses hold resources that are encoded already (`src/encoded.rs`).
fn serve_encoded() {
    let method = tonic_build::manual::Method::builder()
        .name("delta_aggregated_resources")
        .route_name("DeltaAggregatedResources")
        .input_type("crate::discovery::DeltaDiscoveryRequest")
        .output_type("crate::encoded::Response")
        .codec_path("tonic_prost::ProstCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let service = tonic_build::manual::Service::builder()
        .name("AggregatedDiscoveryService")
        .package("envoy.service.discovery.v3")
        .method(method)
        .build();
    tonic_build::manual::Builder::new().build_client(false).build_transport(false).compile(&[service]);
}
