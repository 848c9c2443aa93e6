//! A waypoint that says whom it calls for, and others that try to: what policies of the destination make of it.

use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Request, StatusCode};
use lateen_identity::handshake::{self, HANDSHAKE_TIMEOUT};
use lateen_tests::harness::{
    eventually,
    resources::{behind, from_principal, plain, pod, policy, service},
    rig::{Rig, WEB},
    traffic::{Manner, connect, serve},
};
use lateen_wire::{
    security::Action,
    type_url,
    workload::{Extension, GatewayAddress, NamespacedHostname, Service, Workload, gateway_address::Destination},
};
use tokio::time::timeout;

const WAYPOINT: &str = "waypoint.default.svc.cluster.local";
const AT: &str = "10.77.0.13";
const A: &str = "spiffe://cluster.local/ns/default/sa/a";
const B: &str = "spiffe://cluster.local/ns/default/sa/b";
const SA_A: &str = "cluster.local/ns/default/sa/a";
const SA_B: &str = "cluster.local/ns/default/sa/b";
const SOON: Duration = Duration::from_secs(20);

/// The service that `d` is behind, with the waypoint or without.
fn web(bound: bool) -> Service {
    let name = NamespacedHostname { namespace: "default".into(), hostname: WAYPOINT.into() };
    let gateway = GatewayAddress { destination: Some(Destination::Hostname(name)), hbone_mtls_port: 15008 };
    Service { waypoint: bound.then_some(gateway), ..service(WEB, &["10.96.0.10"], &[(80, 8080)]) }
}

/// `d`, which asks whom its waypoint calls for, or does not.
fn d(asks: bool) -> Workload {
    let extension = Extension { name: "lateen.client_identity".into(), config: None };
    let d = behind(pod("d", "node-2", &["10.77.0.21", "fd00:77::21"]), WEB);
    Workload { extensions: asks.then_some(extension).into_iter().collect(), ..d }
}

/// The pod `c`, of whom the control plane says this. It is no part of the mesh, so that it can write its tunnels itself.
fn c(account: &str, is_waypoint: bool) -> Workload {
    let c = Workload { service_account: account.into(), native_tunnel: true, ..pod("c", "node-1", &[AT]) };
    if is_waypoint { behind(c, WAYPOINT) } else { c }
}

/// `c` is the waypoint of `d`'s service, and believed.
async fn start() -> Rig {
    let rig = Rig::start().await;
    rig.control.services([service(WAYPOINT, &["10.96.0.99"], &[(15008, 15008)]), web(true)]);
    rig.control.workloads([c("waypoint", true), d(true)]);
    rig
}

/// A tunnel that was answered with 200.
struct Open(SendStream<Bytes>, RecvStream);

impl Open {
    /// Whether bytes still come back.
    async fn ping(&mut self) -> Result<(), h2::Error> {
        self.0.send_data(Bytes::from_static(b"ping"), false)?;
        let mut back = Vec::new();
        while back.len() < 4 {
            match timeout(SOON, self.1.data()).await.expect("an answer within 20 s") {
                Some(data) => back.extend_from_slice(&data?),
                None => return Err(h2::Reason::NO_ERROR.into()),
            }
        }
        assert_eq!(back, b"ping");
        Ok(())
    }

    async fn is_cut(&mut self) {
        let cut = async { while self.ping().await.is_ok() {} };
        timeout(SOON, cut).await.expect("it is cut");
    }
}

/// Asks `d`'s ztunnel for a tunnel, as `account`, saying that it is for `named`.
async fn ask(rig: &Rig, account: &str, named: &[&str]) -> Result<Open, StatusCode> {
    let stream = connect(&rig.c, "10.77.0.21:15008").await.expect("connected");
    let ours = rig.control.ca.leaf(&format!("spiffe://cluster.local/ns/default/sa/{account}"));
    let server = "spiffe://cluster.local/ns/default/sa/d".parse().expect("an identity");
    let secured = handshake::connect(stream, &ours, [server].into(), HANDSHAKE_TIMEOUT).await.expect("mutual TLS");
    let (sender, connection) = h2::client::handshake(secured.stream).await.expect("HTTP/2");
    rig.tasks.spawn("peer", async move { drop(connection.await) });
    let mut request = Request::connect("10.77.0.21:8080").body(()).expect("a request");
    for named in named {
        let value = HeaderValue::from_bytes(named.as_bytes()).expect("no control characters");
        request.headers_mut().append("x-lateen-client-identity", value);
    }
    let (response, send) = sender.ready().await.expect("ready").send_request(request, false).expect("sent");
    let response = timeout(SOON, response).await.expect("an answer within 20 s").expect("an answer");
    match response.status() {
        StatusCode::OK => Ok(Open(send, response.into_body())),
        status => Err(status),
    }
}

/// Waits until such a call is answered so.
async fn becomes(rig: &Rig, (account, named): (&str, &[&str]), expected: StatusCode) {
    let what = format!("{expected} for {account} on behalf of {named:?}");
    eventually(&what, || async {
        let status = ask(rig, account, named).await.map_or_else(|status| status, |_| StatusCode::OK);
        (status == expected).then_some(())
    })
    .await;
}

async fn is_refused(rig: &Rig, account: &str, named: &[&str]) {
    match ask(rig, account, named).await {
        Err(StatusCode::UNAUTHORIZED) => {}
        Err(status) => panic!("{status} for {account} on behalf of {named:?}"),
        Ok(_) => panic!("{account} was let in on behalf of {named:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_see_a_client_behind_its_waypoint() {
    let rig = start().await;
    let far = &rig.nodes[1].ztunnel;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    becomes(&rig, ("waypoint", &[A]), StatusCode::OK).await;
    let mut of_a = ask(&rig, "waypoint", &[A]).await.expect("let in");
    let mut of_b = ask(&rig, "waypoint", &[B]).await.expect("let in");
    let mut own = ask(&rig, "waypoint", &[]).await.expect("let in");
    for open in [&mut of_a, &mut of_b, &mut own] {
        open.ping().await.expect("works");
    }

    // A client that is denied, through the waypoint too; live ones are cut.
    rig.control.policies([policy("not-b", Action::Deny, from_principal(SA_B))]);
    of_b.is_cut().await;
    is_refused(&rig, "waypoint", &[B]).await;
    let words =
        ["src.identity=\"spiffe://cluster.local/ns/default/sa/waypoint\"", "explicitly denied by: default/not-b"];
    let record = far.record_after(0, &words).await;
    assert!(record.contains(&format!("src.on_behalf_of=\"{B}\"")), "{record}");
    of_a.ping().await.expect("another client's goes on");
    own.ping().await.expect("and the waypoint's own");

    // A client that is allowed, whatever its waypoint is; the waypoint alone is not.
    rig.control.policies([policy("only-a", Action::Allow, from_principal(SA_A))]);
    own.is_cut().await;
    is_refused(&rig, "waypoint", &[]).await;
    is_refused(&rig, "waypoint", &[B]).await;
    of_a.ping().await.expect("the policy names it");
    ask(&rig, "waypoint", &[A]).await.expect("let in");

    // It is asked for no longer: what only the client's name let in is cut.
    rig.control.workloads([d(false)]);
    of_a.is_cut().await;
    is_refused(&rig, "waypoint", &[A]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_else_names_a_client_is_refused() {
    let rig = start().await;
    let far = &rig.nodes[1].ztunnel;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    becomes(&rig, ("waypoint", &[A]), StatusCode::OK).await;

    // Nothing that is not exactly one identity of the waypoint's own trust domain.
    let foreign = A.replace("cluster.local", "other.org");
    for named in [&[A, A][..], &[A, B], &[""], &["a"], &[SA_A], &["\u{e9}"], &[foreign.as_str()]] {
        is_refused(&rig, "waypoint", named).await;
    }
    far.record_after(0, &["something that is not one SPIFFE id"]).await;
    far.record_after(0, &["who is not of its trust domain cluster.local"]).await;

    // At the waypoint's place, but somebody else; somebody else may call for itself as ever.
    is_refused(&rig, "stranger", &[A]).await;
    far.record_after(0, &["sa/stranger calls on behalf of", "is not known as a waypoint of this workload"]).await;
    ask(&rig, "stranger", &[]).await.expect("for itself");

    // Under the waypoint's account, but no pod of it: that one is elsewhere.
    let elsewhere = behind(pod("w", "node-1", &["10.77.0.99"]), WAYPOINT);
    rig.control.workloads([c("waypoint", false), Workload { service_account: "waypoint".into(), ..elsewhere }]);
    becomes(&rig, ("waypoint", &[A]), StatusCode::UNAUTHORIZED).await;
    ask(&rig, "waypoint", &[]).await.expect("for itself");

    // A waypoint of others.
    rig.control.workloads([c("waypoint", true)]);
    becomes(&rig, ("waypoint", &[A]), StatusCode::OK).await;
    rig.control.services([web(false)]);
    becomes(&rig, ("waypoint", &[A]), StatusCode::UNAUTHORIZED).await;

    // A pod the control plane does not speak of at all, and one that is outside.
    rig.control.services([web(true)]);
    becomes(&rig, ("waypoint", &[A]), StatusCode::OK).await;
    rig.control.remove(type_url::ADDRESS, "Kubernetes//Pod/default/c");
    becomes(&rig, ("waypoint", &[A]), StatusCode::UNAUTHORIZED).await;
    rig.control.workloads([plain(pod("c", "node-1", &[AT]))]);
    is_refused(&rig, "c", &[A]).await;
    let refused = far.metric("istio_tcp_connections_failed_total", &["response_flags=\"DENY\""]).await;
    assert!(refused >= 10.0, "each of them was counted: {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_does_not_ask_hears_nobody() {
    let rig = start().await;
    rig.control.workloads([d(false)]);
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    // Without word of it a name is neither believed nor a reason to refuse: as with a ztunnel that does not know the header.
    becomes(&rig, ("stranger", &[A]), StatusCode::OK).await;
    rig.control.policies([policy("only-a", Action::Allow, from_principal(SA_A))]);
    for account in ["waypoint", "stranger"] {
        becomes(&rig, (account, &[A]), StatusCode::UNAUTHORIZED).await;
    }
    let far = &rig.nodes[1].ztunnel;
    let record = far.record_after(0, &["sa/waypoint", "none allowed"]).await;
    assert!(!record.contains("on_behalf_of"), "{record}");
}
