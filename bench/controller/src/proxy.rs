//! A node's proxy as far as its controller can tell: a delta ADS stream that acknowledges what it is sent, at once.
//!
//! In: where, who, what to ask for. Out: counts, and marks in [`Deliveries`]. It keeps nothing of what it is sent, so that a
//! thousand of them cost little.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::uri::PathAndQuery;
use lateen_identity::channel::{self, ChannelConfig, ControlChannel, Roots, Token};
use lateen_wire::{core::Node, discovery::DeltaDiscoveryRequest, type_url};
use parking_lot::Mutex;
use prost_types::{Struct, Value, value::Kind};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic_prost::ProstCodec;

use crate::{
    config::Ask,
    crowd::{self, ACCOUNT, SYSTEM},
    deliveries::{Deliveries, Heard, Way},
    message::Response,
};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const MESSAGE_MAX: usize = 200 << 20;
/// Requests on their way; one is ever written at a time.
const QUEUE: usize = 8;
const AGAIN: Duration = Duration::from_millis(200);
const EVERYTHING: &str = "*";

/// What all proxies add to.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Discovery responses.
    pub responses: AtomicU64,
    /// Resources put or removed by them.
    pub resources: AtomicU64,
    /// Bytes of resources and of names of removed ones.
    pub bytes: AtomicU64,
    /// Proxies that have acknowledged all there was.
    pub full: watch::Sender<usize>,
    /// Streams that ended, and the last reason.
    pub failed: Mutex<(u64, String)>,
}

impl Counts {
    fn fail(&self, why: &anyhow::Error) {
        let mut failed = self.failed.lock();
        *failed = (failed.0 + 1, format!("{why:#}"));
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            responses: AtomicU64::new(0),
            resources: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            full: watch::Sender::new(0),
            failed: Mutex::default(),
        }
    }
}

/// One proxy.
pub(crate) struct Proxy {
    pub node: usize,
    pub port: u16,
    pub roots: String,
    pub token: String,
    pub ask: Ask,
    /// Services it uses, on demand.
    pub used: BTreeSet<usize>,
    /// How many resources are all there are for it.
    pub wanted: usize,
    pub counts: Arc<Counts>,
    pub deliveries: Arc<Deliveries>,
    /// Where it leaves what it heard.
    pub heard: Arc<Mutex<Heard>>,
}

/// What one stream has received.
#[derive(Default)]
struct Seen {
    /// Names, where several answers may repeat one.
    names: HashSet<String>,
    number: usize,
    is_full: bool,
    has_asked: bool,
}

impl Proxy {
    /// Streams, again and again, for ever.
    pub async fn run(self) {
        loop {
            let ended = self.stream().await.err().unwrap_or_else(|| anyhow::anyhow!("the controller ended the stream"));
            self.counts.fail(&ended);
            sleep(AGAIN).await;
        }
    }

    async fn stream(&self) -> anyhow::Result<()> {
        let mut grpc = tonic::client::Grpc::new(self.channel()?).max_decoding_message_size(MESSAGE_MAX);
        grpc.ready().await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        for type_url in [type_url::ADDRESS, type_url::AUTHORIZATION] {
            requests.send(self.first(type_url)).await?;
        }
        let codec = ProstCodec::<DeltaDiscoveryRequest, Response>::default();
        let asked = tonic::Request::new(ReceiverStream::new(queue));
        let answer = grpc.streaming(asked, PathAndQuery::from_static(METHOD), codec).await?;
        let (mut answers, mut seen) = (answer.into_inner(), Seen::default());
        while let Some(response) = answers.message().await? {
            let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
            let acknowledgement =
                DeltaDiscoveryRequest { type_url, response_nonce, ..DeltaDiscoveryRequest::default() };
            requests.send(acknowledgement).await?;
            self.count(&response, &mut seen)?;
            if self.ask == Ask::OnDemand && response.type_url == type_url::ADDRESS && !seen.has_asked {
                seen.has_asked = true;
                requests.send(self.demand()).await?;
            }
        }
        Ok(())
    }

    fn count(&self, response: &Response, seen: &mut Seen) -> anyhow::Result<()> {
        let removed: usize = response.removed.iter().map(String::len).sum();
        let bytes = removed + response.resources.iter().map(bytes::Bytes::len).sum::<usize>();
        let number = response.resources.len() + response.removed.len();
        self.counts.responses.fetch_add(1, Ordering::Relaxed);
        self.counts.resources.fetch_add(number as u64, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if response.type_url != type_url::ADDRESS {
            return Ok(());
        }
        if seen.is_full {
            return self.mark(response);
        }
        seen.number += response.resources.len();
        if self.ask == Ask::OnDemand {
            for name in response.names() {
                seen.names.insert(name?);
            }
            seen.number = seen.names.len();
        }
        if seen.number >= self.wanted {
            seen.is_full = true;
            seen.names = HashSet::new();
            self.counts.full.send_modify(|full| *full += 1);
        }
        Ok(())
    }

    fn mark(&self, response: &Response) -> anyhow::Result<()> {
        let mut heard = self.heard.lock();
        for name in response.names() {
            if let Some(pod) = crowd::number_in(&name?) {
                self.deliveries.heard(Way::Came, pod, &mut heard);
            }
        }
        for pod in response.removed.iter().filter_map(|name| crowd::number_in(name)) {
            self.deliveries.heard(Way::Left, pod, &mut heard);
        }
        Ok(())
    }

    fn channel(&self) -> anyhow::Result<ControlChannel> {
        Ok(channel::channel(&ChannelConfig {
            address: format!("https://127.0.0.1:{}", self.port),
            roots: Roots::Pem(self.roots.clone()),
            alternative_host: Some(format!("istiod.{SYSTEM}.svc")),
            token: Token::Inline(self.token.clone()),
            cluster: "Kubernetes".into(),
            headers: Vec::new(),
        })?)
    }

    fn first(&self, type_url: &str) -> DeltaDiscoveryRequest {
        let pod = crowd::proxy_name(self.node);
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = [
            ("NAME", pod.as_str()),
            ("NAMESPACE", SYSTEM),
            ("SERVICE_ACCOUNT", ACCOUNT),
            ("NODE_NAME", &crowd::node_name(self.node)),
            ("CLUSTER_ID", "Kubernetes"),
        ]
        .map(|(name, value)| (name.to_owned(), text(value)));
        let address = crowd::proxy_address(self.node);
        let node = Node {
            id: format!("ztunnel~{address}~{pod}.{SYSTEM}~{SYSTEM}.svc.cluster.local"),
            metadata: Some(Struct { fields: fields.into() }),
            ..Node::default()
        };
        let nothing = self.ask == Ask::OnDemand && type_url == type_url::ADDRESS;
        let names: Vec<String> = nothing.then(|| EVERYTHING.to_owned()).into_iter().collect();
        DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.clone(),
            resource_names_unsubscribe: names,
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Asks for the services its pods use.
    fn demand(&self) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url::ADDRESS.to_owned(),
            resource_names_subscribe: self.used.iter().map(|service| crowd::service_key(*service)).collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }
}
