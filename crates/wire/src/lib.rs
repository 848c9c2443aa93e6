//! The messages that cross a process border, generated from `proto/`.
//!
//! In: nothing. Out: plain message types, one module per protobuf package, and gRPC client and server shells.
//! Absent on purpose: meaning. `lateen-state` turns these into valid domain values; nobody behind that door sees them.

#![allow(
    clippy::large_enum_variant,
    reason = "messages are decoded, looked at once and dropped; boxing a variant would only add an allocation"
)]

// Generated code names its neighbours by package path, so the modules nest as the packages do.
/// Packages under `google`.
pub mod google {
    /// The status inside a NACK.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// Packages under `envoy`.
pub mod envoy {
    /// `envoy.config`.
    pub mod config {
        /// `envoy.config.core`.
        pub mod core {
            /// The node that opens a stream.
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    /// `envoy.service`.
    pub mod service {
        /// `envoy.service.discovery`.
        pub mod discovery {
            /// Delta ADS.
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
            }
        }
    }
}

pub use envoy::{config::core::v3 as core, service::discovery::v3 as discovery};
pub use google::rpc;

/// `istio.workload`: workloads and services.
pub mod workload {
    tonic::include_proto!("istio.workload");

    /// `istio.workload.zds`: which pods a ztunnel serves.
    pub mod zds {
        tonic::include_proto!("istio.workload.zds");
    }
}

/// `istio.security`: L4 authorization policies.
pub mod security {
    tonic::include_proto!("istio.security");
}

/// `istio.v1.auth`: certificate signing.
pub mod ca {
    tonic::include_proto!("istio.v1.auth");
}

/// `lateen.proxy`: what waypoints and gateways do.
pub mod proxy {
    tonic::include_proto!("lateen.proxy");
}

pub mod encoded;

/// The type URLs of the resources that travel in delta ADS.
pub mod type_url {
    /// Workloads and services.
    pub const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
    /// Workloads alone.
    pub const WORKLOAD: &str = "type.googleapis.com/istio.workload.Workload";
    /// L4 authorization policies.
    pub const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
    /// What TLS needs, only for proxies that may read it.
    pub const CREDENTIAL: &str = "type.googleapis.com/lateen.proxy.Credential";
    /// Authorization policies of waypoints and gateways.
    pub const POLICY: &str = "type.googleapis.com/lateen.proxy.Policy";
    /// How a proxy sends to a service.
    pub const DESTINATION: &str = "type.googleapis.com/lateen.proxy.Destination";
    /// How a waypoint serves a service.
    pub const SERVICE: &str = "type.googleapis.com/lateen.proxy.Service";
    /// A waypoint or gateway itself.
    pub const PROXY: &str = "type.googleapis.com/lateen.proxy.Proxy";
    /// The extension of a workload that carries the labels destination rules choose by.
    pub const LABELS: &str = "type.googleapis.com/lateen.proxy.Labels";
}
