//! Bytes that two readers could read differently: refused, or made to read one way only.

use super::{
    endpoints::echoing,
    rig::{Rig, Service},
};

async fn rig() -> Rig {
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    rig
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_their_connection_ends() {
    let rig = rig().await;
    let rows: [(&str, &[u8]); 16] = [
        ("two lengths", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("a signed length", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na"),
        ("a list of lengths", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\na"),
        (
            "a coding that is not last",
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        ("an unknown coding", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("a space before the colon", b"GET / HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n\r\n"),
        ("a folded header", b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n\r\n"),
        ("a bare CR", b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r2\r\n\r\n"),
        ("a NUL", b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x002\r\n\r\n"),
        ("a control character in a name", b"GET / HTTP/1.1\r\nhost: a\r\nx\x01a: 1\r\n\r\n"),
        ("no host", b"GET / HTTP/1.1\r\nx-a: 1\r\n\r\n"),
        ("two hosts", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("an unknown scheme", b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("HTTP/0.9", b"GET /\r\n\r\n"),
        ("codings in HTTP/1.0", b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        (
            "a chunk that is too long to be",
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        ),
    ];
    for (what, bytes) in rows {
        // Whatever else would be read as a second request must not be served.
        let mut all = bytes.to_vec();
        if !matches!(what, "no host" | "two hosts" | "an unknown scheme") {
            all.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        } else {
            let close = b"connection: close\r\n\r\n";
            all.truncate(all.len() - 2);
            all.extend_from_slice(close);
        }
        let answer = rig.exchange(&all).await;
        assert!(!answer.contains("200 OK") && !answer.contains("/smuggled"), "{what}: {answer}");
        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 501 ");
        // A body that turns out broken while it is read has no status of its own.
        assert!(refused || answer.is_empty() || what.starts_with("a chunk"), "{what}: {answer}");
    }
}

#[tokio::test]
async fn length_and_coding_together_are_framed_anew_and_end_the_connection() {
    let rig = rig().await;
    let answer = rig
        .exchange(
            b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\ntransfer-encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await;
    assert!(!answer.contains("/smuggled"), "{answer}");
    assert!(!answer.contains("\ncontent-length: 30"), "the endpoint must not hear of the length: {answer}");
    assert!(answer.ends_with("\n\nabc"), "{answer}");
}

#[tokio::test]
async fn http10_is_told_to_upgrade() {
    let rig = rig().await;
    let answer = rig.exchange(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(answer.contains(" 426 Upgrade Required\r\n"), "{answer}");
}

#[tokio::test]
async fn the_target_names_the_host_that_counts() {
    let rig = rig().await;
    let answer = rig.exchange(b"GET http://b.example/p HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("GET /p\n") && answer.contains("host: b.example\n"), "{answer}");
    assert!(!answer.contains("host: a\n"), "{answer}");
}

#[tokio::test]
async fn heads_have_limits() {
    let rig = rig().await;
    let many: String = (0..120).map(|number| format!("x-{number}: 1\r\n")).collect();
    let answer = rig.exchange(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = "x".repeat(70 * 1024);
    let answer = rig.exchange(format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let fits = "x".repeat(50 * 1024);
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-a: {fits}\r\n\r\n");
    assert!(rig.exchange(request.as_bytes()).await.starts_with("HTTP/1.1 200 "), "50 KiB pass");
}
