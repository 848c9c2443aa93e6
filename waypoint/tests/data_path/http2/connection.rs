//! Frames and what concerns the connection: sections 3 to 4, 6.5 to 6.8, 5.5, 7.

use super::*;

fn frames() -> Vec<Case> {
    let get = || head(END_STREAM, 1, &[]);
    let served = |number, what, first: Vec<u8>| case(number, what, [first, get()].concat(), Want::Served(1));
    let broken = |number, what, sends: Vec<u8>, codes| case(number, what, sends, Want::GoAway(codes));
    vec![
        served("3.4/1", "a preface and a request", vec![]),
        served("4.1/1", "a kind of frame that nobody knows", frame(0x16, 0, 0, b"12345678")),
        case("4.1/2", "flags that nobody knows", frame(PING, 0x16, 0, b"stillok?"), Want::Alive),
        // The bit before a stream's number.
        case("4.1/3", "a reserved bit", frame(PING, 0, 1 << 31, b"stillok?"), Want::Alive),
        case(
            "4.2/1",
            "data as long as a frame may be",
            [head(0, 1, &[]), frame(DATA, END_STREAM, 1, &vec![b'x'; 1 << 14])].concat(),
            Want::Served(1),
        ),
        broken(
            "4.2/2",
            "data that is longer",
            [head(0, 1, &[]), frame(DATA, END_STREAM, 1, &vec![b'x'; (1 << 14) + 1])].concat(),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "4.2/3",
            "a head that is longer",
            frame(HEADERS, WHOLE, 1, &vec![0; (1 << 14) + 1]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        served("5.5/1", "an extension", frame(0xff, 0xff, 7, &[1; 100])),
        broken(
            "5.5/2",
            "an extension within a head",
            [frame(HEADERS, END_STREAM, 1, &block(&LINE)), frame(0xff, 0, 1, &[1])].concat(),
            &[PROTOCOL],
        ),
        case("6.7/1", "a ping", vec![], Want::Alive),
        case("6.7/2", "an answer to no ping", frame(PING, ACK, 0, b"12345678"), Want::Alive),
        broken("6.7/3", "a ping on a stream", frame(PING, 0, 1, &[0; 8]), &[PROTOCOL]),
        broken("6.7/4", "a ping of six bytes", frame(PING, 0, 0, &[0; 6]), &[FRAME_SIZE, PROTOCOL]),
        broken("6.7/5", "a ping of nine bytes", frame(PING, 0, 0, &[0; 9]), &[FRAME_SIZE, PROTOCOL]),
        broken("6.8/1", "a goodbye on a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL]),
        broken("6.8/2", "a goodbye of four bytes", frame(GOAWAY, 0, 0, &[0; 4]), &[FRAME_SIZE, PROTOCOL]),
        Case {
            number: "7/1",
            what: "a goodbye for a reason that nobody knows",
            does: vec![Do::Send([get(), frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff])].concat())],
            // What was asked before is answered.
            wants: Want::Served(1),
        },
        case(
            "7/2",
            "a reset for a reason that nobody knows",
            [head(0, 1, &[]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])].concat(),
            Want::Alive,
        ),
    ]
}

fn of_settings() -> Vec<Case> {
    let served =
        |number, what, first: Vec<u8>| case(number, what, [first, head(END_STREAM, 1, &[])].concat(), Want::Served(1));
    let broken = |number, what, sends: Vec<u8>, codes| case(number, what, sends, Want::GoAway(codes));
    vec![
        served("6.5/0", "an acknowledgement of settings", frame(SETTINGS, ACK, 0, &[])),
        broken(
            "6.5/1",
            "an acknowledgement that says something",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken("6.5/2", "settings of a stream", frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 9]), &[PROTOCOL]),
        broken("6.5/3", "settings of three bytes", frame(SETTINGS, 0, 0, &[0; 3]), &[FRAME_SIZE, PROTOCOL]),
        broken("6.5.2/1", "push that is neither on nor off", settings(&[(2, 2)]), &[PROTOCOL]),
        broken("6.5.2/2", "a window that is too large", settings(&[(4, 1 << 31)]), &[FLOW_CONTROL, PROTOCOL]),
        broken("6.5.2/3", "frames that are too small", settings(&[(5, (1 << 14) - 1)]), &[PROTOCOL]),
        broken("6.5.2/4", "frames that are too large", settings(&[(5, 1 << 24)]), &[PROTOCOL]),
        served("6.5.2/5", "a setting that nobody knows", settings(&[(0xff, 1)])),
        served(
            "6.5.2/6",
            "every setting, thrice",
            settings(&[(1, 0), (2, 0), (3, 1), (5, 1 << 15), (6, 9000)]).repeat(3),
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    [frames(), of_settings()].into_iter().flatten().collect()
}

#[tokio::test]
async fn frames_and_connections_are_as_the_rfc_says() {
    check(cases()).await;
}

/// 3.4/2: whoever begins otherwise does not speak HTTP/2.
#[tokio::test]
async fn a_preface_that_is_none_is_no_connection() {
    let rig = Rig::serving(Service::default(), &[]);
    let mut stream = rig.connect(Protocol::Http2).await;
    stream.write_all(b"INVALID CONNECTION PREFACE\r\n\r\n").await.expect("write");
    let mut answer = Vec::new();
    soon("the end", stream.read_to_end(&mut answer)).await.ok();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
}

/// 6.5.3/2.
#[tokio::test]
async fn settings_are_acknowledged_at_once() {
    let rig = Rig::serving(Service::default(), &[]);
    let mut talk = Talk::begin(&rig).await;
    let (mut ours, mut acknowledged) = (0, 0);
    while ours + acknowledged < 2 {
        let frame = talk.next(&[SETTINGS]).await.expect("open");
        let counts = if frame.flags & ACK == 0 { &mut ours } else { &mut acknowledged };
        *counts += 1;
    }
    assert_eq!((ours, acknowledged), (1, 1));
    for _ in 0..3 {
        talk.send(&settings(&[(3, 50)])).await;
        assert_eq!(talk.next(&[SETTINGS]).await.expect("open").flags, ACK);
    }
}

/// §6 of l7-protocol: a client is told first that there is an end, and only then which request was the last.
#[tokio::test]
async fn goodbye_is_said_twice_and_loses_no_request() {
    let rig = Rig::serving(Service::default(), &[]);
    let endpoint = super::super::endpoints::echoing(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    let mut talk = Talk::begin(&rig).await;
    talk.send(&head(0, 1, &[])).await;
    super::super::rig::until("the request is under way", || rig.lane.active() == 1).await;
    rig.drain.start();
    let last = |frame: &Frame| u32::from_be_bytes(frame.payload[..4].try_into().expect("four"));
    let first = talk.next(&[GOAWAY]).await.expect("a goodbye");
    assert_eq!((last(&first), first.code()), ((1 << 31) - 1, 0));
    // It was on its way when the goodbye was said.
    talk.send(&head(END_STREAM, 3, &[])).await;
    loop {
        let frame = talk.frame().await.expect("open");
        match frame.kind {
            PING if frame.flags & ACK == 0 => talk.send(&super::frame(PING, ACK, 0, &frame.payload)).await,
            GOAWAY => break assert_eq!((last(&frame), frame.code()), (3, 0)),
            _ => {}
        }
    }
    talk.send(&super::frame(DATA, END_STREAM, 1, b"x")).await;
    assert!(talk.hear(1).await, "the first request is served to its end");
}
