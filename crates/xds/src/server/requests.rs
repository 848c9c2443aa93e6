//! The requests of a stream, out of the bytes of its HTTP body.
//!
//! In: a body of gRPC frames. Out: requests, one after the other.
//! tonic's own decoder keeps the memory of the largest message for as long as the stream lives. A proxy that reconnects names
//! all it holds, some megabytes, and after a restart of ours a thousand do at once: here a large request is read
//! while few others are, and its memory is given back. Absent on purpose: compression, which we never offer.

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http_body_util::BodyDataStream;
use lateen_wire::discovery::DeltaDiscoveryRequest;
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::{Status, body::Body};

/// The most one request may take: a proxy that reconnects names all it holds, about 100 bytes each.
pub const REQUEST_MAX: usize = 64 * 1024 * 1024;
/// From here on a request waits for a place. Only those that name thousands of resources do.
const LARGE: usize = 256 * 1024;
/// After a longer request the buffer's memory is given back.
const KEPT: usize = 16 * 1024;
/// Large requests read at a time.
const READERS: usize = 16;
/// For the whole of a large request, from when it has a place: a client that sends it in drops keeps nobody waiting for long.
const LARGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Whether it is compressed, and its length.
const HEAD: usize = 5;

/// Places for those who read large requests; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

struct Reading {
    pieces: BodyDataStream<Body>,
    buffer: BytesMut,
    readers: Readers,
    /// Held until then at most, while a large request is read.
    place: Option<(OwnedSemaphorePermit, Instant)>,
}

/// The requests in `body`, until it ends or is wrong.
pub(super) fn requests(
    body: Body,
    readers: Readers,
) -> impl Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Send + Unpin + 'static {
    let reading = Reading { pieces: BodyDataStream::new(body), buffer: BytesMut::new(), readers, place: None };
    Box::pin(stream::try_unfold(reading, |mut reading| async move {
        let request = reading.next().await?;
        Ok(request.map(|request| (request, reading)))
    }))
}

impl Reading {
    async fn next(&mut self) -> Result<Option<DeltaDiscoveryRequest>, Status> {
        loop {
            let awaited = match frame(&self.buffer)? {
                Frame::Whole(length) => return self.take(length).map(Some),
                Frame::Part(length) => length,
            };
            let piece = if awaited < LARGE {
                self.pieces.next().await
            } else {
                let until = self.take_place(awaited).await?;
                let piece = timeout_at(until, self.pieces.next()).await;
                let late = || Status::deadline_exceeded(format!("a large request took longer than {LARGE_TIMEOUT:?}"));
                piece.map_err(|_elapsed| late())?
            };
            match piece {
                Some(piece) => self.buffer.extend_from_slice(&piece?),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::invalid_argument("the stream ends within a request")),
            }
        }
    }

    /// Waits for a place, unless it has one; until when it may keep it.
    async fn take_place(&mut self, awaited: usize) -> Result<Instant, Status> {
        if let Some((_, until)) = &self.place {
            return Ok(*until);
        }
        let place = self.readers.0.clone().acquire_owned().await;
        let place = place.map_err(|_closed| Status::unavailable("the control plane is shutting down"))?;
        let until = Instant::now() + LARGE_TIMEOUT;
        self.place = Some((place, until));
        self.buffer.reserve(HEAD + awaited - self.buffer.len().min(awaited));
        Ok(until)
    }

    fn take(&mut self, length: usize) -> Result<DeltaDiscoveryRequest, Status> {
        self.buffer.advance(HEAD);
        let request = DeltaDiscoveryRequest::decode(self.buffer.split_to(length));
        self.place = None;
        if length > KEPT {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        request.map_err(|error| Status::invalid_argument(format!("a request cannot be read: {error}")))
    }
}

enum Frame {
    /// A request of so many bytes, head not counted, is there.
    Whole(usize),
    /// Not yet; so many are to come at least as far as is known.
    Part(usize),
}

fn frame(buffer: &[u8]) -> Result<Frame, Status> {
    let Some((head, rest)) = buffer.split_first_chunk::<HEAD>() else { return Ok(Frame::Part(0)) };
    let [compressed, a, b, c, d] = *head;
    if compressed != 0 {
        return Err(Status::unimplemented("requests must not be compressed"));
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > REQUEST_MAX {
        return Err(Status::resource_exhausted(format!("a request of {length} bytes is over {REQUEST_MAX}")));
    }
    Ok(if rest.len() < length { Frame::Part(length) } else { Frame::Whole(length) })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use http_body_util::StreamBody;
    use hyper::body::Frame as BodyFrame;

    use super::*;

    fn request(names: usize) -> DeltaDiscoveryRequest {
        let held = (0..names).map(|name| (format!("Kubernetes//Pod/shop/p-{name}"), "0".repeat(32)));
        DeltaDiscoveryRequest { initial_resource_versions: held.collect(), ..DeltaDiscoveryRequest::default() }
    }

    fn framed(request: &DeltaDiscoveryRequest) -> Vec<u8> {
        let bytes = request.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
        frame.extend(bytes);
        frame
    }

    /// A body in pieces of so many bytes.
    fn body(bytes: &[u8], piece: usize) -> Body {
        let pieces: Vec<Bytes> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(BodyFrame::data(piece)));
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn requests_are_read_however_they_are_cut() {
        let all = [request(0), request(3), request(10_000), request(1)];
        let bytes: Vec<u8> = all.iter().flat_map(framed).collect();
        for piece in [1, 7, 16_384, bytes.len()] {
            let read: Vec<_> = requests(body(&bytes, piece), Readers::default()).collect().await;
            let read: Result<Vec<_>, _> = read.into_iter().collect();
            assert_eq!(read.expect("requests"), all, "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn the_memory_of_a_large_request_is_given_back() {
        let bytes: Vec<u8> = [request(10_000), request(1)].iter().flat_map(framed).collect();
        let pieces = BodyDataStream::new(body(&bytes, 10_000));
        let readers = Readers::default();
        let mut reading = Reading { pieces, buffer: BytesMut::new(), readers: readers.clone(), place: None };
        for _ in 0..2 {
            reading.next().await.expect("a request").expect("a request");
            assert!(reading.buffer.capacity() < LARGE && reading.place.is_none());
        }
        assert_eq!(readers.0.available_permits(), READERS);
        assert_eq!(reading.next().await.expect("the end"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_in_drops_gives_its_place_up() {
        let bytes = framed(&request(10_000));
        let drops = stream::unfold(bytes.into_iter(), |mut left| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let drop = Bytes::from(vec![left.next()?]);
            Some((Ok::<_, Infallible>(BodyFrame::data(drop)), left))
        });
        let readers = Readers::default();
        let mut read = requests(Body::new(StreamBody::new(drops)), readers.clone());
        let end = read.next().await.expect("an end").expect_err("an error");
        assert_eq!(end.code(), tonic::Code::DeadlineExceeded);
        drop(read);
        assert_eq!(readers.0.available_permits(), READERS);
    }

    #[tokio::test]
    async fn what_is_wrong_ends_the_stream() {
        let mut compressed = framed(&request(1));
        compressed[0] = 1;
        let mut endless = framed(&request(1));
        endless[1] = 0xff;
        let cut = &framed(&request(1))[..20];
        let nonsense = [0, 0, 0, 0, 1, 0xff];
        for (bytes, code) in [
            (&compressed[..], tonic::Code::Unimplemented),
            (&endless[..], tonic::Code::ResourceExhausted),
            (cut, tonic::Code::InvalidArgument),
            (&nonsense[..], tonic::Code::InvalidArgument),
        ] {
            let mut read = requests(body(bytes, 4), Readers::default());
            let end = read.next().await.expect("an end").expect_err("an error");
            assert_eq!(end.code(), code);
            assert!(read.next().now_or_never().flatten().is_none());
        }
    }
}
