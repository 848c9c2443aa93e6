//! CONNECT, upgrades, interim answers, HTTP/1.0 (§4, §5).

use std::time::Duration;

use super::*;

/// An endpoint that agrees to become something else, and does `then`.
async fn agreeing<F>(rig: &Rig, then: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static) -> Endpoint
where
    F: Future<Output = ()> + Send + 'static,
{
    raw(rig, move |mut stream| {
        let then = then.clone();
        async move {
            assert!(head(&mut stream).await.starts_with("GET "));
            let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n";
            stream.write_all(agreed).await.expect("write");
            then(stream).await;
        }
    })
    .await
}

const ASKS: &[u8] = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

async fn upgraded(rig: &Rig) -> TcpStream {
    let mut client = rig.connect(Protocol::Http).await;
    client.write_all(ASKS).await.expect("write");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client
}

#[tokio::test]
async fn connect_is_no_way_to_anywhere() {
    let rig =
        echo(Service { options: logging("%REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS%"), ..Service::default() })
            .await;
    let answer =
        rig.exchange(b"CONNECT b.example:443 HTTP/1.1\r\nhost: b.example:443\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(rig.record().await, "CONNECT 404 NR\n");
    // In HTTP/2, with and without a protocol that is not a WebSocket's.
    let plain = [(":method", "CONNECT"), (":authority", "b.example:443")];
    let udp = [
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/x"),
    ];
    for asks in [&plain[..], &udp] {
        let mut peer = Peer::begin(&rig).await;
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(asks))).await;
        let answer = async {
            loop {
                if let (HEADERS, _, payload) = peer.next().await.expect("an answer") {
                    return payload;
                }
            }
        };
        // 404 is the thirteenth entry of the static table.
        assert!(answer.await.contains(&0x8d), "{asks:?}");
        assert_eq!(rig.record().await, "CONNECT 404 NR\n");
    }
}

/// By whatever version it comes, policies and routes see the GET that the endpoint gets.
#[tokio::test]
async fn a_websocket_is_a_get_to_policies_whatever_is_spoken() {
    use proxy::{Action, Attribute};
    let deny = crate::policies::policy(Action::Deny, &[(Attribute::Method, "GET"), (Attribute::Path, "/ws")]);
    let rig = Rig::serving(Service { policies: vec![deny], ..Service::default() }, &[]);
    let endpoint = agreeing(&rig, |_| async {}).await;
    rig.endpoints(&[endpoint.addr]);
    assert!(
        rig.exchange(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 403 ")
    );
    let asks = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/ws"),
    ];
    let answer = {
        let mut peer = Peer::begin(&rig).await;
        peer.send(&frame(HEADERS, END_HEADERS, 1, &block(&asks))).await;
        let mut said = Vec::new();
        while let Some((kind, flags, payload)) = peer.next().await {
            if kind == DATA {
                said.extend(payload);
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                break;
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    };
    assert_eq!(answer, "RBAC: access denied");
    assert_eq!(endpoint.connections(), 0);
}

#[tokio::test]
async fn an_upgrade_is_under_way_until_both_ends_are_done() {
    let rig = Rig::serving(Service::default(), &[]);
    let endpoint = agreeing(&rig, |mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("the client's half");
        stream.write_all(b"last").await.expect("write");
    })
    .await;
    rig.endpoints(&[endpoint.addr]);
    let mut client = upgraded(&rig).await;
    assert_eq!(rig.lane.active(), 1, "a drain waits for it");
    client.write_all(b"all").await.expect("write");
    // The client has nothing more to say, the endpoint has.
    client.shutdown().await.expect("half-close");
    let mut rest = Vec::new();
    soon("the endpoint's half", client.read_to_end(&mut rest)).await.expect("in good order");
    assert_eq!(rest, b"last");
    until("nothing is under way", || rig.lane.active() == 0).await;
}

#[tokio::test]
async fn a_routes_timeout_is_not_for_what_a_request_has_become() {
    let timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let routes = vec![forward(proxy::Forward { timeout, ..Default::default() })];
    let rig = Rig::serving(Service { routes, ..Service::default() }, &[]);
    let endpoint = agreeing(&rig, |mut stream| async move {
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.expect("the client's word");
        stream.write_all(&word).await.expect("write");
    })
    .await;
    rig.endpoints(&[endpoint.addr]);
    let mut client = upgraded(&rig).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(600)).await;
    tokio::time::resume();
    client.write_all(b"ping").await.expect("write");
    let mut word = [0; 4];
    soon("the bytes", client.read_exact(&mut word)).await.expect("they come back");
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn an_upgrade_is_not_tried_again() {
    let retry = proxy::Retry {
        attempts: 3,
        on: Some(proxy::RetryOn { server_error: true, ..Default::default() }),
        ..Default::default()
    };
    let routes = vec![forward(proxy::Forward { retry: Some(retry), ..Default::default() })];
    let rig = Rig::serving(Service { routes, ..Service::default() }, &[]);
    let endpoint = saying(&rig, b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", true).await;
    rig.endpoints(&[endpoint.addr]);
    let answer =
        rig.exchange(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(endpoint.connections(), 1);
    rig.exchange(&get("")).await;
    assert_eq!(endpoint.connections(), 5, "a plain request is");
}

#[tokio::test]
async fn http10_is_refused_with_its_own_reason() {
    let rig = echo(Service { options: logging("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%"), ..Service::default() }).await;
    let answer = rig.exchange(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(answer.contains(" 426 Upgrade Required\r\n"), "{answer}");
    assert_eq!(rig.record().await, "426 low_version\n");
}

/// The endpoint may be silent about the body it is told of; its client is not kept waiting (§4).
#[tokio::test]
async fn a_body_is_asked_for_when_the_endpoint_says_nothing_of_it() {
    let rig = Rig::serving(Service::default(), &[]);
    let endpoint = raw(&rig, |mut stream| async move {
        assert!(head(&mut stream).await.contains("\r\nexpect: 100-continue\r\n"));
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.expect("the body");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("write");
    })
    .await;
    rig.endpoints(&[endpoint.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    let asks = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: close\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(asks).await.expect("write");
    assert_eq!(head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.expect("write");
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("in good order");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
}
