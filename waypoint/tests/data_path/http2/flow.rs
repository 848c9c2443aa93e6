//! Flow control: section 6.9.

use super::*;

/// The errors.
#[tokio::test]
async fn windows_are_as_the_rfc_says() {
    let most = (1 << 31) - 1;
    let begun = |more: Vec<u8>| [head(0, 1, &[]), more].concat();
    check(vec![
        case("6.9/1", "nothing more for the connection", window(0, 0), Want::GoAway(&[PROTOCOL])),
        case("6.9/2", "nothing more for a stream", begun(window(1, 0)), Want::Ended(&[PROTOCOL])),
        case(
            "6.9/3",
            "an update of three bytes",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            Want::GoAway(&[FRAME_SIZE, PROTOCOL]),
        ),
        case(
            "6.9.1/2",
            "too much for the connection",
            [window(0, most), window(0, most)].concat(),
            Want::GoAway(&[FLOW_CONTROL]),
        ),
        case(
            "6.9.1/3",
            "too much for a stream",
            begun([window(1, most), window(1, most)].concat()),
            Want::Ended(&[FLOW_CONTROL]),
        ),
        case(
            "6.9.2/3",
            "too much for all streams",
            begun([window(1, most - 65_535), settings(&[(4, 65_536)])].concat()),
            Want::Ended(&[FLOW_CONTROL]),
        ),
        case("6.9/4", "more for the connection", [window(0, 100), head(END_STREAM, 1, &[])].concat(), Want::Served(1)),
        case(
            "6.9/5",
            "more for a stream",
            begun([window(1, 100), frame(DATA, END_STREAM, 1, b"")].concat()),
            Want::Served(1),
        ),
    ])
    .await;
}

async fn asked(first: &[(u16, u32)]) -> (Rig, Talk) {
    let rig = Rig::serving(Service::default(), &[]);
    let endpoint = super::super::endpoints::echoing(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    let mut talk = Talk::begin(&rig).await;
    talk.send(&[settings(first), head(END_STREAM, 1, &[])].concat()).await;
    (rig, talk)
}

impl Talk {
    /// How long the next data is.
    async fn data(&mut self) -> usize {
        self.next(&[DATA]).await.expect("some data").payload.len()
    }

    /// Nothing comes that the window does not allow.
    async fn is_silent(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, b"anything")).await;
        self.next(&[DATA, PING]).await.expect("open").kind == PING
    }
}

/// 6.9.1/1.
#[tokio::test]
async fn no_more_is_sent_than_fits() {
    let (_rig, mut talk) = asked(&[(4, 1)]).await;
    assert_eq!(talk.data().await, 1);
    assert!(talk.is_silent().await);
    talk.send(&window(1, 5)).await;
    assert_eq!(talk.data().await, 5);
}

/// 6.9.2/1.
#[tokio::test]
async fn a_new_size_holds_for_streams_that_are_open() {
    let (_rig, mut talk) = asked(&[(4, 0)]).await;
    assert!(talk.next(&[HEADERS]).await.is_some() && talk.is_silent().await);
    talk.send(&settings(&[(4, 1)])).await;
    assert_eq!(talk.data().await, 1);
}

/// 6.9.2/2.
#[tokio::test]
async fn a_window_may_be_less_than_nothing() {
    let (_rig, mut talk) = asked(&[(4, 3)]).await;
    assert_eq!(talk.data().await, 3);
    talk.send(&settings(&[(4, 2)])).await;
    talk.send(&window(1, 1)).await;
    assert!(talk.is_silent().await, "it is zero now");
    talk.send(&window(1, 1)).await;
    assert_eq!(talk.data().await, 1);
}

/// 6.5.3/1: what is said in one frame counts in its order.
#[tokio::test]
async fn the_last_of_several_sizes_counts() {
    let (_rig, mut talk) = asked(&[(4, 100), (4, 1)]).await;
    assert_eq!(talk.data().await, 1);
}
