//! The states of streams, their numbers, priorities and resets: sections 5.1 to 5.3, 6.1 to 6.4.

use super::*;

/// Does the first, waits for its answer, and does the second.
fn after(number: &'static str, what: &'static str, first: Vec<u8>, second: Vec<u8>, wants: Want) -> Case {
    Case { number, what, does: vec![Do::Send(first), Do::Hear(1), Do::Send(second)], wants }
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat())
}

fn states() -> Vec<Case> {
    let get = || head(END_STREAM, 1, &[]);
    let data = || frame(DATA, END_STREAM, 1, b"x");
    let more = || frame(CONTINUATION, END_HEADERS, 1, &block(&[("x-a", "1")]));
    let broken = |number, what, sends: Vec<u8>, codes| case(number, what, sends, Want::GoAway(codes));
    let ended = |number, what, sends: Vec<u8>, codes| case(number, what, sends, Want::Ended(codes));
    vec![
        broken("5.1/1", "data of an idle stream", data(), &[PROTOCOL]),
        broken("5.1/2", "a reset of an idle stream", reset(1), &[PROTOCOL]),
        broken("5.1/3", "a window of an idle stream", window(1, 100), &[PROTOCOL]),
        broken("5.1/4", "a continuation of an idle stream", more(), &[PROTOCOL]),
        ended("5.1/5", "data after the end", [head(END_STREAM, 1, &[]), data()].concat(), &[CLOSED, PROTOCOL]),
        ended("5.1/6", "a head after the end", [get(), head(END_STREAM, 1, &[])].concat(), &[CLOSED, PROTOCOL]),
        broken("5.1/7", "a continuation after the end", [get(), more()].concat(), &[CLOSED, PROTOCOL]),
        ended("5.1/8", "data after a reset", [head(0, 1, &[]), reset(1), data()].concat(), &[CLOSED]),
        ended("5.1/9", "a head after a reset", [head(0, 1, &[]), reset(1), get()].concat(), &[CLOSED, PROTOCOL]),
        broken(
            "5.1/10",
            "a continuation after a reset",
            [head(0, 1, &[]), reset(1), more()].concat(),
            &[CLOSED, PROTOCOL],
        ),
        after("5.1/11", "data of a closed stream", get(), data(), Want::Ended(&[CLOSED, PROTOCOL])),
        after("5.1/12", "a head of a closed stream", get(), get(), Want::Ended(&[CLOSED, PROTOCOL])),
        after("5.1/13", "a continuation of a closed stream", get(), more(), Want::GoAway(&[CLOSED, PROTOCOL])),
        after("5.1/14", "a window of a closed stream", get(), window(1, 10), Want::Alive),
        after("5.1/15", "a reset of a closed stream", get(), reset(1), Want::Alive),
        after("5.1/16", "a priority of a closed stream", get(), priority(1, 0, 9), Want::Alive),
        after("5.1/17", "another stream after it", get(), get_on(3), Want::Served(3)),
        broken("5.1.1/1", "a stream of a server's", head(END_STREAM, 2, &[]), &[PROTOCOL]),
        after(
            "5.1.1/2",
            "a lower number after a higher one",
            [head(0, 1, &[]), frame(DATA, END_STREAM, 1, b"")].concat(),
            [get_on(5), get_on(3)].concat(),
            Want::GoAway(&[PROTOCOL]),
        ),
        case(
            "5.1.2/1",
            "more streams than there may be",
            (0..101).flat_map(|at| head(0, 2 * at + 1, &[])).collect(),
            Want::Ended(&[REFUSED, PROTOCOL]),
        ),
    ]
}

fn get_on(stream: u32) -> Vec<u8> {
    head(END_STREAM, stream, &[])
}

fn kinds() -> Vec<Case> {
    let broken = |number, what, sends: Vec<u8>, codes| case(number, what, sends, Want::GoAway(codes));
    let served = |number, what, sends: Vec<u8>| case(number, what, sends, Want::Served(1));
    let whole = block(&LINE);
    let padded = |by: u8| [&[by][..], &block(&LINE), &vec![0; by.into()]].concat();
    let begun = |payload: Vec<u8>| [head(0, 1, &[]), frame(DATA, PADDED | END_STREAM, 1, &payload)].concat();
    vec![
        broken("6.1/1", "data on stream 0", frame(DATA, END_STREAM, 0, b"x"), &[PROTOCOL]),
        served(
            "6.1/2",
            "data in pieces",
            [head(0, 1, &[]), frame(DATA, 0, 1, b"a"), frame(DATA, 0, 1, b""), frame(DATA, END_STREAM, 1, b"b")]
                .concat(),
        ),
        served("6.1/3", "padded data", begun([&[3][..], b"abc", &[0; 3]].concat())),
        broken("6.1/4", "more padding than data", begun(vec![9, 1, 2, 3]), &[PROTOCOL]),
        broken("6.1/5", "padding of nothing at all", begun(vec![]), &[PROTOCOL, FRAME_SIZE]),
        served("6.2/1", "a padded head", frame(HEADERS, WHOLE | PADDED, 1, &padded(5))),
        broken(
            "6.2/2",
            "a head with more padding than there is",
            frame(HEADERS, WHOLE | PADDED, 1, &[9, 0x82]),
            &[PROTOCOL],
        ),
        broken("6.2/3", "a head on stream 0", frame(HEADERS, WHOLE, 0, &whole), &[PROTOCOL]),
        broken(
            "6.2/4",
            "a priority within a head",
            [frame(HEADERS, END_STREAM, 1, &whole), priority(1, 0, 1)].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.2/5",
            "a head within another one",
            [frame(HEADERS, END_STREAM, 1, &whole), get_on(3)].concat(),
            &[PROTOCOL],
        ),
        broken(
            "6.2/6",
            "data within a head",
            [frame(HEADERS, 0, 1, &whole), frame(DATA, END_STREAM, 1, b"x")].concat(),
            &[PROTOCOL],
        ),
        broken("6.3/1", "a priority on stream 0", priority(0, 1, 1), &[PROTOCOL]),
        case("6.3/2", "a priority of four bytes", frame(PRIORITY, 0, 1, &[0; 4]), Want::Ended(&[FRAME_SIZE, PROTOCOL])),
        case("6.4/0", "a reset of a request", [head(0, 1, &[]), reset(1)].concat(), Want::Alive),
        broken("6.4/1", "a reset on stream 0", reset(0), &[PROTOCOL]),
        broken(
            "6.4/2",
            "a reset of three bytes",
            [head(0, 1, &[]), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "8.4/1",
            "a push of a client's",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &whole].concat()),
            &[PROTOCOL],
        ),
    ]
}

fn priorities() -> Vec<Case> {
    let served = |number, what, sends: Vec<u8>| case(number, what, sends, Want::Served(1));
    let whole = block(&LINE);
    let weighted = |on: u32| frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[&on.to_be_bytes()[..], &[9], &whole].concat());
    vec![
        // Priorities mean nothing any more (RFC 9113 §5.3); what they are written in does.
        served("5.3/1", "a head with a priority", weighted(0)),
        served("5.3/2", "a head that follows an idle stream alone", weighted(1 << 31 | 7)),
        served("5.3/3", "a priority before its stream", [priority(1, 0, 255), get_on(1)].concat()),
        served("5.3/4", "a priority of a stream that never comes", [priority(9, 3, 0), get_on(1)].concat()),
        served(
            "5.3/5",
            "a priority within a request",
            [head(0, 1, &[]), priority(1, 0, 1), frame(DATA, END_STREAM, 1, b"")].concat(),
        ),
        case("5.3.1/1", "a head that follows itself", weighted(1), Want::Ended(&[PROTOCOL])),
    ]
}

pub fn cases() -> Vec<Case> {
    [states(), kinds(), priorities()].into_iter().flatten().collect()
}

#[tokio::test]
async fn streams_have_states() {
    check(states()).await;
}

#[tokio::test]
async fn frames_of_streams_are_as_the_rfc_says() {
    check(kinds()).await;
    check(priorities()).await;
}
