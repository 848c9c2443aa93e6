//! The sockets of one pod's DNS proxy.
//!
//! In: bound sockets, a resolver. Out: answers. UDP queries beyond [`QUERIES_MAX`] at once are dropped, as a full socket
//! buffer would; TCP connections beyond [`CONNECTIONS_MAX`] wait. Ends when the drain begins: nothing new is read then, and
//! what is in work goes on until the drain is forced.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::op::Message;
use lateen_net::{
    listen::{self, ListenError, ListenOptions},
    netns::Netns,
};
use lateen_rt::{backoff::Backoff, deadline::within, drain::Drain, tasks::Tasks};
use lateen_state::{wait, workload::PodKey, world::WorldStore};
use rand::seq::SliceRandom as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::Instant,
};
use tracing::Instrument as _;

use super::{
    answer::{Decision, Rules, decide},
    forward::Forwarder,
    message::{Asked, Parsed, parse},
    report::{Report, Transport},
};
use crate::config::Dns;

/// UDP queries of one pod in work at once.
pub const QUERIES_MAX: usize = 512;
/// TCP connections of one pod at once.
pub const CONNECTIONS_MAX: usize = 64;
/// For the next request on a TCP connection to arrive whole, and for its answer to be taken.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// A pod's bound DNS sockets.
#[derive(Debug)]
pub struct DnsSockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Answers one pod's queries.
#[derive(Debug)]
pub struct Resolver {
    /// Whose queries these are.
    pub pod: PodKey,
    /// The mesh.
    pub store: WorldStore,
    /// What holds for all.
    pub rules: Rules,
    /// The rest.
    pub forwarder: Forwarder,
}

/// Binds UDP and TCP on the loopback addresses inside `netns`. Must be called on a runtime.
pub fn bind(dns: &Dns, netns: &Netns, options: &ListenOptions, ipv6: bool) -> Result<DnsSockets, ListenError> {
    let options = ListenOptions { netns: Some(netns.clone()), ..options.clone() };
    let mut sockets = DnsSockets { udp: Vec::new(), tcp: Vec::new() };
    for addr in dns.listen_on(ipv6 && loopback_has_ipv6(netns)) {
        sockets.udp.push(listen::udp(addr, &options)?.socket);
        sockets.tcp.push(listen::tcp(addr, &options)?.socket);
    }
    Ok(sockets)
}

/// `/proc/sys/net` shows the namespace of the reading thread.
fn loopback_has_ipv6(netns: &Netns) -> bool {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    netns.run(read).is_ok_and(|disabled| disabled.is_ok_and(|flag| flag.trim() != "1"))
}

impl DnsSockets {
    /// The addresses bound, UDP then TCP.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let udp = self.udp.iter().filter_map(|socket| socket.local_addr().ok());
        udp.chain(self.tcp.iter().filter_map(|socket| socket.local_addr().ok())).collect()
    }
}

/// Serves until `drain` begins; queries in work are answered still. Work runs as tasks of `tasks`.
pub fn start(sockets: DnsSockets, resolver: &Arc<Resolver>, tasks: &Tasks, drain: &Drain) {
    let span = tracing::info_span!("dns_proxy", wl = format!("{}/{}", resolver.pod.namespace, resolver.pod.name));
    let places = Arc::new(Semaphore::new(QUERIES_MAX));
    for socket in sockets.udp {
        let serving = serve_udp(Arc::new(socket), (resolver.clone(), places.clone()), tasks.clone(), drain.clone());
        tasks.spawn("dns over udp", serving.instrument(span.clone()));
    }
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for listener in sockets.tcp {
        let serving = serve_tcp(listener, (resolver.clone(), places.clone()), tasks.clone(), drain.clone());
        tasks.spawn("dns over tcp", serving.instrument(span.clone()));
    }
}

type Shared = (Arc<Resolver>, Arc<Semaphore>);

async fn serve_udp(socket: Arc<UdpSocket>, (resolver, places): Shared, tasks: Tasks, drain: Drain) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut pace = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = drain.draining() => return,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                // ICMP errors of earlier answers arrive here; anything lasting must not spin.
                tracing::debug!(%error, "receiving a dns query");
                tokio::time::sleep(pace.next_wait()).await;
                continue;
            }
        };
        pace.reset();
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (bytes, socket, resolver) = (buffer[..length].to_vec(), socket.clone(), resolver.clone());
        let answering = async move {
            if let Some(answer) = resolver.answer(&bytes, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, client).await
            {
                tracing::debug!(%client, %error, "sending a dns answer");
            }
            drop(place);
        };
        tasks.spawn("a dns query", until_forced(drain.clone(), answering).in_current_span());
    }
}

async fn serve_tcp(listener: TcpListener, (resolver, places): Shared, tasks: Tasks, drain: Drain) {
    let mut pace = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.draining() => return,
        };
        match accepted {
            Ok((stream, client)) => {
                pace.reset();
                let (resolver, ending) = (resolver.clone(), drain.clone());
                let serving = async move {
                    if let Err(error) = connection(stream, &resolver, &ending).await {
                        tracing::debug!(%client, %error, "a dns connection ended");
                    }
                    drop(place);
                };
                tasks.spawn("a dns connection", until_forced(drain.clone(), serving).in_current_span());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a dns connection");
                tokio::time::sleep(pace.next_wait()).await;
            }
        }
    }
}

/// An upstream may take many seconds to fail; the end of the pod does not wait for that.
async fn until_forced(drain: Drain, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = drain.forced() => {}
    }
}

/// RFC 1035 §4.2.2: messages with a length before each; several may follow each other.
async fn connection(mut stream: TcpStream, resolver: &Resolver, drain: &Drain) -> std::io::Result<()> {
    while !drain.is_draining() {
        let reading = async {
            let length = stream.read_u16().await?;
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.map(|_| query)
        };
        let read = tokio::select! {
            // First, so that what has arrived is answered.
            biased;
            read = within("a dns request", TCP_TIMEOUT, reading) => read,
            () = drain.draining() => return Ok(()),
        };
        let query = match read {
            Ok(Ok(query)) => query,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_idle) => return Ok(()),
        };
        let Some(answer) = resolver.answer(&query, Transport::Tcp).await else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        match within("taking a dns answer", TCP_TIMEOUT, stream.write_all(&framed)).await {
            Ok(written) => written?,
            Err(_slow) => return Ok(()),
        }
    }
    Ok(())
}

impl Resolver {
    /// The answer to a client's bytes; none if they are nothing that can be answered.
    async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = match parse(bytes) {
            Parsed::Query(asked) => asked,
            Parsed::Refused(answer) => return Some(answer),
            Parsed::Noise => return None,
        };
        let response = self.resolve(&asked, transport).await;
        match transport {
            Transport::Udp => asked.udp(&response),
            Transport::Tcp => asked.tcp(&response),
        }
    }

    async fn resolve(&self, asked: &Asked, transport: Transport) -> Message {
        let local = wait::local_workload(&self.store, &self.pod, wait::LOCAL_WORKLOAD_TIMEOUT).await;
        let (world, client) = match local {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "a dns query of an unknown pod");
                return asked.failed();
            }
        };
        let report = Report::begin(asked.record_type(), transport, &client);
        let name = asked.name();
        let (response, result) = match decide(&name, asked.family(), &client, (&world, &self.rules)) {
            Decision::Local { cname, mut addresses } => {
                // Clients take the first; in changing order they spread.
                addresses.shuffle(&mut rand::rng());
                let result = if addresses.is_empty() { "no records".to_owned() } else { "success".to_owned() };
                (asked.local(cname.as_deref(), &addresses), result)
            }
            Decision::Forward => self.forward(asked, &report).await,
        };
        let (workload, namespace) = (&*client.name, client.namespace.as_str());
        let query = asked.record_type().to_string();
        let endpoints = response.answers.len();
        tracing::event!(
            target: "dns",
            tracing::Level::DEBUG,
            {
                "src.workload" = workload,
                "src.namespace" = namespace,
                "query" = query,
                "domain" = name,
                "result" = result,
                "endpoints" = endpoints,
            },
            "dns query"
        );
        response
    }

    async fn forward(&self, asked: &Asked, report: &Report) -> (Message, String) {
        let begun = Instant::now();
        let answer = self.forwarder.forward(asked).await;
        report.forwarded(begun.elapsed(), answer.is_err());
        match answer {
            Ok(answer) => (asked.forwarded(&answer), "forwarded".to_owned()),
            Err(error) => (asked.failed(), format!("forwarding failed ({error})")),
        }
    }
}
