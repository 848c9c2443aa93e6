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

impl Memory {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("utf-8");
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` logs through the log's own thread, which ends before the lines are looked at.
fn logged(format: Format, work: impl FnOnce()) -> Vec<String> {
    let memory = Memory::default();
    let writer = Writer::start(format, memory.clone()).expect("a thread");
    let subscriber = tracing_subscriber::registry().with(Lines(writer.queue()));
    tracing::subscriber::with_default(subscriber, work);
    drop(writer);
    memory.lines()
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
        dst: End {
            workload: Some("web".into()),
            namespace: Some("default".into()),
            identity: Some(id),
            ..End::default()
        },
    };
    let traffic = Traffic { bytes_sent: 11, bytes_recv: 22, duration: Duration::from_millis(12) };
    let lines = logged(Format::Plain, || {
        record.clone().opened();
        record.clone().complete(traffic, None);
        record.clone().complete(traffic, Some(&"http status: 401 Unauthorized"));
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

#[test]
fn text_is_quoted_as_rust_does_and_stays_on_its_line() {
    let texts = ["plain", "", "a\"b\\c", "tab\tfeed\nend", "ünï", "\u{7f}"];
    let lines = logged(Format::Plain, || {
        for text in texts {
            tracing::info!(target: "t", quoted = text, bare = %text, "m");
        }
    });
    for (text, line) in texts.iter().zip(&lines) {
        let bare = text.replace('\n', "\\n");
        assert_eq!(after_time(line), format!("info\tt\tm\tquoted={text:?} bare={bare}"));
    }
}

#[test]
fn json_text_is_escaped_as_json_wants_it() {
    let texts = ["plain", "", "a\"b\\c", "tab\tfeed\nend", "ünï", "\u{7f}\u{2028}", "\u{1}"];
    let lines = logged(Format::Json, || {
        for text in texts {
            tracing::info!(target: "t", quoted = text, bare = %text, number = 7, flag = true, "m");
        }
    });
    for (text, line) in texts.iter().zip(&lines) {
        let json: serde_json::Value = serde_json::from_str(line).expect("json");
        assert_eq!((json["quoted"].as_str(), json["bare"].as_str()), (Some(*text), Some(*text)));
        let written = serde_json::Value::from(*text);
        assert!(
            line.ends_with(&format!("\"quoted\":{written},\"bare\":{written},\"number\":7,\"flag\":true}}")),
            "{line}"
        );
    }
}

/// Many threads, more lines than the queue takes: all are there once the writer is gone, each thread's in its order.
#[test]
fn a_full_queue_loses_nothing_and_keeps_the_order() {
    const THREADS: usize = 4;
    const LINES: usize = 5_000;
    let memory = Memory::default();
    let writer = Writer::start(Format::Plain, memory.clone()).expect("a thread");
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(Lines(writer.queue())));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for line in 0..LINES {
                        tracing::info!(target: "t", "{thread} {line}");
                    }
                });
            });
        }
    });
    drop(writer);
    let lines = memory.lines();
    assert_eq!(lines.len(), THREADS * LINES);
    for thread in 0..THREADS {
        let prefix = format!("info\tt\t{thread} ");
        let mut own = lines.iter().filter_map(|line| after_time(line).strip_prefix(&prefix));
        assert!((0..LINES).all(|line| own.next() == Some(line.to_string().as_str())), "thread {thread}");
    }
}

/// The thread is gone (here because its output panics): who logs goes on, nobody waits for ever.
#[test]
fn a_dead_writer_holds_nobody_up() {
    struct Broken;
    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("on purpose");
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writer = Writer::start(Format::Plain, Broken).expect("a thread");
    let subscriber = tracing_subscriber::registry().with(Lines(writer.queue()));
    tracing::subscriber::with_default(subscriber, || {
        for line in 0..50_000 {
            tracing::info!(target: "t", line);
        }
    });
}
