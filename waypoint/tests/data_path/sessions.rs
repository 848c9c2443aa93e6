//! Clients that stay with their endpoints.

use lateen_waypoint::book::{Kind, compile};
use lateen_wire::{proxy, workload};
use prost::Message as _;

use super::{
    endpoints,
    rig::{OTHER_PORT, PORT, Rig, Service, endpoint, forward, upstream},
};

const KEY: &str = "shop/w/sessions";

fn session() -> proxy::SessionPersistence {
    proxy::SessionPersistence {
        by: Some(proxy::session_persistence::By::Cookie("sid".into())),
        path: "/".into(),
        key: KEY.into(),
        ..Default::default()
    }
}

/// What seals sessions arrives.
fn give_key(rig: &Rig) {
    let key = proxy::Credential { secret: vec![7; 32], ..Default::default() };
    let change = compile::resource(Kind::Credential, &KEY.into(), &key.encode_to_vec()).expect("a key");
    rig.shared.book.apply([change]);
}

/// What came back.
struct Answer {
    /// The number of the endpoint.
    body: String,
    /// The share, where shares say so.
    side: Option<String>,
    /// The cookie that was set.
    cookie: Option<String>,
}

async fn ask(rig: &Rig, cookie: Option<&str>) -> Answer {
    let cookie = cookie.map(|text| format!("cookie: {text}\r\n")).unwrap_or_default();
    let request = format!("GET / HTTP/1.1\r\nhost: echo\r\n{cookie}connection: close\r\n\r\n");
    let answer = rig.exchange(request.as_bytes()).await;
    let header = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name));
    Answer {
        body: answer.rsplit("\r\n").next().unwrap_or_default().to_owned(),
        side: header("x-side: ").map(str::to_owned),
        cookie: header("set-cookie: ").and_then(|line| line.split(';').next()).map(str::to_owned),
    }
}

/// Endpoints that answer with their number.
async fn numbered(rig: &Rig, count: usize) -> Vec<std::net::SocketAddr> {
    let mut all = Vec::new();
    for number in 0..count {
        all.push(endpoints::saying(rig, number.to_string()).await.addr);
    }
    all
}

#[tokio::test]
async fn a_client_stays_with_its_endpoint_until_that_is_gone() {
    let routes = vec![forward(proxy::Forward { session: Some(session()), ..Default::default() })];
    let rig = Rig::serving(Service { routes, ..Service::default() }, &[]);
    let all = numbered(&rig, 4).await;
    rig.endpoints(&all);
    let refused = rig.exchange(b"GET / HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "no key, no way to stay: {refused}");
    give_key(&rig);
    let first = ask(&rig, None).await;
    let cookie = first.cookie.expect("a cookie");
    for _ in 0..20 {
        let again = ask(&rig, Some(&cookie)).await;
        assert_eq!((again.body, again.cookie), (first.body.clone(), None), "the same, and nothing new to remember");
    }
    // A token of somebody else's making is none.
    assert!(ask(&rig, Some("sid=\"AAAA\"")).await.cookie.is_some());
    let at: usize = first.body.parse().expect("a number");
    let rest: Vec<_> = all.iter().enumerate().filter(|(number, _)| *number != at).map(|(_, addr)| *addr).collect();
    rig.endpoints(&rest);
    let second = ask(&rig, Some(&cookie)).await;
    let moved = second.cookie.expect("a new cookie");
    assert_ne!(second.body, first.body);
    let third = ask(&rig, Some(&moved)).await;
    assert_eq!((third.body, third.cookie), (second.body, None));
}

/// Weights are of new sessions: who has one stays on its side.
#[tokio::test]
async fn a_client_stays_with_its_share() {
    let share = |port: u16, tag: &str| {
        let to = proxy::weighted::To::Upstream(proxy::Upstream { port: port.into(), ..upstream() });
        let tag = proxy::Header { name: "x-side".into(), value: tag.into(), literal: true };
        let response_headers = Some(proxy::HeaderEdits { set: vec![tag], ..Default::default() });
        proxy::Weighted { weight: 1, to: Some(to), response_headers, ..Default::default() }
    };
    let destinations = vec![share(PORT, "one"), share(OTHER_PORT, "two")];
    let forward = proxy::Forward { destinations, session: Some(session()), ..Default::default() };
    let action = proxy::http_route::Action::Forward(forward);
    let routes = vec![proxy::HttpRoute { action: Some(action), ..Default::default() }];
    let cluster = |port: u16| proxy::Cluster {
        port: port.into(),
        protocol: proxy::Protocol::Http.into(),
        policy: Some(Default::default()),
        ..Default::default()
    };
    let rig =
        Rig::serving(Service { routes, clusters: [PORT, OTHER_PORT].map(cluster).into(), ..Service::default() }, &[]);
    give_key(&rig);
    let both = numbered(&rig, 2).await.into_iter().map(|addr| {
        let mut workload = endpoint(addr);
        for list in workload.services.values_mut() {
            let target_port = addr.port().into();
            list.ports.push(workload::Port { service_port: OTHER_PORT.into(), target_port, app_protocol: 0 });
        }
        workload
    });
    rig.workloads(both.collect());
    let first = ask(&rig, None).await;
    let cookie = first.cookie.expect("a cookie");
    for _ in 0..20 {
        let again = ask(&rig, Some(&cookie)).await;
        assert_eq!((again.side, again.body, again.cookie), (first.side.clone(), first.body.clone(), None));
    }
}
