//! A CONNECT's head, written and read.

use std::hint::black_box;

use http::Request;
use lateen_hbone::request::{Baggage, Connect, Forwarded, Received, TraceParent, WorkloadKind};

use super::Operation;

pub(super) fn encode() -> Operation {
    let connect = connect();
    assert!(connect.to_http().is_some(), "it can be said");
    Box::new(move || {
        black_box(black_box(&connect).to_http());
    })
}

pub(super) fn decode() -> Operation {
    let request: Request<()> = connect().to_http().expect("it can be said");
    assert!(Received::read(&request).is_ok_and(|read| read.host.is_some()), "it is read");
    Box::new(move || {
        black_box(Received::read(black_box(&request))).ok();
    })
}

/// As a ztunnel sends it for a call to a service.
pub(super) fn connect() -> Connect {
    Connect {
        authority: "10.1.2.3:8080".parse().expect("an authority"),
        baggage: baggage("web-7").to_header(),
        forwarded: Forwarded {
            client: "10.1.0.7:41022".parse().expect("an address"),
            host: Some("service-7.shop.svc.cluster.local".into()),
        },
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse::<TraceParent>().expect("valid"),
        network: None,
        client: None,
    }
}

/// With every field that workloads usually have.
pub(super) fn baggage(workload: &str) -> Baggage {
    Baggage {
        cluster: Some("Kubernetes".into()),
        namespace: Some("shop".into()),
        kind: WorkloadKind::Deployment,
        workload: Some(workload.into()),
        service: Some("web".into()),
        version: Some("v1".into()),
        region: Some("region-1".into()),
        zone: Some("zone-1".into()),
    }
}
