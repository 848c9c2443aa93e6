//! What ties a request to others: its id and its trace.
//!
//! In: a request's headers. Out: the same, with an id, and with the beginning of a trace where the client sent none. What the
//! client sent is passed on unchanged: no span of ours is reported, so a span id of ours would only break the chain.

use http::{HeaderMap, HeaderName, HeaderValue};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Any of these says that the client has a trace already.
const B3: [HeaderName; 2] = [HeaderName::from_static("b3"), HeaderName::from_static("x-b3-traceid")];

/// Whether a client's own request id is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// It comes from the mesh.
    Kept,
    /// It comes from outside, and could repeat another one's.
    Replaced,
}

/// Gives the request an id and a trace. `random` are bits that nobody can foresee.
pub fn settle(headers: &mut HeaderMap, ids: Ids, random: impl Fn() -> u128) {
    if ids == Ids::Replaced || !headers.contains_key(&REQUEST_ID) {
        headers.insert(&REQUEST_ID, uuid(random()));
    }
    let given = headers.get(&TRACEPARENT).map(|value| is_traceparent(value.as_bytes()));
    match given {
        Some(true) => return,
        // W3C Trace Context §4.3: what cannot be read is begun anew, and its state means nothing then.
        Some(false) => drop(headers.remove(&TRACESTATE)),
        None if B3.iter().any(|name| headers.contains_key(name)) => return,
        None => {}
    }
    headers.insert(&TRACEPARENT, traceparent(random(), random()));
}

/// A version 4 UUID. The version's digit says that the request is not traced, as in the reference.
fn uuid(random: u128) -> HeaderValue {
    let bits = random & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let mut text = [b'-'; 36];
    for (digits, shift) in [(0..8, 96), (9..13, 80), (14..18, 64), (19..23, 48), (24..36, 0)] {
        write_hex(&mut text[digits], bits >> shift);
    }
    value(&text)
}

/// A trace that nobody samples so far. Neither id may be zero.
fn traceparent(trace: u128, span: u128) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text[3..35], trace | 1);
    write_hex(&mut text[36..52], span >> 64 | 1);
    value(&text)
}

/// The last digits of `bits`, as many as there is room for. By hand, as both ids are written for each request: what `write!`
/// does around it costs more than the digits.
fn write_hex(room: &mut [u8], mut bits: u128) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(bits & 0xf) as usize];
        bits >>= 4;
    }
}

fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// W3C Trace Context §3.2.
fn is_traceparent(text: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let is_some = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let parts: [&[u8]; 4] = match text.get(..55) {
        Some(first) => [&first[..2], &first[3..35], &first[36..52], &first[53..55]],
        None => return false,
    };
    let dashes = [2, 35, 52].iter().all(|at| text[*at] == b'-');
    let [version, trace, span, flags] = parts;
    let length = if version == b"00" { text.len() == 55 } else { text.len() == 55 || text[55] == b'-' };
    let hex = [version, trace, span, flags].into_iter().all(is_hex);
    dashes && hex && length && version != b"ff" && is_some(trace) && is_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settled(given: &[(&'static str, &'static str)], ids: Ids) -> Vec<(String, String)> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers: HeaderMap = given.iter().map(pair).collect();
        settle(&mut headers, ids, || u128::MAX);
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
        all.sort();
        all
    }

    const MADE: &str = "ffffffff-ffff-4fff-bfff-ffffffffffff";
    const BEGUN: &str = "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-00";

    #[test]
    fn a_request_has_an_id_and_a_trace() {
        for (given, ids, expected) in [
            (&[][..], Ids::Kept, vec![("traceparent", BEGUN), ("x-request-id", MADE)]),
            (&[("x-request-id", "mine")], Ids::Kept, vec![("traceparent", BEGUN), ("x-request-id", "mine")]),
            (&[("x-request-id", "mine")], Ids::Replaced, vec![("traceparent", BEGUN), ("x-request-id", MADE)]),
            (
                &[("traceparent", W3C), ("tracestate", "a=b")],
                Ids::Kept,
                vec![("traceparent", W3C), ("tracestate", "a=b"), ("x-request-id", MADE)],
            ),
            (
                &[("traceparent", "00-x"), ("tracestate", "a=b")],
                Ids::Kept,
                vec![("traceparent", BEGUN), ("x-request-id", MADE)],
            ),
            (&[("b3", "1-2-3")], Ids::Kept, vec![("b3", "1-2-3"), ("x-request-id", MADE)]),
            (&[("x-b3-traceid", "1")], Ids::Kept, vec![("x-b3-traceid", "1"), ("x-request-id", MADE)]),
        ] {
            let found = settled(given, ids);
            let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{given:?} {ids:?}");
        }
    }

    #[test]
    fn ids_are_their_digits() {
        let bits = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(uuid(bits), "01234567-89ab-4def-8123-456789abcdef");
        let trace = traceparent(bits << 4, bits);
        assert_eq!(trace, "00-123456789abcdef0123456789abcdef1-0123456789abcdef-00");
        assert_eq!(traceparent(0, 0), "00-00000000000000000000000000000001-0000000000000001-00");
    }

    #[test]
    fn only_a_traceparent_is_one() {
        assert!(is_traceparent(W3C.as_bytes()));
        let longer = format!("cc{}-x", &W3C[2..]);
        assert!(is_traceparent(longer.as_bytes()), "of a later version more may follow");
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }
}
