//! A waypoint's data path in this process: real sockets, a scripted control plane, scripted endpoints.
//!
//! In: what the control plane would send. Out: streams into the waypoint. Absent on purpose: the program around it.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use futures::{FutureExt as _, future::BoxFuture};
use lateen_hbone::settings::Settings;
use lateen_identity::{
    ca_client::{IssueError, Issuer},
    cert::{PrivateKey, WorkloadCertificate},
    keeper::{Clock, Keeper},
};
use lateen_rt::{deadline::within, drain::Drain, tasks::Tasks};
use lateen_state::{decode, wait::Demands, world::WorldStore};
use lateen_types::id::SpiffeId;
use lateen_waypoint::{
    arrival::{Arrival, Caller, Target},
    book::{BookStore, Kind, Protocol, compile},
    lane::{Lane, Own, Shared},
    report::{Reporting, Writer},
    serve,
    upstream::pool::Clusters,
};
use lateen_wire::{proxy, workload};
use parking_lot::Mutex;
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The service all tests call.
pub const HOST: &str = "echo.shop.svc.cluster.local";
pub const VIP: &str = "10.96.0.1";
pub const PORT: u16 = 80;
/// A second one of it, which only those know that send there.
pub const OTHER_PORT: u16 = 81;

fn service_port(port: u16) -> workload::Port {
    workload::Port { service_port: port.into(), target_port: port.into(), app_protocol: 0 }
}

/// Waits for something that must happen soon, on a loaded machine too.
pub async fn soon<T>(what: &'static str, wait: impl Future<Output = T>) -> T {
    within(what, Duration::from_secs(60), wait).await.expect("in time")
}

/// Looks again and again, under a deadline, until `holds`.
pub async fn until(what: &'static str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(what, waiting).await;
}

pub fn id(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().expect("an identity")
}

/// A certificate authority of a few lines.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Arc::new(Self(CertifiedIssuer::self_signed(params, key).expect("a CA")))
    }

    pub fn leaf(&self, identity: &SpiffeId) -> WorkloadCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().expect("a URI"))];
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(86_400)).into();
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.0).expect("a certificate").pem();
        let key = PrivateKey::from_pkcs8(key.serialize_der());
        WorkloadCertificate::from_pem_elements(&[leaf, self.0.pem()], key).expect("a certificate")
    }
}

struct Signs(Arc<Ca>);

impl Issuer for Signs {
    fn issue<'a>(&'a self, identity: &'a SpiffeId) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        async move { Ok(self.0.leaf(identity)) }.boxed()
    }
}

/// The waypoint.
pub struct Rig {
    pub ca: Arc<Ca>,
    pub shared: Arc<Shared>,
    pub lane: Arc<Lane>,
    pub tasks: Tasks,
    pub drain: Drain,
    records: Arc<Mutex<Vec<u8>>>,
    _writer: Writer,
}

/// Keeps what is written.
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.drain.force();
    }
}

impl Rig {
    pub fn new() -> Self {
        let (ca, tasks, drain) = (Ca::new(), Tasks::new(), Drain::new());
        let keeper = Keeper::new(Arc::new(Signs(ca.clone())), Clock::default(), &tasks, &drain);
        let own = Own {
            identity: id("waypoint"),
            workload: None,
            namespace: "shop".into(),
            network: "".into(),
            baggage: None,
        };
        let records = Arc::default();
        let writer = Writer::start(Kept(Arc::clone(&records))).expect("a thread");
        let shared = Arc::new(Shared {
            reporting: Arc::new(Reporting::new(writer.log(), "w-1")),
            own,
            book: BookStore::default(),
            world: WorldStore::new(None),
            demands: Demands::Off,
            keeper,
            tls: Default::default(),
            clusters: Clusters::new(1),
            origins: Default::default(),
            hbone: Settings { server_streams_max: 100, ..Settings::default() },
            here: Default::default(),
            epoch: tokio::time::Instant::now(),
            leaving: AtomicBool::new(false),
        });
        let lane = Arc::new(Lane::new(0, shared.clone(), tasks.clone(), drain.clone()));
        Self { ca, shared, lane, tasks, drain, records, _writer: writer }
    }

    /// The next access record; each is given once.
    pub async fn record(&self) -> String {
        let whole = || self.records.lock().contains(&b'\n');
        until("a record", whole).await;
        let mut records = self.records.lock();
        let end = records.iter().position(|byte| *byte == b'\n').expect("there is one");
        let line: Vec<u8> = records.drain(..=end).collect();
        String::from_utf8(line).expect("text")
    }

    /// A waypoint of one service with these endpoints.
    pub fn serving(of: Service, endpoints: &[SocketAddr]) -> Self {
        let rig = Self::new();
        rig.configure(of);
        rig.endpoints(endpoints);
        rig
    }

    /// What the control plane says of the proxy and its service.
    pub fn configure(&self, of: Service) {
        let name = format!("shop/w/shop/{HOST}");
        let proxy = proxy::Proxy {
            namespace: "shop".into(),
            name: "w".into(),
            role: proxy::Role::Waypoint.into(),
            options: Some(of.options),
            services: vec![name.clone()],
            serves_services: true,
            ..Default::default()
        };
        let port = proxy::Port {
            port: PORT.into(),
            protocol: of.protocol.into(),
            http: of.routes,
            http_of_clients: of.of_clients,
            tcp: of.tcp,
            ..Default::default()
        };
        let service = proxy::Service {
            namespace: "shop".into(),
            hostname: HOST.into(),
            ports: vec![port],
            policies: of.policies.iter().map(|policy| format!("shop/{}", policy.name)).collect(),
            ..Default::default()
        };
        let destination = proxy::Destination { namespace: "shop".into(), hostname: HOST.into(), clusters: of.clusters };
        let mut all = vec![
            (Kind::Destination, name.clone(), destination.encode_to_vec()),
            (Kind::Service, name, service.encode_to_vec()),
            (Kind::Proxy, "shop/w".to_owned(), proxy.encode_to_vec()),
        ];
        all.extend(
            of.policies.into_iter().map(|one| (Kind::Policy, format!("shop/{}", one.name), one.encode_to_vec())),
        );
        let changes = all.into_iter().map(|(kind, name, bytes)| {
            compile::resource(kind, &name.as_str().into(), &bytes).expect("a resource that can be used")
        });
        self.shared.book.apply(changes);
    }

    /// Plain endpoints of the service, and nobody else.
    pub fn endpoints(&self, all: &[SocketAddr]) {
        self.workloads(all.iter().map(|addr| endpoint(*addr)).collect());
    }

    /// These workloads, and the service they are behind.
    pub fn workloads(&self, all: Vec<workload::Workload>) {
        self.known(all, None);
    }

    /// The service has no endpoints that are known here, but a waypoint at `ip`.
    pub fn behind_waypoint(&self, ip: &str, account: &str) {
        let ip: IpAddr = ip.parse().expect("an address");
        let at = workload::NetworkAddress { address: octets(ip), ..Default::default() };
        let waypoint = workload::GatewayAddress {
            destination: Some(workload::gateway_address::Destination::Address(at)),
            hbone_mtls_port: 15008,
        };
        let guard = workload::Workload {
            uid: "Kubernetes//Pod/shop/guard".into(),
            name: "guard".into(),
            namespace: "shop".into(),
            service_account: account.into(),
            addresses: vec![octets(ip)],
            ..Default::default()
        };
        self.known(vec![guard], Some(waypoint));
    }

    fn known(&self, all: Vec<workload::Workload>, waypoint: Option<workload::GatewayAddress>) {
        let address = |ip: IpAddr| workload::NetworkAddress { address: octets(ip), ..Default::default() };
        let service = workload::Service {
            name: "echo".into(),
            namespace: "shop".into(),
            hostname: HOST.into(),
            addresses: vec![address(VIP.parse().expect("an address"))],
            ports: [PORT, OTHER_PORT].map(service_port).into(),
            waypoint,
            ..Default::default()
        };
        let old: Vec<String> =
            self.shared.world.load().workloads().map(|workload| workload.uid.as_str().to_owned()).collect();
        let gone = old.into_iter().map(lateen_state::index::Change::RemoveAddress);
        let wrap = |of| workload::Address { r#type: Some(of) }.encode_to_vec();
        let mut messages = vec![wrap(workload::address::Type::Service(service))];
        messages.extend(all.into_iter().map(|one| wrap(workload::address::Type::Workload(one))));
        let changes = messages.iter().map(|bytes| decode::address(bytes).expect("a resource that can be used"));
        self.shared.world.apply(gone.chain(changes).collect::<Vec<_>>());
    }

    /// A connection to the service whose bytes come without a tunnel.
    pub async fn connect(&self, protocol: Protocol) -> TcpStream {
        self.connect_as(protocol, None).await
    }

    /// The same, of a client with an identity.
    pub async fn connect_as(&self, protocol: Protocol, peer: Option<SpiffeId>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connect");
        client.set_nodelay(true).expect("no delay");
        let (server, peer_addr) = listener.accept().await.expect("accept");
        let caller = caller(peer, peer_addr, server.local_addr().expect("bound"));
        let dialled = SocketAddr::new(VIP.parse().expect("an address"), PORT);
        let key = format!("shop/{HOST}").parse().expect("a key");
        let target = Target::Service { key, port: PORT, dialled: Some(dialled) };
        let arrival = Arrival { caller: Arc::new(caller), target };
        let timeout = serve::protocol(&self.shared.book.peek(), &arrival.target).1;
        self.tasks.spawn("served", serve::stream(self.lane.clone(), arrival, server, (protocol, timeout)));
        client
    }

    /// Sends these bytes on a fresh connection and reads until the waypoint closes it.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect(Protocol::Http).await;
        client.write_all(bytes).await.expect("write");
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _end = soon("the answer", client.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Who calls from `client`.
pub fn caller(peer: Option<SpiffeId>, client: SocketAddr, local: SocketAddr) -> Caller {
    Caller {
        peer,
        client,
        hop: client,
        local,
        server_name: None,
        workload: None,
        baggage: Default::default(),
        tls: None,
        door: None,
    }
}

/// How the service is served.
pub struct Service {
    pub protocol: proxy::Protocol,
    pub routes: Vec<proxy::HttpRoute>,
    pub of_clients: Vec<proxy::ClientRoutes>,
    pub tcp: Vec<proxy::TcpRoute>,
    pub clusters: Vec<proxy::Cluster>,
    pub options: proxy::Options,
    pub policies: Vec<proxy::Policy>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            protocol: proxy::Protocol::Http,
            routes: Vec::new(),
            of_clients: Vec::new(),
            tcp: Vec::new(),
            clusters: vec![cluster(proxy::Protocol::Http, proxy::TrafficPolicy::default())],
            options: proxy::Options::default(),
            policies: Vec::new(),
        }
    }
}

pub fn cluster(protocol: proxy::Protocol, policy: proxy::TrafficPolicy) -> proxy::Cluster {
    proxy::Cluster { port: PORT.into(), protocol: protocol.into(), policy: Some(policy), ..Default::default() }
}

/// So many failures in a row eject an endpoint for good.
pub fn ejecting(failures: u32) -> proxy::OutlierDetection {
    let hour = || Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    proxy::OutlierDetection {
        consecutive_5xx: failures,
        interval: hour(),
        base_ejection_time: hour(),
        max_ejection_percent: 100,
        ..Default::default()
    }
}

pub fn upstream() -> proxy::Upstream {
    proxy::Upstream { namespace: "shop".into(), hostname: HOST.into(), port: PORT.into(), subset: String::new() }
}

/// A route that sends everything to the service itself.
pub fn forward(forward: proxy::Forward) -> proxy::HttpRoute {
    let to = proxy::weighted::To::Upstream(upstream());
    let destinations = vec![proxy::Weighted { weight: 1, to: Some(to), ..Default::default() }];
    let forward = proxy::Forward { destinations, ..forward };
    proxy::HttpRoute { action: Some(proxy::http_route::Action::Forward(forward)), ..Default::default() }
}

pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A workload that listens there in plain, behind the service.
pub fn endpoint(addr: SocketAddr) -> workload::Workload {
    let ports = vec![workload::Port { service_port: PORT.into(), target_port: addr.port().into(), app_protocol: 0 }];
    workload::Workload {
        uid: format!("Kubernetes//Pod/shop/{}-{}", addr.ip(), addr.port()),
        name: "echo".into(),
        namespace: "shop".into(),
        service_account: "echo".into(),
        addresses: vec![octets(addr.ip())],
        services: [(format!("shop/{HOST}"), workload::PortList { ports })].into(),
        ..Default::default()
    }
}
