//! What is told of a connection.

use std::{hint::black_box, sync::Arc, time::Duration};

use lateen_rt::drain::Drain;
use lateen_telemetry::{
    access::{Direction, End, Record, Traffic},
    log::{Format, collect},
    metrics::Registry,
};
use lateen_ztunnel::{
    catalogue,
    report::{Opening, Party, Report, Security},
};
use tokio::time::Instant;

use super::Operation;
use crate::world;

pub(super) fn plain() -> Operation {
    telling(Format::Plain)
}

pub(super) fn json() -> Operation {
    telling(Format::Json)
}

fn telling(format: Format) -> Operation {
    let (subscriber, lines) = collect(format);
    let listening = tracing::subscriber::set_default(subscriber);
    let record = record();
    let traffic = Traffic { bytes_sent: 128, bytes_recv: 256, duration: Duration::from_millis(17) };
    let mut line = String::new();
    let mut tell = move || {
        black_box(&record).clone().complete(traffic, None);
        lines.take(&mut line);
        line.len()
    };
    assert!(tell() > 200, "a line is written");
    Box::new(move || {
        let _still = &listening;
        black_box(tell());
    })
}

/// As a client's ztunnel tells it.
fn record() -> Record {
    let end = |workload: &str| End {
        workload: Some(workload.into()),
        namespace: Some("shop".into()),
        identity: Some("spiffe://cluster.local/ns/shop/sa/web".parse().expect("an identity")),
        cluster: None,
        on_behalf_of: None,
    };
    Record {
        direction: Direction::Outbound,
        src_addr: "10.1.0.0:41022".parse().expect("an address"),
        src: end("pod-0"),
        dst_addr: Some("10.1.0.7:15008".parse().expect("an address")),
        hbone_addr: Some("10.1.0.7:8080".into()),
        service: Some("service-7.shop.svc.cluster.local".into()),
        dst: end("pod-7"),
    }
}

pub(super) fn report() -> Operation {
    let registry = Registry::new(catalogue::TABLE);
    registry.install().ok();
    let (world, drain) = (world::the(), Drain::new());
    let party = |at: u16| {
        let uid = format!("Kubernetes//Pod/shop/pod-{at}");
        let workload = world.workload(&uid.as_str().into()).expect("in the world");
        Party::workload(workload).proven(Some(workload.identity.clone()))
    };
    let (source, destination) = (party(0), party(7));
    let service = world.services().next().map(Arc::clone);
    Box::new(move || {
        let opening = Opening {
            direction: Direction::Outbound,
            client: world::server(),
            hop: Some(world::server()),
            authority: None,
            source: source.clone(),
            destination: destination.clone(),
            service: service.clone(),
            security: Security::MutualTls,
            began: Instant::now(),
        };
        Report::open(black_box(opening), &drain).complete();
    })
}
