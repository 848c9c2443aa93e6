//! TLS records of 16 KB, after a real handshake. AES-128-GCM, as between two of our own.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use lateen_identity::{
    cert::{PrivateKey, WorkloadCertificate},
    handshake::{HANDSHAKE_TIMEOUT, accept, connect},
    stream::SecureStream,
};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Builder,
};

use super::Operation;
use crate::count::{TIMES, WARM};

const RECORD: usize = 16 * 1024;
const WHO: &str = "spiffe://cluster.local/ns/shop/sa/web";

pub(super) fn seal() -> Operation {
    let (mut near, _far) = secured();
    let plain = vec![7; RECORD];
    Box::new(move || {
        write(&mut near, &plain);
        near.get_ref().forget_sent();
    })
}

pub(super) fn open() -> Operation {
    let (mut near, mut far) = secured();
    let plain = vec![7; RECORD];
    // All of them before the first is opened: what is counted is opening alone.
    for _ in 0..WARM + TIMES {
        write(&mut near, &plain);
    }
    let mut opened = vec![0; RECORD];
    Box::new(move || {
        let mut into = ReadBuf::new(&mut opened);
        while into.remaining() > 0 {
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut far).poll_read(&mut context, &mut into) {
                Poll::Ready(Ok(())) => {}
                other => panic!("the record is there, but: {other:?}"),
            }
        }
    })
}

fn write(stream: &mut SecureStream<End>, plain: &[u8]) {
    let mut context = Context::from_waker(Waker::noop());
    let written = Pin::new(&mut *stream).poll_write(&mut context, plain);
    assert!(matches!(written, Poll::Ready(Ok(RECORD))), "all of it is taken");
    assert!(matches!(Pin::new(stream).poll_flush(&mut context), Poll::Ready(Ok(()))), "all of it is sent");
}

/// Both ends of a connection, after the handshake.
fn secured() -> (SecureStream<End>, SecureStream<End>) {
    let ours = certificate();
    let (near, far) = End::pair();
    let who = [WHO.parse().expect("an identity")].into();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (near, far) = runtime.block_on(async {
        tokio::join!(connect(near, &ours, who, HANDSHAKE_TIMEOUT), accept(far, &ours, HANDSHAKE_TIMEOUT))
    });
    (near.expect("the client's side").stream, far.expect("the server's side").stream)
}

fn certificate() -> WorkloadCertificate {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(authority, key()).expect("a CA");
    let (of_leaf, mut leaf) = (key(), CertificateParams::default());
    leaf.subject_alt_names = vec![SanType::URI(WHO.try_into().expect("a URI"))];
    let chain = leaf.signed_by(&of_leaf, &issuer).expect("a certificate").pem();
    let key = PrivateKey::from_pkcs8(of_leaf.serialize_der());
    WorkloadCertificate::from_pem_elements(&[chain, issuer.pem()], key).expect("usable")
}

/// One end of a pipe that takes everything.
#[derive(Debug)]
struct End {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
}

#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    read: usize,
    reader: Option<Waker>,
}

impl End {
    fn pair() -> (Self, Self) {
        let (a, b) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
        (Self { incoming: a.clone(), outgoing: b.clone() }, Self { incoming: b, outgoing: a })
    }

    fn forget_sent(&self) {
        let mut pipe = self.outgoing.lock();
        pipe.bytes.clear();
        pipe.read = 0;
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.incoming.lock();
        let waiting = &pipe.bytes[pipe.read..];
        if waiting.is_empty() {
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..length]);
        pipe.read += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing.lock();
        pipe.bytes.extend_from_slice(bytes);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
