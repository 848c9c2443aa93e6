//! What is spoken, to whom (§3, §7).

use super::*;

#[tokio::test]
async fn endpoints_are_spoken_to_as_they_say_and_not_as_the_client_does() {
    use proxy::Protocol as Says;
    let usual = proxy::ConnectionPool::default();
    let as_client = proxy::ConnectionPool { use_client_protocol: true, ..usual };
    let upgraded = proxy::ConnectionPool { upgrade_to_http2: true, ..usual };
    let (one, two) = ("HTTP/1.1 ", "HTTP/2.0 ");
    for (says, pool, from_one, from_two) in [
        (Says::Http, &usual, one, one),
        (Says::Http2, &usual, two, two),
        (Says::Grpc, &usual, two, two),
        (Says::GrpcWeb, &usual, two, two),
        (Says::Auto, &usual, one, two),
        (Says::Http, &as_client, one, two),
        (Says::Http2, &as_client, one, two),
        (Says::Http, &upgraded, two, two),
    ] {
        let policy = proxy::TrafficPolicy { pool: Some(*pool), ..Default::default() };
        let rig = echo(Service { clusters: vec![cluster(says, policy)], ..Service::default() }).await;
        let answer = rig.exchange(&get("")).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(body.starts_with(from_one), "{says:?} by HTTP/1: {answer}");
        let answer = data(&rig, &[]).await;
        assert!(answer.starts_with(from_two), "{says:?} by HTTP/2: {answer}");
    }
}

/// A gRPC server behind a port that is declared to speak HTTP/1.
#[tokio::test]
async fn grpc_that_cannot_be_spoken_is_unavailable() {
    let rig = Rig::serving(Service::default(), &[]);
    let only_two = saying(&rig, b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01", true).await;
    rig.endpoints(&[only_two.addr]);
    let answer = rig.exchange(&get("content-type: application/grpc\r\nte: trailers\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\ngrpc-status: 14\r\n"), "{answer}");
}

#[tokio::test]
async fn grpc_clients_tell_their_patience_unchanged() {
    let clusters = vec![cluster(proxy::Protocol::Grpc, proxy::TrafficPolicy::default())];
    let rig = echo(Service { clusters, ..Service::default() }).await;
    let more = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "90S")];
    let answer = data(&rig, &more).await;
    assert!(answer.contains("\ngrpc-timeout: 90S\n") && answer.contains("\nte: trailers\n"), "{answer}");
}

fn auto(options: proxy::Options) -> Service {
    let clusters = vec![cluster(proxy::Protocol::Auto, proxy::TrafficPolicy::default())];
    Service { protocol: proxy::Protocol::Auto, clusters, options, ..Service::default() }
}

/// §7, last but one: the reference waits for ever, and whoever has such servers says how long.
#[tokio::test]
async fn a_server_that_speaks_first_is_heard_where_a_time_is_set() {
    let wait = prost_types::Duration { seconds: 0, nanos: 20_000_000 };
    let rig = Rig::serving(auto(proxy::Options { protocol_detection_timeout: Some(wait), ..Default::default() }), &[]);
    let greets = raw(&rig, |mut stream| async move {
        stream.write_all(b"220 hello\r\n").await.expect("write");
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.expect("the client's word");
        stream.write_all(&word).await.expect("write");
    })
    .await;
    rig.endpoints(&[greets.addr]);
    let mut client = rig.connect(Protocol::Auto).await;
    let mut greeting = [0; 11];
    soon("the greeting", client.read_exact(&mut greeting)).await.expect("it comes first");
    client.write_all(b"EHLO").await.expect("write");
    let mut word = [0; 4];
    soon("the answer", client.read_exact(&mut word)).await.expect("and then the client");
    assert_eq!((&greeting, &word), (b"220 hello\r\n", b"EHLO"));
}

#[tokio::test]
async fn without_one_nothing_is_done_before_the_client_has_spoken() {
    let rig = Rig::serving(auto(proxy::Options::default()), &[]);
    let silent = raw(&rig, |mut stream| async move {
        let mut word = Vec::new();
        stream.read_to_end(&mut word).await.ok();
        stream.write_all(&word).await.ok();
    })
    .await;
    rig.endpoints(&[silent.addr]);
    let mut client = rig.connect(Protocol::Auto).await;
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_secs(24 * 3600)).await;
    tokio::time::resume();
    assert_eq!(silent.connections(), 0, "nobody knows yet what for");
    client.write_all(b"\x00opaque").await.expect("write");
    client.shutdown().await.expect("half-close");
    let mut back = Vec::new();
    soon("the bytes", client.read_to_end(&mut back)).await.expect("they come back");
    assert_eq!(back, b"\x00opaque");
}

/// Requests to a port that says nothing of itself are routed by what was dialled, whatever they name.
#[tokio::test]
async fn an_undeclared_port_is_looked_into() {
    let rig = echo(auto(proxy::Options::default())).await;
    for host in ["a", HOST, "unknown.example:99"] {
        let mut client = rig.connect(Protocol::Auto).await;
        let asks = format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        client.write_all(asks.as_bytes()).await.expect("write");
        let mut answer = String::new();
        soon("the answer", client.read_to_string(&mut answer)).await.expect("in good order");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("\nhost: {host}\n")), "{answer}");
    }
}

#[tokio::test]
async fn what_is_declared_to_be_http_and_is_not_is_refused_in_its_words() {
    let rig = echo(Service { options: logging("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%"), ..Service::default() }).await;
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-x\r\n\r\n", b"\0\0\0\x17"] {
        let mut client = rig.connect(Protocol::Http).await;
        client.write_all(bytes).await.expect("write");
        // Whoever is refused may hear it before he is done.
        client.shutdown().await.ok();
        let mut answer = Vec::new();
        let _end = soon("the answer", client.read_to_end(&mut answer)).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{bytes:?}: {}", String::from_utf8_lossy(&answer));
        assert_eq!(rig.record().await, "400 http1.codec_error\n");
    }
}
