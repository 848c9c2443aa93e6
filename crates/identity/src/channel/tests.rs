use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use lateen_rt::{deadline::within, tasks::Tasks};
use lateen_wire::ca::{
    IstioCertificateRequest, IstioCertificateResponse,
    istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
};
use parking_lot::Mutex;
use rcgen::{CertificateParams, SanType};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tonic::Response;

use super::*;
use crate::{
    ca_client::{Asking, CaClient, IssueError, Issuer as _},
    cert::pem_certificates,
    crypto::provider,
    testing::{A_DAY, TestCa, id, key_pair, leaf_params},
};

const WEB: &str = "spiffe://cluster.local/ns/web/sa/front";

/// A CA that signs what the metadata names and writes down what it was sent.
#[derive(Clone)]
struct FakeCa {
    ca: Arc<TestCa>,
    seen: Arc<Mutex<Vec<Seen>>>,
    answers_with: Arc<Mutex<Answers>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    authorization: Option<String>,
    cluster: Option<String>,
    extra: Option<String>,
    impersonated: Option<String>,
    lifetime: i64,
}

#[derive(Clone, Copy)]
enum Answers {
    Well,
    WithoutRoot,
    WithAnother,
    No,
}

#[tonic::async_trait]
impl IstioCertificateService for FakeCa {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header = |name| request.metadata().get(name).map(|value| value.to_str().expect("text").to_owned());
        let (authorization, cluster, extra) = (header("authorization"), header("clusterid"), header("x_foo"));
        let message = request.into_inner();
        let impersonated = message.metadata.and_then(|metadata| match &metadata.fields["ImpersonatedIdentity"].kind {
            Some(prost_types::value::Kind::StringValue(text)) => Some(text.clone()),
            _ => None,
        });
        let lifetime = message.validity_duration;
        self.seen.lock().push(Seen { authorization, cluster, extra, impersonated: impersonated.clone(), lifetime });
        let csr = rcgen::CertificateSigningRequestParams::from_pem(&message.csr).expect("a CSR");
        let answers = *self.answers_with.lock();
        let name = match answers {
            Answers::WithAnother => "spiffe://cluster.local/ns/web/sa/other".to_owned(),
            Answers::Well | Answers::WithoutRoot | Answers::No => impersonated.unwrap_or(WEB.to_owned()),
        };
        let leaf = self.ca.sign(leaf_params(&[&name], A_DAY), &csr.public_key);
        let cert_chain = match answers {
            Answers::Well | Answers::WithAnother => vec![leaf, self.ca.pem()],
            Answers::WithoutRoot => vec![leaf],
            Answers::No => return Err(Status::unauthenticated("request impersonation authentication failure")),
        };
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl FakeCa {
    fn new() -> Self {
        let (seen, answers_with) = (Arc::default(), Arc::new(Mutex::new(Answers::Well)));
        Self { ca: Arc::new(TestCa::new("root")), seen, answers_with }
    }

    /// Serves one connection until its client leaves.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TowerToHyperService::new(IstioCertificateServiceServer::new(self));
        let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        serving.await.ok();
    }

    /// Serves with TLS under a certificate for `name`; also counts handshakes that failed.
    async fn serve_tls(&self, name: &str, tasks: &Tasks) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("address");
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&self.ca, name)));
        let refused = Arc::new(AtomicUsize::new(0));
        let (ca, owner, failures) = (self.clone(), tasks.clone(), refused.clone());
        tasks.spawn("accept", async move {
            while let Ok((stream, _)) = listener.accept().await {
                match acceptor.accept(stream).await {
                    Ok(stream) => {
                        owner.spawn("serve", ca.clone().serve(stream));
                    }
                    Err(_) => {
                        failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        (addr, refused)
    }
}

fn server_config(ca: &TestCa, name: &str) -> ServerConfig {
    let key = key_pair();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
    let chain = pem_certificates(&ca.sign(params, &key)).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("versions");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn config(address: String, ca: &TestCa) -> ChannelConfig {
    ChannelConfig {
        address,
        roots: Roots::Pem(ca.pem()),
        alternative_host: None,
        token: Token::Inline("t0".into()),
        cluster: "c1".into(),
        headers: vec![("X_FOO".into(), "bar".into())],
    }
}

fn client(config: &ChannelConfig, asking: Asking) -> Arc<CaClient> {
    CaClient::new(channel(config).expect("valid"), Duration::from_secs(86_400), asking)
}

#[tokio::test]
async fn a_certificate_is_issued_over_tls() {
    let (ca, tasks) = (FakeCa::new(), Tasks::new());
    let (addr, _) = ca.serve_tls("localhost", &tasks).await;
    let client = client(&config(format!("localhost:{}", addr.port()), &ca.ca), Asking::ForOthers);
    let certificate = client.issue(&id(WEB)).await.expect("issued");
    assert_eq!(certificate.identity(), &id(WEB));
    let seen = Seen {
        authorization: Some("Bearer t0".into()),
        cluster: Some("c1".into()),
        extra: Some("bar".into()),
        impersonated: Some(WEB.into()),
        lifetime: 86_400,
    };
    assert_eq!(*ca.seen.lock(), [seen]);
}

#[tokio::test]
async fn the_token_and_the_roots_are_read_again() {
    let (ca, tasks) = (FakeCa::new(), Tasks::new());
    let (addr, refused) = ca.serve_tls("localhost", &tasks).await;
    let directory = tempfile::tempdir().expect("directory");
    let (token, roots) = (directory.path().join("token"), directory.path().join("roots"));
    std::fs::write(&token, "").expect("write");
    std::fs::write(&roots, TestCa::new("another").pem()).expect("write");
    let config = ChannelConfig {
        token: Token::File(token.clone()),
        roots: Roots::File(roots.clone()),
        ..config(format!("https://localhost:{}", addr.port()), &ca.ca)
    };
    let client = client(&config, Asking::ForOurselves);
    let error = client.issue(&id(WEB)).await.expect_err("an empty token is an error");
    assert!(error.to_string().contains("token"), "{error}");
    std::fs::write(&token, "t1\n").expect("write");
    assert!(client.issue(&id(WEB)).await.is_err(), "the server is not under these roots");
    // The server hears of the refusal a little later than we know it.
    let heard = async {
        while refused.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the refusal", Duration::from_secs(20), heard).await.expect("heard");
    std::fs::write(&roots, ca.ca.pem()).expect("write");
    client.issue(&id(WEB)).await.expect("issued");
    std::fs::write(&token, "t2\n").expect("write");
    client.issue(&id(WEB)).await.expect("issued");
    let tokens: Vec<_> = ca.seen.lock().iter().map(|seen| seen.authorization.clone().expect("sent")).collect();
    assert_eq!(tokens, ["Bearer t1", "Bearer t2"]);
    assert!(ca.seen.lock().iter().all(|seen| seen.impersonated.is_none()));
}

#[tokio::test]
async fn a_second_name_is_accepted_only_if_given() {
    let (ca, tasks) = (FakeCa::new(), Tasks::new());
    let (addr, _) = ca.serve_tls("istiod.istio-system.svc", &tasks).await;
    let plain = config(format!("https://localhost:{}", addr.port()), &ca.ca);
    assert!(client(&plain, Asking::ForOthers).issue(&id(WEB)).await.is_err());
    let named = ChannelConfig { alternative_host: Some("istiod.istio-system.svc".into()), ..plain };
    client(&named, Asking::ForOthers).issue(&id(WEB)).await.expect("issued");
}

#[tokio::test]
async fn bad_answers_are_told_apart() {
    let (ca, tasks) = (FakeCa::new(), Tasks::new());
    let (addr, _) = ca.serve_tls("localhost", &tasks).await;
    let client = client(&config(format!("localhost:{}", addr.port()), &ca.ca), Asking::ForOthers);
    let answer = async |answers| {
        *ca.answers_with.lock() = answers;
        client.issue(&id(WEB)).await.expect_err("refused")
    };
    assert!(matches!(answer(Answers::WithoutRoot).await, IssueError::TooShort { elements: 1, .. }));
    assert!(matches!(answer(Answers::WithAnother).await, IssueError::WrongIdentity { .. }));
    assert!(matches!(answer(Answers::No).await, IssueError::Refused { .. }));
}

#[tokio::test]
async fn plain_http_and_unix_sockets_are_spoken_where_asked() {
    let (ca, tasks) = (FakeCa::new(), Tasks::new());
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ca");
    let unix = tokio::net::UnixListener::bind(&path).expect("bind");
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = tcp.local_addr().expect("address").port();
    let (one, two, owner) = (ca.clone(), ca.clone(), tasks.clone());
    tasks.spawn("accept", async move {
        loop {
            tokio::select! {
                accepted = tcp.accept() => owner.spawn("tcp", one.clone().serve(accepted.expect("accept").0)),
                accepted = unix.accept() => owner.spawn("unix", two.clone().serve(accepted.expect("accept").0)),
            };
        }
    });
    for address in [format!("http://127.0.0.1:{port}"), format!("unix://{}", path.display())] {
        let config = ChannelConfig { token: Token::None, ..config(address, &ca.ca) };
        client(&config, Asking::ForOthers).issue(&id(WEB)).await.expect("issued");
    }
    assert!(ca.seen.lock().iter().all(|seen| seen.authorization.is_none() && seen.cluster.is_none()));
}

#[test]
fn addresses_are_read() {
    let tls = |host: &str, port| Some(Target::Tls { host: host.into(), port });
    for (address, expected) in [
        ("https://istiod.istio-system.svc:15012", tls("istiod.istio-system.svc", 15012)),
        ("istiod:15012", tls("istiod", 15012)),
        ("https://[::1]:15012", tls("::1", 15012)),
        ("http://127.0.0.1:15010", Some(Target::Plain { host: "127.0.0.1".into(), port: 15010 })),
        ("unix:///run/ca", Some(Target::Unix("/run/ca".into()))),
        ("unix://run/ca", None),
        ("ftp://x:1", None),
        ("", None),
        ("a b", None),
    ] {
        assert_eq!(Target::parse(address), expected, "{address:?}");
    }
}
