//! What a client speaks, told from its first bytes (pure).
//!
//! In: what has come so far. Out: HTTP/1, HTTP/2, neither, or that more is needed. Absent on purpose: waiting for bytes.

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something else.
    Other,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request line that is longer is taken for something else.
pub const LINE_MAX: usize = 8 * 1024;

/// `None`: more bytes could change the answer.
pub fn detect(bytes: &[u8]) -> Option<Spoken> {
    let shared = bytes.len().min(PREFACE.len());
    if bytes[..shared] == PREFACE[..shared] {
        return (shared == PREFACE.len()).then_some(Spoken::Http2);
    }
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..line_end.unwrap_or(bytes.len())];
    // Empty lines ahead of a request line are allowed (RFC 9112 §2.2).
    if matches!(line, b"" | b"\r") && bytes.len() < LINE_MAX {
        return line_end.and_then(|end| detect(&bytes[end + 1..]));
    }
    let method_end = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
    if method_end == 0 || (method_end < line.len() && line[method_end] != b' ') {
        return Some(Spoken::Other);
    }
    match line_end {
        Some(_) => Some(if is_version(line) { Spoken::Http1 } else { Spoken::Other }),
        None if line.len() >= LINE_MAX => Some(Spoken::Other),
        None => None,
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_version(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    version.starts_with(b"HTTP/1.") && line.len() > version.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_from_their_first_bytes() {
        let rows: [(&[u8], Option<Spoken>); 14] = [
            (b"", None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"POST /x HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"\r\nGET / HTTP/1.0\n", Some(Spoken::Http1)),
            (b"GET / HTTP/1.1", None),
            (b"GET / SIP/2.0\r\n", Some(Spoken::Other)),
            (b"HELO me\r\n", Some(Spoken::Other)),
            (b"\x16\x03\x01\x02\x00", Some(Spoken::Other)),
            (b"\0\0\0\x08", Some(Spoken::Other)),
            (b"hello\n", Some(Spoken::Other)),
            (b"{\"a\":1}", Some(Spoken::Other)),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Some(Spoken::Other)),
        ];
        for (bytes, expected) in rows {
            assert_eq!(detect(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(detect(&[b'A'; LINE_MAX]), Some(Spoken::Other));
    }

    #[test]
    fn no_answer_changes_with_further_bytes() {
        for whole in [PREFACE, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01", b"EHLO x\r\n"] {
            let mut known = None;
            for end in 0..=whole.len() {
                let now = detect(&whole[..end]);
                assert!(known.is_none() || known == now, "{end} of {:?}", String::from_utf8_lossy(whole));
                known = now;
            }
            assert!(known.is_some());
        }
    }
}
