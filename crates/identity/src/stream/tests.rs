use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::*;
use crate::{
    cert::WorkloadCertificate,
    handshake::{accept, connect},
    testing::{A_DAY, TestCa, id},
};

const WEB: &str = "spiffe://cluster.local/ns/web/sa/front";
const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const SOON: Duration = Duration::from_secs(20);

type Ours = SecureStream<DuplexStream>;
type Theirs = TlsStream<DuplexStream>;

/// Certificates of two ends that accept each other.
struct Ends {
    web: WorkloadCertificate,
    shop: WorkloadCertificate,
}

impl Ends {
    fn new() -> Self {
        let ca = TestCa::new("root");
        Self { web: ca.leaf(&[WEB], A_DAY), shop: ca.leaf(&[SHOP], A_DAY) }
    }

    async fn ours_and_ours(&self, pipe: usize) -> (Ours, Ours) {
        let (near, far) = duplex(pipe);
        let (near, far) =
            tokio::join!(connect(near, &self.web, [id(SHOP)].into(), SOON), accept(far, &self.shop, SOON));
        (near.expect("client").stream, far.expect("server").stream)
    }

    /// Our client and rustls as the server.
    async fn ours_to_theirs(&self, pipe: usize, tickets: usize) -> (Ours, Theirs) {
        let mut config = (**self.shop.server_config()).clone();
        config.send_tls13_tickets = tickets;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(4);
        let (near, far) = duplex(pipe);
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(far);
        let (near, far) = tokio::join!(connect(near, &self.web, [id(SHOP)].into(), SOON), accepting);
        (near.expect("client").stream, far.expect("server").into())
    }

    /// Our server and rustls as the client.
    async fn theirs_to_ours(&self, pipe: usize) -> (Ours, Theirs) {
        let config = self.web.client_towards([id(SHOP)].into());
        let (near, far) = duplex(pipe);
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, near);
        let (near, far) = tokio::join!(connecting, accept(far, &self.shop, SOON));
        (far.expect("server").stream, near.expect("client").into())
    }
}

/// Writes `data` in random pieces, flushing now and then, and closes.
async fn write_all(to: impl AsyncWrite, data: &[u8], mut random: StdRng) {
    let mut to = std::pin::pin!(to);
    let mut rest = data;
    while !rest.is_empty() {
        let most = [10, 1_000, 20_000, 300_000][random.random_range(0..4)];
        let (now, later) = rest.split_at(random.random_range(1..=most).min(rest.len()));
        to.write_all(now).await.expect("write");
        if random.random_bool(0.3) {
            to.flush().await.expect("flush");
        }
        rest = later;
    }
    to.shutdown().await.expect("shutdown");
}

/// Reads to the end in random pieces.
async fn read_all(from: impl AsyncRead, mut random: StdRng) -> Vec<u8> {
    let mut from = std::pin::pin!(from);
    let mut all = Vec::new();
    loop {
        let most = [3, 500, 16_384, 100_000][random.random_range(0..4)];
        let mut piece = vec![0; random.random_range(1..=most)];
        match from.read(&mut piece).await.expect("read") {
            0 => return all,
            read => all.extend_from_slice(&piece[..read]),
        }
    }
}

fn random_bytes(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

/// Both ends write and read at once, and each hears exactly what the other said.
async fn exchange(one: impl AsyncRead + AsyncWrite, two: impl AsyncRead + AsyncWrite, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (there, back) = (random_bytes(&mut random, 700_000), random_bytes(&mut random, 300_000));
    let ((one_reads, one_writes), (two_reads, two_writes)) = (split(one), split(two));
    let mut seeds = || StdRng::seed_from_u64(random.next_u64());
    let (_, _, heard_there, heard_back) = tokio::join!(
        write_all(one_writes, &there, seeds()),
        write_all(two_writes, &back, seeds()),
        read_all(two_reads, seeds()),
        read_all(one_reads, seeds()),
    );
    assert!(heard_there == there && heard_back == back, "seed {seed}");
}

#[tokio::test]
async fn rustls_understands_us_and_we_understand_it() {
    let ends = Ends::new();
    for (seed, pipe) in [(2, 1_000), (3, 5_000), (4, 64 * 1024), (5, 1024 * 1024)] {
        let (ours, theirs) = ends.ours_to_theirs(pipe, 2).await;
        exchange(ours, theirs, seed).await;
        let (ours, theirs) = ends.theirs_to_ours(pipe).await;
        exchange(ours, theirs, seed).await;
        let (one, two) = ends.ours_and_ours(pipe).await;
        exchange(one, two, seed).await;
    }
}

async fn say(to: &mut (impl AsyncWrite + Unpin), words: &[u8]) {
    to.write_all(words).await.expect("write");
    to.flush().await.expect("flush");
}

async fn hear(from: &mut (impl AsyncRead + Unpin), words: &[u8]) {
    let mut heard = vec![0; words.len()];
    from.read_exact(&mut heard).await.expect("read");
    assert_eq!(heard, words);
}

fn refresh(theirs: &mut Theirs) {
    match theirs {
        TlsStream::Client(client) => client.get_mut().1.refresh_traffic_keys(),
        TlsStream::Server(server) => server.get_mut().1.refresh_traffic_keys(),
    }
    .expect("a key update");
}

#[tokio::test]
async fn keys_change_from_either_side() {
    let ends = Ends::new();
    for role in 0..2 {
        let (mut ours, mut theirs) = match role {
            0 => ends.ours_to_theirs(1 << 20, 2).await,
            _ => ends.theirs_to_ours(1 << 20).await,
        };
        for round in 0..40 {
            let words = format!("round {round} of {role}").repeat(1 + round * 50).into_bytes();
            match round % 4 {
                // rustls asks us to change as well; our next flush brings our update.
                0 => refresh(&mut theirs),
                1 => ours.change_due = true,
                2 => {
                    refresh(&mut theirs);
                    ours.change_due = true;
                }
                _ => {}
            }
            say(&mut theirs, &words).await;
            hear(&mut ours, &words).await;
            say(&mut ours, &words).await;
            hear(&mut theirs, &words).await;
            assert!(!ours.change_due, "the answer to a key update was not put off");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_worn_is_changed() {
    let (mut one, mut two) = Ends::new().ours_and_ours(1 << 20).await;
    one.outgoing.pretend_sealed(keys::RENEW_AFTER - 3);
    two.incoming.pretend_opened(keys::RENEW_AFTER - 3);
    for _ in 0..10 {
        say(&mut one, b"again").await;
        hear(&mut two, b"again").await;
    }
    assert!(one.outgoing.sealed_with_this_key() < 10, "another key is in use");
}

#[tokio::test]
async fn a_key_is_never_used_beyond_its_limit() {
    let (mut one, _two) = Ends::new().ours_and_ours(1 << 20).await;
    one.outgoing.pretend_sealed(keys::SEALED_MAX);
    let error = one.outgoing.put_message(Kind::ALERT, &messages::OUR_CLOSE).expect_err("used up");
    assert_eq!(error, StreamError::KeyUsedUp);
}

#[tokio::test]
async fn key_updates_without_end_are_refused() {
    let (mut one, mut two) = Ends::new().ours_and_ours(1 << 20).await;
    for _ in 0..33 {
        one.change_due = true;
        one.flush().await.expect("flush");
    }
    let error = two.read_u8().await.expect_err("refused");
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(reason, Some(&StreamError::TooManyMessages));
    // The other end is told.
    let error = one.read_u8().await.expect_err("told");
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(reason, Some(&StreamError::Alerted(10)));
}

#[tokio::test]
async fn an_end_without_its_alert_is_no_end() {
    let ends = Ends::new();
    let (mut ours, mut theirs) = ends.ours_to_theirs(1 << 20, 0).await;
    say(&mut theirs, b"all").await;
    drop(theirs);
    hear(&mut ours, b"all").await;
    assert_eq!(ours.read_u8().await.expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);

    let (mut ours, mut theirs) = ends.ours_to_theirs(1 << 20, 0).await;
    say(&mut theirs, b"all").await;
    theirs.shutdown().await.expect("shutdown");
    hear(&mut ours, b"all").await;
    assert_eq!(ours.read(&mut [0]).await.expect("an end"), 0);
    // The other direction is still open.
    say(&mut ours, b"more").await;
    hear(&mut theirs, b"more").await;
    ours.shutdown().await.expect("shutdown");
    assert_eq!(theirs.read(&mut [0]).await.expect("an end"), 0);
    let error = ours.write_all(b"late").await.expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// Carries what `from` writes to `to`, changed by `change`, until `from` closes.
async fn tamper(mut from: DuplexStream, mut to: DuplexStream, change: impl FnOnce(&mut Vec<u8>)) {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.expect("read");
    change(&mut all);
    // The reader may have given up already.
    let _given_up = to.write_all(&all).await;
}

/// Whatever is done to the records, what is delivered is the beginning of what was said, and the end is no clean one.
#[tokio::test]
async fn changed_records_never_pass() {
    let ends = Ends::new();
    for seed in 0..120 {
        let mut random = StdRng::seed_from_u64(seed);
        let said = random_bytes(&mut random, 40_000);
        let (mut one, mut two) = ends.ours_and_ours(1 << 20).await;
        let ((near, writer), (carrier, far)) = (duplex(1 << 20), duplex(1 << 20));
        (one.socket, two.socket) = (near, far);
        one.write_all(&said).await.expect("write");
        one.shutdown().await.expect("shutdown");
        drop(one);
        let change = |bytes: &mut Vec<u8>| match seed % 4 {
            0 => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            1 => bytes.truncate(random.random_range(0..bytes.len())),
            2 => {
                let at = random.random_range(0..bytes.len());
                let length = random.random_range(1..=bytes.len() - at);
                bytes.drain(at..at + length);
            }
            _ => {
                let (at, more) = (random.random_range(0..bytes.len()), random.random_range(1..20_000));
                let inserted = random_bytes(&mut random, more);
                bytes.splice(at..at, inserted);
            }
        };
        let mut heard = Vec::new();
        let (_, end) = tokio::join!(tamper(writer, carrier, change), two.read_to_end(&mut heard));
        assert!(said.starts_with(&heard), "seed {seed}");
        // Only what lies between the bits of the version is not authenticated by what it protects; nothing is: the
        // whole header is. So every change shows.
        assert!(end.is_err(), "seed {seed}: {} bytes and a clean end", heard.len());
    }
}

#[tokio::test]
async fn a_silent_connection_holds_no_buffers() {
    let (mut one, mut two) = Ends::new().ours_and_ours(1 << 20).await;
    for length in [1, 100_000] {
        let words = vec![7; length];
        say(&mut one, &words).await;
        hear(&mut two, &words).await;
        let quiet = tokio::time::timeout(Duration::from_millis(1), two.read_u8()).await;
        assert!(quiet.is_err());
        assert!(!one.outgoing.holds_a_buffer() && !two.incoming.holds_a_buffer());
    }
}

#[test]
fn messages_are_judged() {
    let check = |records: &[&[u8]], tickets, expected: Result<Told, StreamError>| {
        let mut messages = Messages::default();
        let mut last = Ok(Told::Nothing);
        for record in records {
            last = messages.take(record, tickets);
        }
        assert_eq!(last, expected, "{records:?}");
    };
    let update = Told::KeyUpdate { ours_too: true };
    check(&[&[24, 0, 0, 1, 1]], false, Ok(update));
    check(&[&[24, 0, 0, 1, 0]], false, Ok(Told::KeyUpdate { ours_too: false }));
    check(&[&[24, 0], &[0, 1], &[1]], false, Ok(update));
    check(&[&[24, 0, 0, 1, 2]], false, Err(StreamError::Malformed("key update")));
    check(&[&[24, 0, 0, 2, 1, 1]], false, Err(StreamError::Malformed("key update")));
    check(&[&[24, 0, 0, 1, 1, 4]], false, Err(StreamError::Malformed("key update")));
    check(&[&[4, 0, 0, 1, 9]], true, Ok(Told::Nothing));
    check(&[&[4, 0, 0, 1, 9, 24, 0, 0, 1, 1]], true, Ok(update));
    check(&[&[4, 0, 0, 1, 9]], false, Err(StreamError::UnexpectedMessage(4)));
    check(&[&[13, 0, 0, 0]], true, Err(StreamError::UnexpectedMessage(13)));
    check(&[&[]], true, Err(StreamError::Malformed("handshake message")));
    check(&[&[4, 255, 255, 255]], true, Err(StreamError::Malformed("handshake message")));
    let mut half = Messages::default();
    half.take(&[24, 0], false).expect("half a message");
    assert!(half.data().is_err(), "data came inside a message");
}

#[test]
fn any_bytes_are_judged_without_panic() {
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..20_000 {
        let length = random.random_range(0..40);
        let mut bytes = random_bytes(&mut random, length);
        // Mostly near what is legal, or nothing but the first check is tried.
        if let Some(first) = bytes.first_mut() {
            *first = [4, 24, 23, 21][random.random_range(0..4)];
        }
        bytes.iter_mut().skip(1).take(3).for_each(|byte| *byte %= 3);
        let mut messages = Messages::default();
        let (one, two) = bytes.split_at(random.random_range(0..=bytes.len()));
        let _judged = (messages.take(one, true), messages.take(two, true), messages.data());
        let _alert = messages::alert(&bytes);
        if let Ok(keys::Front::Record(length)) = keys::front(&bytes) {
            assert!(length <= bytes.len());
        }
    }
}
