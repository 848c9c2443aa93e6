//! A stream's responses as the body of its HTTP answer.
//!
//! In: responses, or the status that ends them. Out: gRPC frames, each of a buffer just as long as it is, and trailers.
//! tonic's own encoder keeps, for as long as the stream lives, a buffer as large as the largest response it wrote: after a
//! first picture that is a megabyte for each proxy.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use lateen_wire::encoded::Response;
use prost::Message as _;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{self, header},
};

use super::Responses;

/// The call that is answered here.
pub const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The answer to a call of [`METHOD`].
pub fn answer(responses: Responses) -> http::Response<Body> {
    let frames = stream::unfold(Some(responses), |responses| async move {
        let mut responses = responses?;
        Some(match responses.next().await {
            Some(Ok(response)) => (Ok::<_, Infallible>(Frame::data(framed(&response))), Some(responses)),
            Some(Err(status)) => (Ok(Frame::trailers(trailers(&status))), None),
            None => (Ok(Frame::trailers(trailers(&Status::new(Code::Ok, "")))), None),
        })
    });
    let mut answer = http::Response::new(Body::new(StreamBody::new(frames)));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    answer
}

/// Not compressed, its length, its bytes.
fn framed(response: &Response) -> Bytes {
    let length = response.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("a response has a bound"));
    response.encode(&mut frame).expect("the buffer grows as it must");
    frame.freeze()
}

fn trailers(status: &Status) -> header::HeaderMap {
    let mut all = header::HeaderMap::new();
    // Fails where a message cannot be a header; then the stream ends without a status, which clients take for an error.
    if status.add_header(&mut all).is_err() {
        tracing::debug!(%status, "a status cannot be told");
    }
    all
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    #[tokio::test]
    async fn frames_and_then_the_end() {
        for (end, code) in [(None, "0"), (Some(Status::aborted("behind")), "10")] {
            let (queue, responses) = mpsc::channel(4);
            let response =
                Response { nonce: "1".into(), resources: vec![Bytes::from_static(b"x")], ..Response::default() };
            queue.send(Ok(response.clone())).await.expect("room");
            if let Some(status) = end {
                queue.send(Err(status)).await.expect("room");
            }
            drop(queue);
            let collected = answer(ReceiverStream::new(responses)).into_body().collect().await.expect("a body");
            assert_eq!(collected.trailers().expect("trailers")["grpc-status"], code);
            let bytes = collected.to_bytes();
            assert_eq!(bytes[..5], [0, 0, 0, 0, u8::try_from(bytes.len() - 5).expect("short")]);
            assert_eq!(Response::decode(&bytes[5..]).expect("a response"), response);
        }
    }
}
