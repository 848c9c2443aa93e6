//! Asks one webhook over HTTPS.
//!
//! In: where it is, what it is proven by, the review. Out: its response, or why there is none, within its deadline.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rt::deadline::within;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::select::{Hook, Place};
use crate::{api::Api, object, store::GroupResource};

/// The largest answer read; a response is a few words.
const ANSWER_MAX: usize = 1 << 20;

/// The webhook's `response`.
pub(super) async fn call(api: &Api, hook: &Hook, review: Value) -> Result<Value, String> {
    let uid = object::text(&review, "/request/uid").to_owned();
    let answer = within("the call", hook.timeout, exchange(api, hook, review)).await;
    let mut answer = answer.map_err(|late| format!("failed to call webhook: {late}"))??;
    let response = answer.get_mut("response").map(Value::take).unwrap_or_default();
    if object::text(&answer, "/kind") != "AdmissionReview" || object::text(&response, "/uid") != uid {
        return Err("expected response to be an AdmissionReview with the uid of the request".to_owned());
    }
    if !response["allowed"].is_boolean() {
        return Err("the response does not say whether it is allowed".to_owned());
    }
    Ok(response)
}

/// Where a webhook is, as a connection needs it.
struct Way {
    addresses: Vec<SocketAddr>,
    /// In its certificate.
    name: String,
    path: String,
}

async fn exchange(api: &Api, hook: &Hook, review: Value) -> Result<Value, String> {
    let way = way(api, &hook.place).await?;
    let stream = connect(&way, &hook.roots).await?;
    let failed = |error: &dyn std::fmt::Display| format!("failed to call webhook: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(&way.path)
        .header(header::HOST, &way.name)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(review.to_string())))
        .map_err(|error| failed(&error))?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| failed(&error))?;
        if !code.is_success() {
            return Err(format!("the server answered {code}"));
        }
        serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("the answer is no JSON: {error}"))
    };
    // Both to their ends: the connection moves the bytes, and ends when nobody asks any more.
    let (answer, _ended) = futures::future::join(asking, connection).await;
    answer
}

async fn connect(way: &Way, roots: &[u8]) -> Result<TlsStream<TcpStream>, String> {
    let mut last = "it has no address".to_owned();
    for address in &way.addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let name = ServerName::try_from(way.name.clone()).map_err(|error| error.to_string())?;
                let secured = connector(roots)?.connect(name, stream).await;
                return secured.map_err(|error| format!("failed to call webhook: TLS with {address}: {error}"));
            }
            Err(error) => last = format!("dial tcp {address}: {error}"),
        }
    }
    Err(format!("failed to call webhook: {last}"))
}

fn connector(roots: &[u8]) -> Result<TlsConnector, String> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        store.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(store).with_no_client_auth())))
}

async fn way(api: &Api, place: &Place) -> Result<Way, String> {
    match place {
        Place::Service { namespace, name, port, path } => Ok(Way {
            addresses: endpoints(api, namespace, name, *port)?,
            name: format!("{name}.{namespace}.svc"),
            path: format!("/{}", path.trim_start_matches('/')),
        }),
        Place::Url(url) => {
            let uri: Uri = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
            let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).unwrap_or_default();
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let found = tokio::net::lookup_host((bare.as_str(), port)).await;
            let addresses = found.map_err(|error| format!("{url:?}: {error}"))?.collect();
            Ok(Way { addresses, name: bare, path: uri.path().to_owned() })
        }
    }
}

/// The ready endpoints of a service's port. Its own address leads nowhere from here: no node translates it.
fn endpoints(api: &Api, namespace: &str, name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let missing = || format!("service \"{name}\" not found");
    let service = api.built_in("", "services", namespace, name).ok_or_else(missing)?;
    let ports = object::list(&service, "/spec/ports");
    let found = ports.iter().find(|one| one["port"] == port);
    let port_name =
        found.map(|one| object::text(one, "/name")).ok_or_else(|| format!("service \"{name}\" has no port {port}"))?;
    let slices = api.store.list(&GroupResource::new("discovery.k8s.io", "endpointslices"), Some(namespace)).objects;
    let of_service = slices.iter().filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name);
    let addresses: Vec<SocketAddr> = of_service.flat_map(|slice| addresses(slice, port_name)).collect();
    if addresses.is_empty() {
        return Err(format!("no endpoints available for service \"{name}\""));
    }
    Ok(addresses)
}

fn addresses(slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    let mut ports = object::list(slice, "/ports").iter().filter(|one| object::text(one, "/name") == port_name);
    let number = ports.find_map(|one| one["port"].as_u64()).and_then(|number| u16::try_from(number).ok());
    let endpoints = object::list(slice, "/endpoints").iter();
    let ready = endpoints.filter(|one| one.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    let texts = ready.flat_map(|one| object::texts(one, "/addresses"));
    texts.filter_map(|text| Some(SocketAddr::new(text.parse().ok()?, number?))).collect()
}
