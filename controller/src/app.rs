//! Wires the rooms together: builds each, hands it what it needs, starts it, and ends them in order.

use std::{collections::BTreeSet, io, sync::Arc};

use lateen_cluster::{client, store::Key};
use lateen_rt::{
    deadline::Elapsed,
    drain::Drain,
    inbox::Inbox,
    ready::{Condition, Readiness},
    tasks::Tasks,
};
use lateen_telemetry::{
    admin::{self, Router},
    log,
    metrics::{self as telemetry, Registry},
};
use lateen_xds::server::Table;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    admit::{self, register::Registration},
    ca::{
        self,
        anchors::Anchors,
        authn::Reviewer,
        authority::Authority,
        keep::{self, Sources},
        residents::Residents,
    },
    config::Config,
    credentials::Credentials,
    derive::Mesh,
    enforcement::{
        Enforcement,
        share::{self, Sharing},
    },
    graph::Graph,
    leader::{self, Election, Leading},
    names,
    provision::{Place, Provisioner},
    publish::Publisher,
    scope::Scope,
    serve::{self, discovery, listen, tls::Serving},
    settings::{self, Settings},
    status::Statuses,
    untaint::Untainter,
    vips::Giver,
    watch::{Change, Incomplete, Stores, Watch},
};

/// Why the program could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or forbidden.
    #[error("listening on port {port} for {purpose}: {source}; free the port or choose another")]
    Listen {
        /// The port.
        port: u16,
        /// What for.
        purpose: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is no way to the API.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// Our own certificate cannot be made.
    #[error(transparent)]
    Serving(#[from] serve::tls::ServingError),
    /// Shutdown took too long.
    #[error("some work did not end at shutdown: {0}")]
    Late(#[from] Elapsed),
}

/// The sockets, bound before anything else, so that a taken port is known at once and tests may choose free ones.
#[derive(Debug)]
pub struct Sockets {
    /// Discovery and CA.
    pub secure: TcpListener,
    /// `/ready`.
    pub ready: TcpListener,
    /// `/metrics`.
    pub metrics: TcpListener,
    /// Questions of the API server.
    pub admission: TcpListener,
}

impl Sockets {
    /// Binds the ports of `config` on every address.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let bind = async |port: u16, purpose: &'static str| {
            listen::everywhere(port).await.map_err(|source| StartError::Listen { port, purpose, source })
        };
        let ports = config.ports;
        Ok(Self {
            secure: bind(ports.secure, "discovery and certificates").await?,
            ready: bind(ports.ready, "readiness").await?,
            metrics: bind(ports.metrics, "metrics").await?,
            admission: bind(ports.admission, "admission").await?,
        })
    }
}

/// What the program shows of itself.
pub struct Shown {
    /// The running log's level, if there is a log.
    pub level: Option<log::Level>,
    /// The counters.
    pub registry: Registry,
}

/// Runs until `drain` begins and everything has ended.
pub async fn run(config: Config, sockets: Sockets, shown: Shown, drain: Drain) -> Result<(), StartError> {
    let tasks = Tasks::new();
    let readiness = Readiness::new();
    let authority_found = readiness.condition("certificate authority");
    let published = readiness.condition("first picture");
    let settled = readiness.condition("mesh settings");
    show(&sockets.ready.local_addr(), "readiness");
    let ready = Router::new().route("/live", |_| admin::Answer::text(200, "ok\n")).route("/ready", {
        let readiness = readiness.clone();
        move |request| admin::ready(&readiness, &request)
    });
    admin_server("readiness", sockets.ready, ready, (&tasks, &drain));
    admin_server("metrics", sockets.metrics, operators(shown), (&tasks, &drain));

    let kube = client::connect(&config.access).await?;
    let inbox = Inbox::new();
    let Some(settings) = settings(&config, kube.clone(), inbox.clone(), (&tasks, &drain)).await else {
        return Ok(tasks.join(config.drain_timeout).await?);
    };
    settled.set(true);
    let lease = leader::lease_name(&config.revision);
    let (election, leading) = Election::new(kube.clone(), &config.namespace, lease, config.identity.clone());
    tasks.spawn("leader election", election.run(drain.clone()));
    let rooms = Rooms {
        client: kube,
        stores: Stores::default(),
        residents: Residents::default(),
        readiness,
        settings,
        leading,
        enforcement: Enforcement::default(),
    };
    let (anchors, vips) = (Inbox::new(), Inbox::new());
    let incomplete = rooms.watch(&config, (inbox.clone(), anchors.clone(), vips.clone())).start(&tasks, &drain);
    let table = Table::new();
    rooms.publish(
        &config,
        Published { inbox, table: table.clone(), condition: published, incomplete },
        (&tasks, &drain),
    );
    background("giving addresses", rooms.giver(vips).run(), (&tasks, &drain));
    if let Some(provisioner) = rooms.provisioner(&config) {
        background("running Gateways", provisioner.run(), (&tasks, &drain));
    }
    if config.untaint {
        background("freeing nodes", rooms.untainter(&config).run(), (&tasks, &drain));
    }

    let sources = Sources {
        client: rooms.client.clone(),
        namespace: config.namespace.clone(),
        directory: config.ca_directory.clone(),
        trust_domain: rooms.mesh(&config).trust_domain,
    };
    let authority = tokio::select! {
        authority = keep::first(&sources) => authority,
        () = drain.draining() => return Ok(tasks.join(config.drain_timeout).await?),
    };
    authority_found.set(true);
    let current = authority.subscribe();
    background("following the CA", keep::follow(sources, authority, rooms.leading.clone()), (&tasks, &drain));
    background("the CA's expiry", expiry(current.clone()), (&tasks, &drain));
    let handing_out = rooms.anchors(anchors, current.clone()).run();
    background("handing out trust anchors", handing_out, (&tasks, &drain));

    let door = Door { config: &config, rooms: &rooms, table, authority: current };
    door.open((sockets.secure, sockets.admission), &tasks, &drain)?;
    drain.draining().await;
    tracing::info!("shutting down");
    Ok(tasks.join(config.drain_timeout).await?)
}

/// What holds for the mesh, once that is known; nothing when `drain` begins before.
async fn settings(
    config: &Config,
    client: kube::Client,
    inbox: Inbox<Change>,
    (tasks, drain): (&Tasks, &Drain),
) -> Option<watch::Receiver<Option<Arc<Settings>>>> {
    let (current, mut known) = watch::channel(None);
    let following = settings::Following {
        client,
        name: settings::config_map(&config.revision),
        usual: Settings::usual(config.mesh.clone(), &config.namespace),
        inbox,
        current,
    };
    background("following the settings", following.run(), (tasks, drain));
    tokio::select! {
        found = known.wait_for(Option::is_some) => if found.is_err() { return None },
        () = drain.draining() => return None,
    }
    Some(known)
}

/// What several rooms share.
struct Rooms {
    client: kube::Client,
    stores: Stores,
    residents: Residents,
    readiness: Readiness,
    settings: watch::Receiver<Option<Arc<Settings>>>,
    leading: Leading,
    enforcement: Enforcement,
}

/// What publishing alone needs.
struct Published {
    inbox: Inbox<Change>,
    table: Table,
    condition: Condition,
    incomplete: Incomplete,
}

impl Rooms {
    fn mesh(&self, config: &Config) -> Mesh {
        self.settings.borrow().as_ref().map_or_else(|| config.mesh.clone(), |settings| settings.mesh.clone())
    }

    /// Follows the API; each inbox is told of what concerns its reader.
    fn watch(&self, config: &Config, (inbox, anchors, vips): (Inbox<Change>, Inbox<Key>, Inbox<Key>)) -> Watch {
        Watch {
            client: self.client.clone(),
            stores: self.stores.clone(),
            inbox,
            anchors,
            vips,
            revision: config.revision.clone(),
            residents: self.residents.clone(),
            readiness: self.readiness.clone(),
        }
    }

    fn giver(&self, inbox: Inbox<Key>) -> Giver {
        Giver {
            client: self.client.clone(),
            entries: self.stores.entries.clone(),
            inbox,
            leading: self.leading.clone(),
        }
    }

    /// Nobody where somebody else runs Gateways.
    fn provisioner(&self, config: &Config) -> Option<Provisioner> {
        let defaults = config.gateways.clone()?;
        Some(Provisioner {
            client: self.client.clone(),
            place: Place { namespace: config.namespace.clone(), revision: config.revision.clone() },
            defaults,
            settings: self.settings.clone(),
            namespaces: self.stores.namespaces.clone(),
            leading: self.leading.clone(),
        })
    }

    fn untainter(&self, config: &Config) -> Untainter {
        let (client, leading) = (self.client.clone(), self.leading.clone());
        Untainter { client, namespace: config.namespace.clone(), leading }
    }

    fn anchors(&self, inbox: Inbox<Key>, authority: watch::Receiver<Arc<Authority>>) -> Anchors {
        Anchors {
            client: self.client.clone(),
            namespaces: self.stores.namespaces.clone(),
            inbox,
            authority,
            settings: self.settings.clone(),
            leading: self.leading.clone(),
        }
    }

    fn publish(&self, config: &Config, parts: Published, owners: (&Tasks, &Drain)) {
        let statuses = Statuses::default();
        let (asked, following) = watch::channel(BTreeSet::new());
        let credentials = Credentials {
            client: self.client.clone(),
            asked: following,
            found: self.stores.credentials.clone(),
            inbox: parts.inbox.clone(),
            sessions: config.mesh.sessions.clone(),
        };
        background("looking at Secrets", credentials.run(), owners);
        let publisher = Publisher {
            asked,
            inbox: parts.inbox,
            stores: self.stores.clone(),
            graph: Graph::new(self.mesh(config)),
            table: parts.table,
            statuses: statuses.clone(),
            enforcement: self.enforcement.clone(),
            settings: self.settings.clone(),
            scope: Scope::default(),
            residents: self.residents.clone(),
            pace: config.pace,
            published: parts.condition,
        };
        background("publishing", publisher.run(parts.incomplete), owners);
        let sharing = Sharing {
            client: self.client.clone(),
            namespace: config.namespace.clone(),
            name: share::config_map(&config.revision),
            identity: config.identity.clone(),
            leading: self.leading.clone(),
            enforcement: self.enforcement.clone(),
        };
        background("sharing counts", sharing.run(), owners);
        background("counting proxies", self.enforcement.clone().run(statuses.clone()), owners);
        background("writing statuses", statuses.run(self.client.clone(), self.leading.clone()), owners);
    }
}

/// What the secure port needs.
struct Door<'a> {
    config: &'a Config,
    rooms: &'a Rooms,
    table: Table,
    authority: watch::Receiver<Arc<Authority>>,
}

impl Door<'_> {
    fn open(
        self,
        (listener, admission): (TcpListener, TcpListener),
        tasks: &Tasks,
        drain: &Drain,
    ) -> Result<(), StartError> {
        let config = self.config;
        let names = serve::tls::names(&config.namespace, &config.revision, &config.custom_hosts);
        let first = self.authority.borrow().clone();
        let serving = Serving::new(&first, names)?;
        show(&listener.local_addr(), "discovery and certificates");
        let limits = (serving.config("h2")?, listen::CONNECTIONS_MAX);
        let connections = listen::secured(listener, limits, tasks, drain.clone());
        self.judge(admission, &serving, tasks, drain)?;
        background("keeping the serving certificate", serving.keep(self.authority.clone()), (tasks, drain));
        let mesh = &config.mesh;
        let reviewer = Reviewer::new(self.rooms.client.clone(), config.audiences.clone(), mesh.cluster.clone());
        let discovery = discovery::Service {
            reviewer: reviewer.clone(),
            residents: self.rooms.residents.clone(),
            table: self.table,
            readiness: self.rooms.readiness.clone(),
            tasks: tasks.clone(),
            drain: drain.clone(),
            enforcement: self.rooms.enforcement.clone(),
        };
        let ca = ca::service::Service {
            reviewer,
            authority: self.authority,
            residents: self.rooms.residents.clone(),
            trusted: config.trusted_accounts.clone(),
            settings: self.rooms.settings.clone(),
            lifetimes: config.lifetimes,
        };
        tasks.spawn("answering", serve::serve(connections, discovery, ca, drain.clone()));
        Ok(())
    }

    /// Answers the API server's questions, and makes it ask them.
    fn judge(&self, listener: TcpListener, serving: &Serving, tasks: &Tasks, drain: &Drain) -> Result<(), StartError> {
        show(&listener.local_addr(), "admission");
        let limits = (serving.config("http/1.1")?, admit::serve::CONNECTIONS_MAX);
        let connections = listen::secured(listener, limits, tasks, drain.clone());
        tasks.spawn("judging", admit::serve::serve(connections, tasks.clone(), drain.clone()));
        let registration = Registration {
            client: self.rooms.client.clone(),
            namespace: self.config.namespace.clone(),
            revision: self.config.revision.clone(),
            authority: self.authority.clone(),
            leading: self.rooms.leading.clone(),
        };
        background("keeping the webhook's configuration", registration.run(), (tasks, drain));
        Ok(())
    }
}

/// Shows when the CA ends, for ever.
async fn expiry(mut authority: watch::Receiver<Arc<Authority>>) {
    loop {
        let end = authority.borrow_and_update().not_after();
        let end = end.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics::gauge!(names::ROOT_EXPIRY).set(end.as_secs_f64());
        if authority.changed().await.is_err() {
            return;
        }
    }
}

/// Starts work that may be dropped at any time.
fn background(name: &'static str, work: impl Future<Output = ()> + Send + 'static, (tasks, drain): (&Tasks, &Drain)) {
    let drain = drain.clone();
    tasks.spawn(name, async move {
        tokio::select! {
            () = work => {}
            () = drain.draining() => {}
        }
    });
}

fn operators(shown: Shown) -> Router {
    let Shown { level, registry } = shown;
    let router = Router::new().route("/metrics", move |request| telemetry::answer(&registry, &request));
    match level {
        Some(level) => router.route("/logging", move |request| admin::logging(&level, &request)),
        None => router,
    }
}

fn admin_server(name: &'static str, listener: TcpListener, router: Router, (tasks, drain): (&Tasks, &Drain)) {
    let serving = admin::serve(listener, router, admin::Limits::default(), (tasks.clone(), drain.clone()));
    tasks.spawn(name, serving);
}

fn show(addr: &io::Result<std::net::SocketAddr>, purpose: &str) {
    if let Ok(addr) = addr {
        tracing::info!(%addr, purpose, "listening");
    }
}
