//! When two pods of one process meet without a tunnel, and when they do not.

use lateen_state::world::WorldStore;
use lateen_wire::workload as wire;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::fixtures::{HOST, behind, gateway, plain, pod, service, world};

/// Serves these pods of namespace `shop`, each under the account of its name.
#[derive(Debug)]
struct Serving(Vec<PodKey>);

impl Serving {
    fn these(names: &[&str]) -> Self {
        let key =
            |name: &&str| PodKey { name: (*name).into(), namespace: "shop".into(), service_account: (*name).into() };
        Self(names.iter().map(key).collect())
    }
}

impl Neighbourhood for Serving {
    fn pod_of(&self, workload: &Workload) -> Option<&PodKey> {
        self.0.iter().find(|key| workload.is_pod(key))
    }
}

fn client() -> wire::Workload {
    pod("client", &["10.0.0.1", "fd00::1"])
}

fn server() -> wire::Workload {
    pod("server", &["10.0.0.2", "fd00::2"])
}

/// The way from `socket`, an address of a socket in the client's pod.
fn from(socket: &str, store: &WorldStore, dialled: &str, serving: &Serving) -> Plan {
    let world = store.load();
    let source = world.workload(&"Kubernetes//Pod/shop/client".into()).expect("known").clone();
    let ask = Ask {
        world: &world,
        own_network: &"".into(),
        source: &source,
        client: socket.parse().expect("an address"),
        dialled: dialled.parse().expect("an address"),
        illegal_ports: &[15001, 15006, 15008],
        neighbours: serving,
    };
    plan(&ask, &mut StdRng::seed_from_u64(1)).expect("a plan")
}

/// Where the application is, if the call goes to it without a tunnel.
fn near(socket: &str, store: &WorldStore, dialled: &str, serving: &Serving) -> Option<String> {
    match from(socket, store, dialled, serving).route {
        Route::Near(near) => Some(near.to.to_string()),
        Route::Plain(_) | Route::Tunnel(_) | Route::Double { .. } => None,
    }
}

fn both() -> Serving {
    Serving::these(&["client", "server"])
}

#[test]
fn pods_of_this_process_meet_without_a_tunnel() {
    let web = service(HOST, &["10.9.0.1", "fd09::1"], &[(80, 8080)]);
    let store = world(&[client(), behind(server(), HOST, &[])], &[web]);
    for (socket, dialled, expected) in [
        ("10.0.0.1", "10.0.0.2:80", "10.0.0.2:80"),
        ("fd00::1", "[fd00::2]:80", "[fd00::2]:80"),
        ("10.0.0.1", "10.9.0.1:80", "10.0.0.2:8080"),
        ("fd00::1", "[fd09::1]:80", "[fd00::2]:8080"),
        ("10.0.0.1", "10.0.0.1:80", "10.0.0.1:80"),
    ] {
        assert_eq!(near(socket, &store, dialled, &both()).as_deref(), Some(expected), "{dialled}");
    }
    // The tunnel to take where the pod cannot be entered is planned beside it.
    let plan = from("10.0.0.1", &store, "10.9.0.1:80", &both());
    let Route::Near(Near { hop, .. }) = plan.route else { panic!("{plan:?}") };
    assert_eq!(hop.to, To::Addr("10.0.0.2:15008".parse().expect("an address")));
    assert_eq!(hop.authority, Authority::Addr("10.0.0.2:8080".parse().expect("an address")));
    assert_eq!(plan.destination.expect("known").name.as_ref(), "server");
}

#[test]
fn who_is_not_served_here_is_reached_by_tunnel() {
    let store = world(&[client(), server()], &[]);
    assert_eq!(near("10.0.0.1", &store, "10.0.0.2:80", &Serving::these(&["client"])), None);
    // The address is another workload's than the pod we serve under that name: another cluster's, on its own node.
    let stranger = wire::Workload { uid: "other//Pod/shop/server".into(), node: "node-9".into(), ..server() };
    let ours = pod("server", &["10.0.0.7"]);
    let store = world(&[client(), stranger, ours], &[]);
    assert_eq!(near("10.0.0.1", &store, "10.0.0.2:80", &both()), None);
    assert!(near("10.0.0.1", &store, "10.0.0.7:80", &both()).is_some());
    // The pod we serve was described under another account by now.
    let renamed = wire::Workload { service_account: "other".into(), ..server() };
    assert_eq!(near("10.0.0.1", &world(&[client(), renamed], &[]), "10.0.0.2:80", &both()), None);
}

#[test]
fn a_callers_address_must_be_its_own() {
    let store = world(&[client(), server()], &[]);
    for spoofed in ["10.0.0.2", "10.0.0.99", "127.0.0.1", "fd00::1"] {
        assert_eq!(near(spoofed, &store, "10.0.0.2:80", &both()), None, "{spoofed}");
    }
}

#[test]
fn what_a_tunnel_does_otherwise_stays_a_tunnel() {
    let tunnel = wire::ApplicationTunnel { port: 15088, ..Default::default() };
    let host_network = wire::NetworkMode::HostNetwork.into();
    for (what, server) in [
        ("an application tunnel", wire::Workload { application_tunnel: Some(tunnel), ..server() }),
        ("native", wire::Workload { native_tunnel: true, ..server() }),
        ("another trust domain", wire::Workload { trust_domain: "other.domain".into(), ..server() }),
        ("a waypoint", wire::Workload { waypoint: gateway("10.0.0.9:15008"), ..server() }),
        ("outside the mesh", plain(server())),
        ("another node", wire::Workload { node: "node-2".into(), ..server() }),
    ] {
        let store = world(&[client(), server, pod("wp", &["10.0.0.9"])], &[]);
        let serving = Serving::these(&["client", "server", "wp"]);
        assert_eq!(near("10.0.0.1", &store, "10.0.0.2:80", &serving), None, "{what}");
    }
    let web = service(HOST, &["10.9.0.1"], &[(80, 80)]);
    let of_the_node = wire::Workload { network_mode: host_network, ..behind(server(), HOST, &[]) };
    assert_eq!(near("10.0.0.1", &world(&[client(), of_the_node], &[web]), "10.9.0.1:80", &both()), None);
}
