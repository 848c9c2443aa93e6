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

/// Each of these heads is followed by what somebody else could take for a request of its own. `name` is what it would be.
async fn hides(rows: &[(&str, &[u8])], name: &str) {
    let rig = rig().await;
    let mut wrong = Vec::new();
    for (what, bytes) in rows {
        let answer = rig.exchange(bytes).await;
        let refused =
            ["HTTP/1.1 400 ", "HTTP/1.1 501 ", "HTTP/1.1 431 "].iter().any(|begins| answer.starts_with(begins));
        if !(refused || answer.is_empty()) || answer.contains(name) || answer.matches("HTTP/1.1 ").count() > 1 {
            wrong.push(format!("{what}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A coding that one reader knows and another one does not.
#[tokio::test]
async fn codings_are_written_in_one_way_only() {
    hides(
        &[
            ("a space before the colon", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("a control character before it", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("quoted", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("identity", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("two, the last is another", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("chunked and more", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("empty", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("on a folded line", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("not the last of them", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("in HTTP/1.0", b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
        ],
        "/hidden",
    )
    .await;
}

#[tokio::test]
async fn lengths_are_written_in_one_way_only() {
    hides(
        &[
            ("hexadecimal", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("negative", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("empty", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("with a space within", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1 0\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("with a point", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1.0\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("too large to be", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("a list of different ones", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("two different ones", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 30\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("a NUL before the name", b"POST / HTTP/1.1\r\nhost: a\r\n\0content-length: 1\r\n\r\naGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("with a bare CR", b"POST / HTTP/1.1\r\nhost: a\r\nx: y\rcontent-length: 30\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
        ],
        "/hidden",
    )
    .await;
}

/// The head of such a request is served before its chunks are read, so that it may have been sent on: its connection ends.
#[tokio::test]
async fn chunks_are_written_in_one_way_only() {
    let rows: [(&str, &[u8]); 10] = [
        ("a sign", b"+3\r\nabc\r\n0\r\n\r\n"),
        ("a prefix", b"0x3\r\nabc\r\n0\r\n\r\n"),
        ("no number", b"\r\nabc\r\n0\r\n\r\n"),
        ("a letter that is none of them", b"g\r\nabc\r\n0\r\n\r\n"),
        ("more than a number can be", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("data that is longer than it says", b"3\r\nabcd\r\n0\r\n\r\n"),
        ("no end of line after the data", b"3\r\nabc0\r\n\r\n"),
        ("a bare CR after the number", b"3\rabc\r\n0\r\n\r\n"),
        ("a line end within an extension", b"3;a=\nb\r\nabc\r\n0\r\n\r\n"),
        ("a space within the number", b"3 1\r\nabc\r\n0\r\n\r\n"),
    ];
    let rig = rig().await;
    let mut wrong = Vec::new();
    for (what, body) in rows {
        let head = b"POST /first HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = rig
            .exchange(&[&head[..], body, b"GET /hidden HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"].concat())
            .await;
        if answer.contains("/hidden") || answer.starts_with("HTTP/1.1 200 ") {
            wrong.push(format!("{what}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An extension without end would be read for ever.
#[tokio::test]
async fn extensions_of_chunks_have_a_limit() {
    let rig = rig().await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=";
    let answer = rig.exchange(&[&head[..], &[b'x'; 64 * 1024], b"\r\na\r\n0\r\n\r\n"].concat()).await;
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// What a trailer says of the message is too late, and no endpoint may believe it.
#[tokio::test]
async fn trailers_do_not_frame_a_message() {
    let rig = rig().await;
    let answer = rig
        .exchange(
            b"POST /t HTTP/1.1\r\nhost: a\r\nconnection: close\r\nte: trailers\r\ntrailer: content-length, host, x-sum\r\n\
              transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ncontent-length: 99\r\nhost: b\r\nx-sum: 1\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("\"99\"") && !answer.contains("host: \"b\""), "{answer}");
}

#[tokio::test]
async fn targets_and_hosts_are_what_they_say() {
    hides(
        &[
            ("a host with a path", b"GET / HTTP/1.1\r\nhost: a/hidden\r\nconnection: close\r\n\r\n"),
            ("a host with a space", b"GET / HTTP/1.1\r\nhost: a hidden\r\nconnection: close\r\n\r\n"),
            ("a host with a user", b"GET / HTTP/1.1\r\nhost: hidden@a\r\nconnection: close\r\n\r\n"),
            ("a target with a user", b"GET http://hidden@a/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
            ("a target of two words", b"GET / hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("a tab for a space", b"GET\t/hidden\tHTTP/1.1\r\nhost: a\r\n\r\n"),
            ("a NUL in the target", b"GET /\0hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("a version with more", b"GET /hidden HTTP/1.1x\r\nhost: a\r\n\r\n"),
            ("version 2 in words of 1", b"GET /hidden HTTP/2.0\r\nhost: a\r\n\r\n"),
            ("a target without a slash", b"GET hidden HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
            ("a header line without a name", b"GET / HTTP/1.1\r\nhost: a\r\n: hidden\r\n\r\n"),
            ("a header line without a colon", b"GET / HTTP/1.1\r\nhost: a\r\nhidden\r\n\r\n"),
            ("a first header line that is folded", b"GET / HTTP/1.1\r\n x: hidden\r\nhost: a\r\n\r\n"),
        ],
        "hidden",
    )
    .await;
}

/// What `Connection` names is taken off, but for what others decide by.
#[tokio::test]
async fn nobody_has_headers_taken_off_that_protect() {
    let rig = rig().await;
    let answer = rig
        .exchange(
            b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: secret\r\nx-forwarded-for: 1.2.3.4\r\ncookie: c=1\r\n\
              connection: close, host, authorization, x-forwarded-for, cookie, content-length, :path\r\n\r\n",
        )
        .await;
    for kept in ["host: a", "authorization: secret", "x-forwarded-for: 1.2.3.4", "cookie: c=1"] {
        assert!(answer.contains(&format!("\n{kept}\n")), "{kept} is not in {answer}");
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
