//! Validating webhooks, asked by the server as the real one asks.

mod support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{ConfigMap, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams, PostParams},
};
use lateen_embedded_api::Options;
use lateen_rt::tasks::Tasks;
use serde_json::{Value, json};
use support::Server;
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

type Judge = Arc<dyn Fn(Value) -> BoxFuture<'static, Value> + Send + Sync>;

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a well-formed object")
}

/// A webhook behind the service `hook` in `default`, and what it is proven by.
struct Hook {
    roots: String,
    tasks: Tasks,
    accepting: AbortHandle,
}

impl Hook {
    async fn start(client: &Client, judge: Judge) -> Self {
        let made = rcgen::generate_simple_self_signed(["hook.default.svc".to_owned()]).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (tasks, acceptor) = (Tasks::new(), TlsAcceptor::from(Arc::new(config)));
        let connections = tasks.clone();
        let accepting = tasks.spawn("webhook", async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn("asked", answered(stream, acceptor.clone(), judge.clone()));
            }
        });
        let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
        let services: Api<Service> = Api::default_namespaced(client.clone());
        services.create(&PostParams::default(), &of(service)).await.expect("a service");
        let slice = json!({"metadata": {"name": "hook", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4", "ports": [{"name": "https", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}]});
        let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
        slices.create(&PostParams::default(), &of(slice)).await.expect("a slice");
        Self { roots: STANDARD.encode(made.cert.pem()), tasks, accepting }
    }

    fn place(&self) -> Value {
        json!({"service": {"namespace": "default", "name": "hook", "path": "judge"}, "caBundle": self.roots})
    }

    async fn end(self) {
        self.accepting.abort();
        self.tasks.join(Duration::from_secs(5)).await.expect("nobody asks any more");
    }
}

async fn answered(stream: TcpStream, acceptor: TlsAcceptor, judge: Judge) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let judge = judge.clone();
        async move {
            assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/judge"));
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let review: Value = serde_json::from_slice(&body).expect("JSON");
            let mut response = judge(review["request"].clone()).await;
            response["uid"] = review["request"]["uid"].clone();
            let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer.to_string()))))
        }
    });
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Registers one webhook for the ConfigMaps of namespaces that are not the system's.
async fn register(client: &Client, place: Value, policy: &str) {
    let hook = json!({"name": "judge.example.com", "clientConfig": place, "failurePolicy": policy,
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
            "operations": ["CREATE", "UPDATE"]}],
        "namespaceSelector": {"matchExpressions":
            [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]}});
    let configuration = json!({"metadata": {"name": "judge"}, "webhooks": [hook]});
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let params = PatchParams::apply("test").force();
    let mut configuration = configuration;
    configuration["apiVersion"] = "admissionregistration.k8s.io/v1".into();
    configuration["kind"] = "ValidatingWebhookConfiguration".into();
    api.patch("judge", &params, &Patch::Apply(configuration)).await.expect("registered");
}

fn map(name: &str, word: &str) -> ConfigMap {
    of(json!({"metadata": {"name": name}, "data": {"word": word}}))
}

fn refused(answer: Result<ConfigMap, Error>) -> (u16, String) {
    match answer {
        Err(Error::Api(status)) => (status.code, status.message),
        other => panic!("not refused: {other:?}"),
    }
}

/// Allows all but what says `no`.
fn strict() -> Judge {
    Arc::new(|request| {
        Box::pin(async move {
            if request["object"]["data"]["word"] == "no" {
                return json!({"allowed": false, "status": {"message": "not that word", "code": 422}});
            }
            json!({"allowed": true, "warnings": ["think of it"]})
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_refuses_is_not_written() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let hook = Hook::start(&client, strict()).await;
    register(&client, hook.place(), "Fail").await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (create, apply) = (PostParams::default(), PatchParams::apply("test"));
    let words = (422, "admission webhook \"judge.example.com\" denied the request: not that word".to_owned());
    assert_eq!(refused(maps.create(&create, &map("a", "no")).await), words);
    assert!(maps.get_opt("a").await.expect("an answer").is_none());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    assert_eq!(refused(maps.create(&dry, &map("a", "no")).await), words);
    maps.create(&create, &map("a", "yes")).await.expect("allowed");
    assert_eq!(
        refused(maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"word": "no"}}))).await),
        words
    );
    let mut applied = serde_json::to_value(map("b", "no")).expect("JSON");
    applied["apiVersion"] = "v1".into();
    applied["kind"] = "ConfigMap".into();
    assert_eq!(refused(maps.patch("b", &apply, &Patch::Apply(applied)).await), words);
    assert_eq!(refused(maps.replace("a", &create, &map("a", "no")).await), words);
    assert_eq!(maps.get("a").await.expect("there").data.expect("data")["word"], "yes");
    maps.delete("a", &Default::default()).await.expect("nobody is asked");
    let exempt: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    exempt.create(&create, &map("a", "no")).await.expect("another namespace");
    hook.end().await;
    server.handle.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_the_policy_decides() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let hook = Hook::start(&client, strict()).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let create = PostParams::default();
    let mut unproven = hook.place();
    unproven["caBundle"] = "".into();
    let absent = json!({"service": {"namespace": "default", "name": "nobody"}});
    for (at, place) in [unproven, absent, json!({"url": "https://127.0.0.1:1/"})].into_iter().enumerate() {
        register(&client, place.clone(), "Fail").await;
        let (code, message) = refused(maps.create(&create, &map("a", "yes")).await);
        assert_eq!(code, 500, "{message}");
        assert!(
            message.starts_with("Internal error occurred: failed calling webhook \"judge.example.com\": "),
            "{message}"
        );
        register(&client, place, "Ignore").await;
        maps.create(&create, &map(&format!("ignored-{at}"), "no")).await.expect("nobody has a say");
    }
    hook.end().await;
    server.handle.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_webhook_thinks_is_judged_again() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (other, noted) = (client.clone(), seen.clone());
    let judge: Judge = Arc::new(move |request| {
        let (other, noted) = (other.clone(), noted.clone());
        Box::pin(async move {
            let object = request["object"].clone();
            let is_first = {
                let mut noted = noted.lock().expect("no panic");
                noted.push(object["data"].clone());
                noted.iter().filter(|data| data["word"] == "new").count() == 1
            };
            // Somebody else is quicker, once.
            if object["data"]["word"] == "new" && object["data"]["mine"].is_null() && is_first {
                let maps: Api<ConfigMap> = Api::default_namespaced(other);
                let patch = Patch::Merge(json!({"data": {"mine": "too"}}));
                maps.patch("a", &PatchParams::default(), &patch).await.expect("written");
            }
            json!({"allowed": true})
        })
    });
    let hook = Hook::start(&client, judge).await;
    register(&client, hook.place(), "Fail").await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.create(&PostParams::default(), &map("a", "old")).await.expect("allowed");
    let patch = Patch::Merge(json!({"data": {"word": "new"}}));
    let written = maps.patch("a", &PatchParams::default(), &patch).await.expect("allowed").data.expect("data");
    assert_eq!((written["word"].as_str(), written["mine"].as_str()), ("new", "too"));
    let last = seen.lock().expect("no panic").last().cloned().expect("asked");
    assert_eq!(last, json!({"word": "new", "mine": "too"}), "what was written is what was judged");
    hook.end().await;
    server.handle.shutdown().await.expect("it ends");
}
