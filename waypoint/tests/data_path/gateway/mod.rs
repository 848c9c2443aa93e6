//! A gateway: hosts and certificates, clients that show theirs, what those behind it are told. The vectors are those of
//! l7-gateways §8.

mod broken;
mod bytes;
mod clients;
mod load;
mod ports;
mod rig;
mod secure;

use lateen_wire::proxy;

use self::rig::{ask, door, gateway, get, hosts, listener, listens, plain};
use crate::{
    endpoints::echoing,
    rig::{HOST, Rig},
};

/// A gateway with an endpoint that echoes.
async fn serving(listeners: Vec<proxy::Listener>, options: proxy::Options) -> Rig {
    let rig = gateway(listeners, options);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    rig
}

fn logged() -> proxy::Options {
    let access_log = proxy::AccessLog { encoding: proxy::access_log::Encoding::Text.into(), format: String::new() };
    proxy::Options { access_log: Some(access_log), ..Default::default() }
}

#[tokio::test]
async fn requests_are_routed_by_host() {
    let rig = serving(vec![plain(&["a.example.com", "*.wild.example.com"])], logged()).await;
    let at = door(&rig);
    // Vector 4: the port of a host does not count.
    for host in ["a.example.com", "A.Example.com:9999", "x.wild.example.com", "x.y.wild.example.com"] {
        let answer = ask(at, &get(host, "/x?y")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{host}: {answer}");
        assert!(answer.contains("GET /x?y\n") && answer.contains(&format!("host: {host}\n")), "{answer}");
        let record = rig.record().await;
        assert!(
            record.contains("\"GET /x?y HTTP/1.1\" 200") && record.contains(&format!("outbound|80||{HOST}")),
            "{record}"
        );
    }
    // Vector 5.
    for host in ["b.example.com", "wild.example.com", "a.example.com.evil"] {
        let answer = ask(at, &get(host, "/")).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{host}: {answer}");
        assert!(rig.record().await.contains(" 404 NR route_not_found "));
    }
}

#[tokio::test]
async fn those_behind_are_told_the_truth() {
    let rig = serving(vec![plain(&["*"])], proxy::Options::default()).await;
    let at = door(&rig);
    let lies = "x-forwarded-for: 10.9.9.9\r\nx-forwarded-proto: https\r\nx-forwarded-client-cert: URI=spiffe://a/b\r\n\
                x-envoy-external-address: 10.9.9.9\r\nx-envoy-peer-metadata: x\r\nx-request-id: mine\r\n";
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lies}\r\n");
    let answer = ask(at, request.as_bytes()).await;
    for told in [
        "\nx-forwarded-for: 10.9.9.9,127.0.0.1\n",
        "\nx-forwarded-proto: http\n",
        "\nx-envoy-external-address: 127.0.0.1\n",
        "\nx-envoy-attempt-count: 1\n",
    ] {
        assert!(answer.contains(told), "{told:?} in {answer}");
    }
    for lie in ["x-forwarded-client-cert", "peer-metadata", "x-request-id: mine"] {
        assert!(!answer.contains(lie), "{lie} in {answer}");
    }
    listens(&rig, vec![plain(&["*"])], proxy::Options { trusted_proxies: 1, ..Default::default() });
    let answer = ask(at, request.as_bytes()).await;
    assert!(answer.contains("\nx-forwarded-proto: https\n"), "{answer}");
    assert!(answer.contains("\nx-envoy-external-address: 10.9.9.9\n"), "{answer}");
}

/// Vector 3.
#[tokio::test]
async fn plain_requests_are_sent_to_https() {
    let mut all = hosts(&["a.example.com", "b.example.com"]);
    all.hosts[0].https_redirect = true;
    let listeners = vec![listener(proxy::listener::Kind::Http(all))];
    let rig = serving(listeners.clone(), proxy::Options::default()).await;
    let at = door(&rig);
    for (host, location) in
        [("a.example.com", "https://a.example.com/x?y"), ("a.example.com:80", "https://a.example.com/x?y")]
    {
        let answer = ask(at, &get(host, "/x?y")).await;
        assert!(answer.starts_with("HTTP/1.1 301 Moved Permanently\r\n"), "{answer}");
        assert!(answer.contains(&format!("\r\nlocation: {location}\r\n")), "{answer}");
    }
    assert!(ask(at, &get("b.example.com", "/")).await.starts_with("HTTP/1.1 200 "));
    let claims = b"GET /x HTTP/1.1\r\nhost: a.example.com\r\nconnection: close\r\nx-forwarded-proto: https\r\n\r\n";
    assert!(ask(at, claims).await.starts_with("HTTP/1.1 301 "), "a stranger's word is not enough");
    listens(&rig, listeners, proxy::Options { trusted_proxies: 1, ..Default::default() });
    assert!(ask(at, claims).await.starts_with("HTTP/1.1 200 "), "a trusted proxy has ended TLS");
}

#[tokio::test]
async fn http10_is_served_where_it_is_asked_for() {
    let options = proxy::Options { http10: true, ..Default::default() };
    let rig = serving(vec![plain(&["*"])], options).await;
    let at = door(&rig);
    let answer = ask(at, b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.contains("HTTP/1.1 GET /old\n"), "endpoints are asked in 1.1: {answer}");
    assert!(!answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    let two = b"GET /1 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\nhost: a\r\n\r\n";
    let answer = ask(at, two).await;
    assert!(answer.contains("GET /1\n") && answer.contains("GET /2\n"), "{answer}");
    listens(&rig, vec![plain(&["*"])], proxy::Options::default());
    assert!(ask(at, b"GET /old HTTP/1.0\r\n\r\n").await.contains(" 426 Upgrade Required\r\n"));
}

/// Vector 12.
#[tokio::test]
async fn the_proxy_protocol_is_read_and_demanded() {
    let options = proxy::Options { proxy_protocol: true, ..logged() };
    let rig = serving(vec![plain(&["*"])], options).await;
    let at = door(&rig);
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[1, 2, 3, 4, 10, 0, 0, 1, 0x10, 0, 1, 0xbb]].concat();
    let own = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..]].concat();
    for (header, client) in [
        (v2, "1.2.3.4"),
        (b"PROXY TCP4 1.2.3.4 10.0.0.1 4096 443\r\n".to_vec(), "1.2.3.4"),
        (b"PROXY TCP6 fd00::9 fd00::1 4096 443\r\n".to_vec(), "fd00::9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (own, "127.0.0.1"),
    ] {
        let answer = ask(at, &[&header[..], &get("a", "/")].concat()).await;
        assert!(answer.contains(&format!("\nx-forwarded-for: {client}\n")), "{client}: {answer}");
        let record = rig.record().await;
        assert!(record.contains(client), "{record}");
    }
    assert_eq!(ask(at, &get("a", "/")).await, "", "the header is demanded");
    assert_eq!(ask(at, b"PROXY TCP4 1.2.3.4 10.0.0.1 nonsense\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
}
