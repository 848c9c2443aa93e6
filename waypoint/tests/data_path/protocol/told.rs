//! What headers say of the way, at a waypoint (§1); those of a gateway are in `gateway`.

use super::*;

#[tokio::test]
async fn what_others_say_of_the_way_is_left_alone() {
    let rig = echo(Service::default()).await;
    let said = "x-forwarded-for: 10.9.9.9\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n\
                x-envoy-external-address: 10.9.9.9\r\nproxy-authorization: Basic abc\r\nx_under: 1\r\n";
    let answer = exchange_as_member(&rig, &get(said)).await;
    for kept in said.split("\r\n").filter(|line| !line.is_empty()) {
        assert!(answer.contains(&format!("\n{kept}\n")), "{kept} is not in {answer}");
    }
    for added in
        ["\nvia:", "\nx-forwarded-port:", "\nx-forwarded-host:", "\nx-envoy-attempt-count:", "\nx-envoy-internal:"]
    {
        assert!(!answer.contains(added), "{added} in {answer}");
    }
    assert_eq!(answer.matches("10.9.9.9").count(), 2, "nothing was appended: {answer}");
}

#[tokio::test]
async fn what_nobody_says_is_told() {
    let rig = echo(Service::default()).await;
    let answer = rig.exchange(&get("")).await;
    assert!(answer.contains("\nx-forwarded-proto: http\n") && !answer.contains("x-forwarded-for"), "{answer}");
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id");
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "a UUID: {id}");
    assert_eq!(id.as_bytes()[14], b'4', "of the fourth kind: {id}");
    let other = rig.exchange(&get("")).await;
    assert!(!other.contains(id), "each request has its own");
}

#[tokio::test]
async fn what_a_client_says_of_its_certificate_and_of_proxies_does_not_pass() {
    let rig = echo(Service::default()).await;
    let lies =
        "x-forwarded-client-cert: URI=spiffe://a/b\r\nx-envoy-peer-metadata: x\r\nx-envoy-peer-metadata-id: y\r\n";
    for answer in [rig.exchange(&get(lies)).await, exchange_as_member(&rig, &get(lies)).await] {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!answer.contains("x-forwarded-client-cert") && !answer.contains("peer-metadata"), "{answer}");
    }
}

#[tokio::test]
async fn a_host_goes_on_as_it_was_sent() {
    let rig = echo(Service::default()).await;
    for host in ["a.example:8080", "a.example.", "A.Example", "[fd00::1]:80", "10.0.0.1"] {
        let asks = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = rig.exchange(asks.as_bytes()).await;
        assert!(answer.contains(&format!("\nhost: {host}\n")), "{host}: {answer}");
    }
}

#[tokio::test]
async fn two_names_for_one_request_are_refused_in_http2() {
    let rig = echo(Service::default()).await;
    assert!(data(&rig, &[("host", "a")]).await.contains("\nhost: a\n"), "both say the same");
    assert_eq!(data(&rig, &[("host", "b")]).await, "", "they do not");
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_cookie_in_http1() {
    let rig = echo(Service::default()).await;
    let answer = data(&rig, &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]).await;
    assert!(answer.contains("HTTP/1.1 ") && answer.contains("\ncookie: a=1; b=2; c=3\n"), "{answer}");
    assert_eq!(answer.matches("cookie:").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_path_that_changed_is_told() {
    let rewrite = proxy::Rewrite { path: Some(proxy::rewrite::Path::Full("/new".into())), ..Default::default() };
    let routes = vec![forward(proxy::Forward { rewrite: Some(rewrite), ..Default::default() })];
    let rig = echo(Service { routes, ..Service::default() }).await;
    let answer = rig.exchange(b"GET /old?q=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("GET /new?q=1\n") && answer.contains("\nx-envoy-original-path: /old?q=1\n"), "{answer}");
}

const THEIRS: &[u8] = b"HTTP/1.1 200 OK\r\nserver: theirs\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
                        proxy-connection: keep-alive\r\nupgrade: h2c\r\nvia: 1.1 other\r\nx-other: 1\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn what_concerns_the_endpoints_connection_does_not_come_back() {
    let rig = Rig::serving(Service::default(), &[]);
    let endpoint = saying(&rig, THEIRS, false).await;
    rig.endpoints(&[endpoint.addr]);
    let answer = rig.exchange(&get("")).await;
    for gone in ["x-mine", "keep-alive", "proxy-connection", "upgrade", "theirs"] {
        assert!(!answer.contains(gone), "{gone} in {answer}");
    }
    for there in ["server: istio-envoy", "via: 1.1 other", "x-other: 1", "x-envoy-upstream-service-time: ", "date: "] {
        assert!(answer.contains(&format!("\r\n{there}")), "{there} is not in {answer}");
    }
    assert_eq!(answer.matches("\r\nserver: ").count(), 1, "{answer}");
}

#[tokio::test]
async fn the_name_of_the_server_and_the_headers_of_the_reference_are_options() {
    let options =
        proxy::Options { server_name: Some(String::new()), suppress_debug_headers: true, ..proxy::Options::default() };
    let rig = Rig::serving(Service { options, ..Service::default() }, &[]);
    let endpoint = saying(&rig, THEIRS, false).await;
    rig.endpoints(&[endpoint.addr]);
    let answer = rig.exchange(&get("")).await;
    assert!(answer.contains("\r\nserver: theirs\r\n") && !answer.contains("x-envoy-"), "{answer}");
    let options = proxy::Options { server_name: Some("ours".into()), ..proxy::Options::default() };
    rig.configure(Service { options, ..Service::default() });
    assert!(rig.exchange(&get("")).await.contains("\r\nserver: ours\r\n"));
}

#[tokio::test]
async fn a_date_is_the_endpoints_or_ours() {
    let rig = Rig::serving(Service::default(), &[]);
    let dated = b"HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\ncontent-length: 0\r\n\r\n";
    let endpoint = saying(&rig, dated, false).await;
    rig.endpoints(&[endpoint.addr]);
    let answer = rig.exchange(&get("")).await;
    assert!(answer.contains("\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\n"), "{answer}");
    assert_eq!(answer.matches("\r\ndate: ").count(), 1, "{answer}");
}

#[tokio::test]
async fn our_own_answers_say_what_they_are() {
    let rig = Rig::serving(Service::default(), &[]);
    let answer = rig.exchange(&get("")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nno healthy upstream"), "{answer}");
    for there in ["content-type: text/plain\r\n", "content-length: 19\r\n", "server: istio-envoy\r\n", "date: "] {
        assert!(answer.contains(&format!("\r\n{there}")), "{there} is not in {answer}");
    }
}
