//! The operators' pages, over real connections.
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_telemetry::{admin::Limits, log};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::config::Vars;

const LOCAL: &str = r#"
workloads:
- {uid: b, name: b, namespace: ns, workloadIps: ["10.0.0.2"], protocol: TCP, services: {"ns/gone.example": {80: 80}}}
- uid: a
  name: a
  namespace: ns
  workloadIps: ["10.0.0.1", "2001::1"]
  protocol: HBONE
  waypoint: {destination: "ns/wp.example", hboneMtlsPort: 15008}
  authorizationPolicies: [ns/p]
  locality: {region: r}
  services: {"ns/web.example": {80: 8080}}
services:
- name: web
  namespace: ns
  hostname: web.example
  vips: ["/10.9.0.1"]
  cidrVips: [{network: "", cidr: 240.1.0.0/16}]
  ports: {80: 8080}
  loadBalancer: {routingPreferences: [Network], mode: Failover}
policies:
- {name: p, namespace: ns, scope: WorkloadSelector, action: Deny, dryRun: false,
   rules: [[[{principals: [!Presence []], namespaces: [!Exact x], destinationPorts: [80], sourceIps: [10.0.0.0/8]}]]]}
"#;

fn sources(level: Level) -> Sources {
    let vars = Vars::new(&[("LOCAL_XDS", LOCAL), ("NODE_NAME", "n1"), ("AUTH_TOKEN", "secret-token")]);
    let store = WorldStore::new(None);
    store.apply(crate::local::parse(LOCAL).expect("valid"));
    let pod = PodView {
        uid: "u1".into(),
        is_up: true,
        name: "a".into(),
        namespace: "ns".into(),
        service_account: "default".into(),
        inbound: vec![connections::ConnectionView {
            src: "10.0.0.2:1000".parse().expect("valid"),
            original_dst: Some("10.9.0.1:80".into()),
            actual_dst: "10.0.0.1:8080".parse().expect("valid"),
            protocol: "HBONE",
        }],
        outbound: Vec::new(),
    };
    Sources {
        config: Arc::new(Config::from_vars(&vars, None, 4).expect("valid")),
        store: store.clone(),
        local: store.clone(),
        keeper: None,
        pods: Some(Arc::new(move || vec![pod.clone()])),
        level,
        shutdown: Arc::new(|| {}),
    }
}

async fn ask(addr: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("writes");
    let mut text = String::new();
    let reading = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("in time").expect("reads");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.split_whitespace().nth(1).expect("a status").to_owned(), body.to_owned())
}

/// One test, because the log can be set up once per process.
#[tokio::test]
async fn operators_see_and_steer() {
    let log = log::init(&log::Config::default()).expect("the first in this process");
    let (tasks, drain) = (Tasks::new(), Drain::new());
    let ended = Drain::new();
    let ends = ended.clone();
    let sources = Sources { shutdown: Arc::new(move || ends.start()), ..sources(log.level()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let router = sources.admin_router();
    tasks.spawn("admin", admin::serve(listener, router, Limits::default(), (tasks.clone(), drain.clone())));

    let (status, body) = ask(addr, "GET", "/config_dump").await;
    assert_eq!(status, "200");
    dump_has_the_known_keys(&serde_json::from_str(&body).expect("JSON"));
    assert!(!body.contains("secret-token"), "no token in a dump");

    assert!(ask(addr, "GET", "/").await.1.contains("config_dump"));
    assert_eq!(ask(addr, "GET", "/other").await.0, "404");

    let (status, body) = ask(addr, "POST", "/logging").await;
    assert_eq!((status.as_str(), body.as_str()), ("200", "current log level is info\n"));
    let (_, body) = ask(addr, "POST", "/logging?level=dns=debug,access=warn").await;
    assert_eq!(body, "current log level is info,dns=debug,access=warn\n");
    assert_eq!(ask(addr, "POST", "/logging?level=debug").await.1, "current log level is dns=debug,access=warn,debug\n");
    assert_eq!(ask(addr, "POST", "/logging?reset").await.1, "current log level is info\n");
    let (status, body) = ask(addr, "POST", "/logging?level=dns").await;
    assert!(status == "400" && body.contains("is not a level"), "{body}");
    assert_eq!(ask(addr, "GET", "/logging").await.0, "405");

    assert_eq!(ask(addr, "GET", "/quitquitquit").await.0, "405");
    assert!(!ended.is_draining());
    assert_eq!(ask(addr, "POST", "/quitquitquit").await.1, "shutdown now\n");
    assert!(ended.is_draining());

    drain.start();
    tasks.join(Duration::from_secs(20)).await.expect("listeners end with the drain");
}

fn dump_has_the_known_keys(dump: &Value) {
    let keys: BTreeSet<&str> = dump.as_object().expect("an object").keys().map(String::as_str).collect();
    let known = [
        "certificates",
        "config",
        "policies",
        "services",
        "stagedServices",
        "staticConfig",
        "version",
        "workloadState",
        "workloads",
    ];
    assert_eq!(keys, BTreeSet::from(known));
    let a = &dump["workloads"][0];
    assert_eq!((a["uid"].as_str(), a["protocol"].as_str()), (Some("a"), Some("HBONE")), "sorted by uid");
    assert_eq!(a["waypoint"]["destination"], "ns/wp.example");
    assert_eq!(a["workloadIps"], serde_json::json!(["10.0.0.1", "2001::1"]));
    assert_eq!(a["authorizationPolicies"], serde_json::json!(["ns/p"]));
    let web = &dump["services"][0];
    assert_eq!(web["vips"], serde_json::json!(["/10.9.0.1"]));
    assert_eq!(web["cidrVips"], serde_json::json!(["/240.1.0.0/16"]));
    assert_eq!(web["endpoints"]["a"]["port"]["80"], 8080);
    assert_eq!(web["loadBalancer"]["mode"], "Failover");
    let only = &dump["policies"][0]["rules"][0][0][0];
    assert_eq!(only["principals"], serde_json::json!([{ "Presence": [] }]));
    assert_eq!(only["namespaces"], serde_json::json!([{ "Exact": "x" }]));
    assert!(dump["stagedServices"]["ns/gone.example"]["b"].is_object());
    assert_eq!(dump["staticConfig"]["workloads"].as_array().map(Vec::len), Some(2));
    assert_eq!(dump["workloadState"]["u1"]["state"], "Up");
    let connection = &dump["workloadState"]["u1"]["connections"]["inbound"][0];
    assert_eq!(connection["originalDst"], "10.9.0.1:80");
    let config = &dump["config"];
    assert_eq!(config["illegalPorts"], serde_json::json!([15001, 15006, 15008]));
    assert_eq!(config["secretTtl"], serde_json::json!({ "secs": 86400, "nanos": 0 }));
    assert_eq!(config["adminAddr"], serde_json::json!({ "Localhost": [true, 15000] }));
}

#[test]
fn unstable_families_say_so() {
    let stable = [
        "istio_build",
        "istio_tcp_connections_opened",
        "istio_tcp_connections_closed",
        "istio_tcp_received_bytes",
        "istio_tcp_sent_bytes",
    ];
    for family in crate::catalogue::TABLE {
        let says_unstable = family.help.ends_with("(unstable)");
        assert_eq!(says_unstable, !stable.contains(&family.name), "{}", family.name);
    }
}
