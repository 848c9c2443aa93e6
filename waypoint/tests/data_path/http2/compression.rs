//! The compression of heads: RFC 7541.

use super::*;

/// GET http://a/ of the static table, but for the authority.
const GET: [u8; 3] = [0x82, 0x86, 0x84];

fn get(stream: u32, authority: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &[&GET[..], authority].concat())
}

pub fn cases() -> Vec<Case> {
    let served = |number, what, authority: &[u8]| case(number, what, get(1, authority), Want::Served(1));
    let broken =
        |number, what, authority: &[u8]| case(number, what, get(1, authority), Want::GoAway(&[COMPRESSION, PROTOCOL]));
    let plain = b"\x01\x01a";
    let sized = |update: &[u8]| [update, &GET[..], plain].concat();
    vec![
        served("HPACK 6.2.1/1", "a name of the table, and the field is kept", b"\x41\x01a"),
        served("HPACK 6.2.1/2", "a new name, and the field is kept", b"\x01\x01a\x40\x03x-a\x011"),
        served("HPACK 6.2.2/1", "a name of the table, and nothing is kept", plain),
        served("HPACK 6.2.2/2", "a new name, and nothing is kept", b"\x01\x01a\x00\x03x-a\x011"),
        served("HPACK 6.2.3/1", "a name of the table, never to be kept", b"\x11\x01a"),
        served("HPACK 6.2.3/2", "a new name, never to be kept", b"\x01\x01a\x10\x03x-a\x011"),
        served("HPACK 5.2/0", "Huffman's code", b"\x41\x81\x1f"),
        Case {
            number: "HPACK 2.3.2/1",
            what: "a field of the request before",
            does: vec![Do::Send(get(1, b"\x41\x01a")), Do::Hear(1), Do::Send(get(3, &[0xbe]))],
            wants: Want::Served(3),
        },
        case("HPACK 4.2/0", "a smaller table", frame(HEADERS, WHOLE, 1, &sized(&[0x20])), Want::Served(1)),
        case(
            "HPACK 6.3/0",
            "a smaller table and the usual one again",
            frame(HEADERS, WHOLE, 1, &sized(&[0x20, 0x3f, 0xe1, 0x1f])),
            Want::Served(1),
        ),
        broken("HPACK 2.3.3/1", "an entry that is not there", &[0xc6]),
        broken("HPACK 2.3.3/2", "a name that is not there", b"\x7f\x07\x01a"),
        broken("HPACK 4.2/1", "another size at the end of a head", b"\x01\x01a\x20"),
        broken("HPACK 5.1/1", "a number without end", b"\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        broken("HPACK 5.2/1", "a code with a whole byte too many", b"\x41\x82\x1f\xff"),
        broken("HPACK 5.2/2", "a code that ends in zeros", b"\x41\x81\x18"),
        broken("HPACK 5.2/3", "a code with its end within", b"\x41\x84\xff\xff\xff\xff"),
        broken("HPACK 5.2/4", "a text that is longer than the head", b"\x41\x05a"),
        broken("HPACK 6.1/1", "entry 0", &[0x80]),
        case(
            "HPACK 6.3/1",
            "a table that is larger than we said",
            frame(HEADERS, WHOLE, 1, &sized(&[0x3f, 0xe2, 0x1f])),
            Want::GoAway(&[COMPRESSION, PROTOCOL]),
        ),
    ]
}

#[tokio::test]
async fn heads_are_compressed_as_the_rfc_says() {
    check(cases()).await;
}
