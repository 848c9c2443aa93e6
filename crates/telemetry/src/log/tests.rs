//! The lines an operator reads.
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::access::{Direction, End, Record, Traffic, denied};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` logs, without the time of each line.
fn logged(format: Format, work: impl FnOnce()) -> Vec<String> {
    let memory = Memory::default();
    let sink = memory.clone();
    let subscriber = tracing_subscriber::registry().with(Lines::new(format, move || sink.clone()));
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(memory.0.lock().expect("not poisoned").clone()).expect("utf-8");
    text.lines().map(str::to_owned).collect()
}

fn after_time(line: &str) -> &str {
    let (time, rest) = line.split_once('\t').expect("tabs");
    assert_eq!(time.len(), "2026-01-02T03:04:05.678901Z".len(), "{time}");
    assert!(time.ends_with('Z'), "{time}");
    rest
}

#[test]
fn plain_lines_are_tab_separated() {
    let lines = logged(Format::Plain, || {
        let outer = tracing::info_span!("proxy", wl = "ns/name").entered();
        let _inner = tracing::info_span!("outbound", id = %"abc").entered();
        tracing::info!(target: "lateen_ztunnel::outbound", count = 3, name = "x y", shown = %"plain", "hello");
        drop(outer);
        tracing::warn!(target: "other", "two\nlines");
    });
    assert_eq!(
        after_time(&lines[0]),
        "info\toutbound:proxy{wl=\"ns/name\"}:outbound{id=abc}\thello\tcount=3 name=\"x y\" shown=plain"
    );
    assert!(lines[1].ends_with("\ttwo\\nlines"), "{}", lines[1]);
}

#[test]
fn json_lines_keep_their_order() {
    let lines = logged(Format::Json, || {
        let _span = tracing::info_span!("xds", id = 7).entered();
        tracing::error!(target: "xds::client", ok = false, why = "a\"b", "gone");
    });
    let json: serde_json::Value = serde_json::from_str(&lines[0]).expect("json");
    assert!(lines[0].starts_with("{\"level\":\"error\",\"time\":\""), "{}", lines[0]);
    let rest = "\"scope\":\"xds::client\",\"message\":\"gone\",\"ok\":false,\"why\":\"a\\\"b\",\"xds\":{\"id\":7}}";
    assert!(lines[0].ends_with(rest), "{}", lines[0]);
    assert_eq!(json["xds"]["id"], 7);
}

#[test]
fn the_access_record_has_the_reference_order() {
    let id = "spiffe://cluster.local/ns/default/sa/web".parse().expect("valid");
    let record = Record {
        direction: Direction::Outbound,
        src_addr: "127.0.0.1:54862".parse().expect("valid"),
        src: End { workload: Some("local".into()), namespace: Some("default".into()), ..End::default() },
        dst_addr: Some("127.0.0.2:15008".parse().expect("valid")),
        hbone_addr: Some("127.0.0.2:8080".into()),
        service: Some("s.default.svc.cluster.local".into()),
        dst: End { workload: Some("web".into()), namespace: Some("default".into()), identity: Some(id), cluster: None },
    };
    let traffic = Traffic { bytes_sent: 11, bytes_recv: 22, duration: Duration::from_millis(12) };
    let lines = logged(Format::Plain, || {
        record.opened();
        record.complete(traffic, None);
        record.complete(traffic, Some(&"http status: 401 Unauthorized"));
        denied(record.src_addr, record.src_addr, Direction::Inbound, &"no");
    });
    let ends = "src.addr=127.0.0.1:54862 src.workload=\"local\" src.namespace=\"default\" dst.addr=127.0.0.2:15008 \
                dst.hbone_addr=127.0.0.2:8080 dst.service=\"s.default.svc.cluster.local\" dst.workload=\"web\" \
                dst.namespace=\"default\" dst.identity=\"spiffe://cluster.local/ns/default/sa/web\" \
                direction=\"outbound\"";
    let done = "bytes_sent=11 bytes_recv=22 duration=\"12ms\"";
    assert_eq!(after_time(&lines[0]), format!("debug\taccess\tconnection opened\t{ends}"));
    assert_eq!(after_time(&lines[1]), format!("info\taccess\tconnection complete\t{ends} {done}"));
    let failed = format!("error\taccess\tconnection complete\t{ends} {done} error=\"http status: 401 Unauthorized\"");
    assert_eq!(after_time(&lines[2]), failed);
    let early = "warn\taccess\tconnection failed\tsrc.addr=127.0.0.1:54862 dst.addr=127.0.0.1:54862 \
                 direction=\"inbound\" error=\"no\"";
    assert_eq!(after_time(&lines[3]), early);
}

#[test]
fn levels_are_checked_and_replaced() {
    assert!(check("debug").is_ok() && check("dns=debug,access=off").is_ok());
    for bad in ["", "dns", "dns=", "=debug", "dns=loud", "debug,,info"] {
        assert!(check(bad).is_err(), "{bad:?} was accepted");
    }
    assert_eq!(shortened("info,dns=debug,warn,dns=trace"), "warn,dns=trace");
    assert!(parse("info,ztunnel::outbound=debug").expect("valid").to_string().contains("lateen_ztunnel::outbound"));
}
