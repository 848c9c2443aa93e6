//! One plain function for each decoder that reads a stranger's bytes.
//!
//! In: bytes. Out: nothing; a panic is the finding. Beyond "does not panic" each says what must hold of what it read.
//! `cargo fuzz` runs them with coverage (see the programs beside this file), `tests/tests/fuzz_corpus.rs` runs them as
//! ordinary tests over the corpus and mutations of it.

use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderValue, Method, Request};
use lateen_cni_plugin::{
    args,
    config::{Environment, NetConf, spoken_version},
    door,
};
use lateen_hbone::request::{Authority, BAGGAGE, Baggage, Forwarded, Received, TraceParent};
use lateen_lab::dns::{
    answer::{Transport, answer},
    zone::Zone,
};
use lateen_state::{decode, index::Change, world::WorldStore};
use lateen_types::id::SpiffeId;
use lateen_ztunnel::{dns, enrol};

/// A decoder under test.
pub struct Target {
    /// As `cargo fuzz` and the corpus call it.
    pub name: &'static str,
    /// Reads the bytes.
    pub run: fn(&[u8]),
}

/// Every decoder.
pub const ALL: &[Target] = &[
    Target { name: "authority", run: authority },
    Target { name: "forwarded", run: forwarded },
    Target { name: "baggage", run: baggage },
    Target { name: "traceparent", run: traceparent },
    Target { name: "connect", run: connect },
    Target { name: "address", run: address },
    Target { name: "authorization", run: authorization },
    Target { name: "zds", run: zds },
    Target { name: "cni_stdin", run: cni_stdin },
    Target { name: "door_answer", run: door_answer },
    Target { name: "certificate", run: certificate },
    Target { name: "spiffe", run: spiffe },
    Target { name: "dns_query", run: dns_query },
];

/// What is printed is read back as the same.
fn round_trip<T: FromStr + fmt::Display + PartialEq + fmt::Debug>(bytes: &[u8]) {
    let Ok(Ok(value)) = std::str::from_utf8(bytes).map(str::parse::<T>) else { return };
    let printed = value.to_string();
    assert_eq!(printed.parse::<T>().ok(), Some(value), "{printed:?} is not read back");
}

/// `:authority` of a CONNECT.
pub fn authority(bytes: &[u8]) {
    round_trip::<Authority>(bytes);
}

/// `traceparent`.
pub fn traceparent(bytes: &[u8]) {
    round_trip::<TraceParent>(bytes);
}

/// A SPIFFE id in a certificate's SAN.
pub fn spiffe(bytes: &[u8]) {
    round_trip::<SpiffeId>(bytes);
}

/// `forwarded`: the host found is a part of the text.
pub fn forwarded(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(host) = Forwarded::host_in(text) {
        assert!(text.contains(host.as_str()), "{host} is not in {text:?}");
    }
}

/// `baggage`, one header per line: what is printed of it is read back as the same.
pub fn baggage(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(&BAGGAGE, value);
        }
    }
    let read = Baggage::from_headers(&headers);
    if let Some(printed) = read.to_header() {
        let mut again = HeaderMap::new();
        again.insert(&BAGGAGE, printed);
        let mut again = Baggage::from_headers(&again);
        // The kind says what `workload` is; without one it is not printed.
        if read.workload.is_none() {
            again.kind = read.kind;
        }
        assert_eq!(again, read);
    }
}

/// A CONNECT: the first line is the authority, further ones are headers.
pub fn connect(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let authority = lines.next().unwrap_or_default();
    let mut request = Request::builder().method(Method::CONNECT).uri(authority);
    for line in lines.take(16) {
        if let Some(at) = line.iter().position(|byte| *byte == b':') {
            request = request.header(&line[..at], &line[at + 1..]);
        }
    }
    if let Ok(request) = request.body(()) {
        // Refused or read; both are fine.
        drop(Received::read(&request));
    }
}

/// `istio.workload.Address`: what decodes can be put into a world and taken out again.
pub fn address(bytes: &[u8]) {
    if let Ok(change) = decode::address(bytes) {
        let name = match &change {
            Change::Workload(workload) => Some(workload.uid.to_string()),
            _ => None,
        };
        let store = WorldStore::new(None);
        store.apply([change]);
        if let Some(uid) = name {
            store.apply([Change::RemoveAddress(uid)]);
            assert_eq!(store.load().workloads().count(), 0, "a removed workload stays");
        }
    }
}

/// `istio.security.Authorization`: what decodes can decide.
pub fn authorization(bytes: &[u8]) {
    if let Ok(Change::Policy(policy)) = decode::policy(bytes) {
        let identity = "spiffe://cluster.local/ns/web/sa/front".parse().ok();
        for identity in [None, identity.as_ref()] {
            let facts = lateen_policy::decide::Facts {
                source: ([10, 0, 0, 1], 1).into(),
                destination: ([10, 0, 0, 2], 80).into(),
                identity,
                client: None,
            };
            let verdict = lateen_policy::decide::decide(&[&policy], &facts);
            let matched = lateen_policy::explain::explain(&[&policy], &facts).iter().any(|one| one.matched());
            let refused = verdict.refusal().is_some();
            let enforced = !policy.dry_run;
            let expected = match policy.action {
                lateen_policy::model::Action::Deny => enforced && matched,
                lateen_policy::model::Action::Allow => enforced && !matched,
            };
            assert_eq!(refused, expected, "{policy:?}");
        }
    }
}

/// A packet of the node agent; with and without a descriptor. At most one of the two is right.
pub fn zds(bytes: &[u8]) {
    let read = [true, false].map(|descriptor| enrol::message::request(bytes, descriptor).is_ok());
    assert_ne!(read, [true, true], "a request is right with a descriptor or without, never both");
}

/// What a container runtime writes to the plugin.
pub fn cni_stdin(bytes: &[u8]) {
    drop(NetConf::parse(bytes));
    spoken_version(bytes);
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", ""] {
        let text = |text: &str| Some(text.to_owned());
        let environment = Environment {
            command: text(command),
            container_id: text("c1"),
            netns: text("/run/netns/n1"),
            ifname: text("eth0"),
            args: text("K8S_POD_NAME=p;K8S_POD_NAMESPACE=ns"),
        };
        drop(args::Request::parse(&environment, bytes));
    }
}

/// What the agent answers at its door.
pub fn door_answer(bytes: &[u8]) {
    if let Some(answer) = door::parse_answer(bytes) {
        assert!((100..600).contains(&answer.status));
    }
}

/// A peer's certificate: the names in it.
pub fn certificate(bytes: &[u8]) {
    drop(lateen_identity::verify::spiffe_ids_of(&bytes.into()));
}

/// A query, at the pod's proxy and at the lab's server.
pub fn dns_query(bytes: &[u8]) {
    drop(dns::message::parse(bytes));
    let zone = Zone::of("cluster.local", std::iter::empty(), std::iter::empty());
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        if let Some(reply) = answer(bytes, Some(&zone), transport) {
            assert!(reply.len() <= limit, "{} bytes", reply.len());
            assert!(hickory_proto::op::Message::from_vec(&reply).is_ok(), "an answer nobody can read");
        }
    }
}
