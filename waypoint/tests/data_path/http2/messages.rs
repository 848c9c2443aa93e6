//! Messages: sections 6.10 and 8.

use super::*;

/// The request's line with one part changed or left out.
fn line(name: &str, value: Option<&'static str>) -> Vec<u8> {
    let hide = |(key, of): (&'static str, &'static str)| if key == ":path" { (key, HIDDEN) } else { (key, of) };
    let change = |(key, of)| if key == name { value.map(|value| (key, value)) } else { Some((key, of)) };
    malformed(&LINE.into_iter().map(hide).filter_map(change).collect::<Vec<_>>())
}

fn with(more: &[(&'static str, &'static str)]) -> Vec<u8> {
    malformed(&[&[LINE[0], LINE[1], LINE[2], (":path", HIDDEN)][..], more].concat())
}

fn heads() -> Vec<Case> {
    let ended = |number, what, sends: Vec<u8>| case(number, what, sends, Want::Ended(&[PROTOCOL]));
    let early = [("x-a", "1"), LINE[0], LINE[1], LINE[2], (":path", HIDDEN)];
    vec![
        ended("8.2/1", "an upper case name", with(&[("X-A", "1")])),
        ended("8.2/2", "an empty name", with(&[("", "1")])),
        ended("8.2/3", "a space in a name", with(&[("x a", "1")])),
        ended("8.2/4", "a colon in a name", with(&[("x:a", "1")])),
        ended("8.2/5", "a control character in a name", with(&[("x\x01", "1")])),
        ended("8.2/6", "a line end in a name", with(&[("x-a\r\nhost", "1")])),
        ended("8.2/7", "a NUL in a value", with(&[("x-a", "1\0")])),
        ended("8.2/8", "a line end in a value", with(&[("x-a", "1\r\nhost: b")])),
        ended("8.2/9", "half a line end in a value", with(&[("x-a", "1\nhost: b")])),
        ended("8.2.2/1", "connection", with(&[("connection", "keep-alive")])),
        ended("8.2.2/2", "keep-alive", with(&[("keep-alive", "timeout=5")])),
        ended("8.2.2/3", "proxy-connection", with(&[("proxy-connection", "close")])),
        ended("8.2.2/4", "transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ended("8.2.2/5", "upgrade", with(&[("upgrade", "websocket")])),
        ended("8.2.2/6", "te that is more than trailers", with(&[("te", "trailers, deflate;q=0.5")])),
        case("8.2.2/7", "te: trailers", head(END_STREAM, 1, &[("te", "trailers")]), Want::Served(1)),
        case(
            "8.2.3/1",
            "a cookie in crumbs",
            head(END_STREAM, 1, &[("cookie", "a=1"), ("cookie", "b=2")]),
            Want::Served(1),
        ),
        ended("8.3/1", "an unknown pseudo header", with(&[(":x", "1")])),
        ended("8.3/2", "a status in a request", with(&[(":status", "200")])),
        ended("8.3/3", "a pseudo header after others", malformed(&early)),
        ended("8.3.1/1", "an empty path", line(":path", Some(""))),
        ended("8.3.1/2", "no method", line(":method", None)),
        ended("8.3.1/3", "no scheme", line(":scheme", None)),
        ended("8.3.1/4", "no path", line(":path", None)),
        ended("8.3.1/5", "two methods", with(&[(":method", "GET")])),
        ended("8.3.1/6", "two schemes", with(&[(":scheme", "http")])),
        ended("8.3.1/7", "two paths", with(&[(":path", "/y")])),
        ended("8.3.1/8", "two authorities", with(&[(":authority", "b")])),
        ended("8.3.1/9", "a method of two words", line(":method", Some("GET /hidden HTTP/1.1"))),
        ended("8.3.1/10", "an empty method", line(":method", Some(""))),
        ended("8.3.1/11", "a path of two words", line(":path", Some("/hidden HTTP/1.1"))),
        ended("8.3.1/12", "a scheme that is none", line(":scheme", Some("ht tp"))),
        ended("8.3.1/13", "an authority with a line end", line(":authority", Some("a\r\nx: y"))),
        ended("8.5/1", "CONNECT with a path", line(":method", Some("CONNECT"))),
    ]
}

fn bodies() -> Vec<Case> {
    let ended = |number, what, sends: Vec<u8>| case(number, what, sends, Want::Ended(&[PROTOCOL]));
    let served = |number, what, sends: Vec<u8>| case(number, what, sends, Want::Served(1));
    let post = |length| head(0, 1, &[("content-length", length)]);
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers = |flags, all: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, &block(all));
    vec![
        served(
            "8.1/0",
            "a body and trailers",
            [head(0, 1, &[]), data(0, b"a"), trailers(END_STREAM, &[("x-sum", "1")])].concat(),
        ),
        ended(
            "8.1/1",
            "trailers that do not end the request",
            [head(0, 1, &[]), data(0, b"a"), trailers(0, &[("x-sum", "1")])].concat(),
        ),
        // h2 passes it over: nobody behind hears of it.
        served(
            "8.1/2",
            "a pseudo header in trailers",
            [head(0, 1, &[]), trailers(END_STREAM, &[(":method", "GET")])].concat(),
        ),
        served("8.1.1/0", "as much as the length says", [post("3"), data(END_STREAM, b"abc")].concat()),
        ended("8.1.1/1", "less than the length says", [post("9"), data(END_STREAM, b"abc")].concat()),
        ended("8.1.1/2", "less, in pieces", [post("9"), data(0, b"abc"), data(END_STREAM, b"def")].concat()),
        ended("8.1.1/3", "more than the length says", [post("1"), data(END_STREAM, b"abc")].concat()),
        ended("8.1.1/4", "nothing where the length says something", head(END_STREAM, 1, &[("content-length", "1")])),
        ended("8.1.1/5", "two lengths", head(END_STREAM, 1, &[("content-length", "0"), ("content-length", "1")])),
        served(
            "8.1.1/7",
            "one length, twice",
            [head(0, 1, &[("content-length", "1"), ("content-length", "1")]), data(END_STREAM, b"a")].concat(),
        ),
        ended("8.1.1/6", "a length that is no number", [post("x"), data(END_STREAM, b"a")].concat()),
    ]
}

fn continuations() -> Vec<Case> {
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let part = |flags, bytes: &[u8]| frame(CONTINUATION, flags, 1, bytes);
    let whole = block(&LINE);
    let (one, two) = whole.split_at(9);
    let served = |number, what, sends: Vec<u8>| case(number, what, sends, Want::Served(1));
    let broken = |number, what, sends: Vec<u8>, codes| case(number, what, sends, Want::GoAway(codes));
    vec![
        served(
            "6.10/1",
            "a head in three pieces",
            [frame(HEADERS, END_STREAM, 1, one), part(0, &[]), part(END_HEADERS, two)].concat(),
        ),
        broken(
            "6.10/2",
            "another frame between them",
            [frame(HEADERS, END_STREAM, 1, one), frame(PING, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.10/3",
            "a continuation on stream 0",
            [frame(HEADERS, END_STREAM, 1, one), frame(CONTINUATION, END_HEADERS, 0, two)].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.10/4",
            "a continuation of a whole head",
            [head(0, 1, &[]), part(END_HEADERS, two)].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.10/5",
            "a continuation after the last one",
            [frame(HEADERS, END_STREAM, 1, one), part(END_HEADERS, two), part(END_HEADERS, two)].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.10/6",
            "a continuation after data",
            [head(0, 1, &[]), data(0, b"a"), part(END_HEADERS, two)].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.10/7",
            "a continuation of another stream",
            [frame(HEADERS, END_STREAM, 1, one), frame(CONTINUATION, END_HEADERS, 3, two)].concat(),
            &[PROTOCOL],
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    [heads(), bodies(), continuations()].into_iter().flatten().collect()
}

#[tokio::test]
async fn malformed_heads_reach_nobody() {
    check(heads()).await;
}

#[tokio::test]
async fn bodies_trailers_and_continuations_are_as_the_rfc_says() {
    check(bodies()).await;
    check(continuations()).await;
}
