//! What a proxy at layer 7 expects to be spoken at a port.
//!
//! In: what a port says of itself. Out: a protocol; none for what is not TCP, which such proxies do not serve.

use lateen_wire::proxy::Protocol;

/// SMTP, DNS, MySQL and MongoDB: in most of them the server speaks first, so nothing may wait for the client.
const NOT_HTTP: [u16; 4] = [25, 53, 3306, 27017];

/// By `appProtocol`, else by the word before the first `-` of the name, else by the number.
pub(super) fn of_service(
    transport: Option<&str>,
    app_protocol: Option<&str>,
    name: &str,
    number: u16,
) -> Option<Protocol> {
    if transport.is_some_and(|transport| transport != "TCP") {
        return None;
    }
    match app_protocol {
        Some("kubernetes.io/h2c") => Some(Protocol::Http2),
        Some("kubernetes.io/ws") => Some(Protocol::Http),
        Some("kubernetes.io/wss") => Some(Protocol::Tls),
        Some(word) => of_word(word, number),
        None => of_word(first_word(&name.to_ascii_lowercase()), number),
    }
}

/// By a word; one nobody knows leaves it to the number, and that to the first bytes.
pub(super) fn of_word(word: &str, number: u16) -> Option<Protocol> {
    Some(match word.to_ascii_lowercase().as_str() {
        "http" => Protocol::Http,
        "http2" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "grpc-web" => Protocol::GrpcWeb,
        "https" | "tls" => Protocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => Protocol::Tcp,
        "udp" => return None,
        _ if NOT_HTTP.contains(&number) => Protocol::Tcp,
        _ => Protocol::Auto,
    })
}

fn first_word(name: &str) -> &str {
    // The one protocol whose own name holds a dash.
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return "grpc-web";
    }
    name.split_once('-').map_or(name, |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_says_what_is_spoken() {
        let check = |app_protocol: Option<&str>, name: &str, number: u16, expected: Option<Protocol>| {
            assert_eq!(of_service(None, app_protocol, name, number), expected, "{app_protocol:?} {name} {number}");
        };
        use Protocol::{Auto, Grpc, GrpcWeb, Http, Http2, Tcp, Tls};
        check(None, "http", 80, Some(Http));
        check(None, "http-admin", 81, Some(Http));
        check(None, "HTTP2-x", 81, Some(Http2));
        check(None, "grpc-web-x", 81, Some(GrpcWeb));
        check(None, "grpc-x", 81, Some(Grpc));
        check(None, "https", 443, Some(Tls));
        check(None, "mysql", 80, Some(Tcp));
        check(None, "web", 80, Some(Auto));
        check(None, "", 3306, Some(Tcp));
        check(None, "http", 3306, Some(Http));
        check(Some("kubernetes.io/h2c"), "http", 80, Some(Http2));
        check(Some("kubernetes.io/ws"), "tcp", 80, Some(Http));
        check(Some("kubernetes.io/wss"), "http", 80, Some(Tls));
        check(Some("grpc"), "http", 80, Some(Grpc));
        check(Some("example.com/mine"), "http", 80, Some(Auto));
        assert_eq!(of_service(Some("UDP"), None, "http", 80), None);
    }
}
