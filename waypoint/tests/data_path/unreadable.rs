//! What hyper refuses before anybody else sees it is answered and told of as everything else is.

use lateen_wire::proxy;

use super::{
    endpoints::echoing,
    rig::{Rig, Service},
};

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_name_and_recorded() {
    let access_log = proxy::AccessLog { encoding: proxy::access_log::Encoding::Text.into(), format: String::new() };
    let options = proxy::Options { access_log: Some(access_log), ..Default::default() };
    let rig = Rig::serving(Service { options, ..Service::default() }, &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    let many: String = (0..120).map(|number| format!("x-{number}: 1\r\n")).collect();
    let long = "x".repeat(70 * 1024);
    let rows = [
        (b"GET / HTTP/1.1\r\nhost: a\r\nx a: 1\r\n\r\n".to_vec(), 400, "http1.codec_error"),
        // A byte that `http::Uri` does not take.
        (b"GET /<x> HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(), 400, "http1.codec_error"),
        (b"G\x01T / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400, "http1.codec_error"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").into_bytes(), 431, "http1.headers_too_large"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {long}\r\n\r\n").into_bytes(), 431, "http1.headers_too_large"),
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(), 431, "http1.headers_too_large"),
    ];
    for (bytes, status, details) in rows {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let answer = rig.exchange(&bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains("\r\nserver: istio-envoy\r\n") && answer.contains("\r\ndate: "), "{what}: {answer}");
        let record = rig.record().await;
        assert!(record.contains(&format!(" {status} DPE {details} ")), "{what}: {record}");
    }
    // After a good one too, on the same connection.
    let two = b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\nx a: 1\r\n\r\n";
    let answer = rig.exchange(two).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let records = [rig.record().await, rig.record().await];
    assert!(records[0].contains("\"GET /1 HTTP/1.1\" 200 "), "{records:?}");
    assert!(records[1].contains(" 400 DPE http1.codec_error "), "{records:?}");
}
