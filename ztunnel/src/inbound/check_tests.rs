//! Cases of the behaviour checklist, by id: IN-xx.

use lateen_wire::workload as wire;

use super::*;
use crate::fixtures::{HOST, behind, gateway, pod, service, world};

const SERVER: &str = "10.0.0.2";
const CLIENT: &str = "10.0.0.1";
const WAYPOINT: &str = "10.0.0.9";

/// Whose waypoint there is.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Nobody,
    Workload,
    Service,
}

struct Case {
    of: Of,
    /// How the waypoint is referred to: by its pod's address or its service's.
    by: &'static str,
    app_tunnel: bool,
    dialled: &'static str,
    authority: &'static str,
}

const BASE: Case = Case { of: Of::Nobody, by: WAYPOINT, app_tunnel: false, dialled: SERVER, authority: "" };

fn wanted(text: &str) -> Wanted {
    match text.parse() {
        Ok(addr) => Wanted::Addr(addr),
        Err(_) => {
            let (host, port) = text.rsplit_once(':').expect("host:port");
            Wanted::Host(host.into(), port.parse().expect("a port"))
        }
    }
}

fn run(case: &Case) -> String {
    let reference = gateway(&format!("{}:15008", case.by));
    let mut server = behind(pod("server", &[SERVER]), HOST, &[(81, 9090)]);
    let mut web = service(HOST, &["10.9.0.1"], &[(80, 8080), (81, 0), (82, 0)]);
    match case.of {
        Of::Nobody => {}
        Of::Workload => server.waypoint = reference,
        Of::Service => web.waypoint = reference,
    }
    let waypoints = service("wp.shop", &["10.9.0.9"], &[(15008, 15008)]);
    let mut wp = behind(pod("wp", &[WAYPOINT]), "wp.shop", &[]);
    if case.app_tunnel {
        wp.application_tunnel = Some(wire::ApplicationTunnel { protocol: 1, port: 15088 });
    }
    let store = world(&[pod("client", &[CLIENT]), server, wp], &[web, waypoints]);
    let world = store.load();
    let dialled = case.dialled.parse().expect("an address");
    let network = NetworkId::default();
    let local = NetworkAddress { network: network.clone(), ip: dialled };
    let ask = Ask {
        world: &world,
        own_network: &network,
        local: world.workload_by_ip(&local).expect("known"),
        dialled,
        illegal_ports: &[15001, 15006, 15008],
    };
    match check(&ask, &wanted(case.authority)) {
        Ok(Target { to, proxy_header: None, .. }) => to.to_string(),
        Ok(Target { to, proxy_header: Some(header), .. }) => format!("{to} header {header}"),
        Err(error) => error.status().to_string(),
    }
}

#[test]
fn the_checklist() {
    use Of::{Service, Workload};
    let at_waypoint = |of, by, authority| Case { of, by, dialled: WAYPOINT, authority, ..BASE };
    let cases = [
        ("IN-01", Case { authority: "10.0.0.2:8080", ..BASE }, "10.0.0.2:8080"),
        ("IN-02", Case { authority: "web.shop.svc.cluster.local:80", ..BASE }, "10.0.0.2:8080"),
        ("IN-02 named port", Case { authority: "web.shop.svc.cluster.local:81", ..BASE }, "10.0.0.2:9090"),
        ("IN-02 unmapped", Case { authority: "web.shop.svc.cluster.local:82", ..BASE }, "503"),
        ("IN-02 unknown port", Case { authority: "web.shop.svc.cluster.local:99", ..BASE }, "503"),
        ("IN-02 unknown host", Case { authority: "other.shop:80", ..BASE }, "503"),
        ("IN-03", at_waypoint(Workload, WAYPOINT, "10.0.0.2:8080"), "10.0.0.9:8080"),
        ("IN-04", at_waypoint(Workload, "10.9.0.9", "10.0.0.2:8080"), "10.0.0.9:8080"),
        (
            "IN-05",
            Case { app_tunnel: true, ..at_waypoint(Workload, "10.9.0.9", "10.0.0.2:8080") },
            "10.0.0.9:15088 header 10.0.0.2:8080",
        ),
        ("IN-06", at_waypoint(Service, WAYPOINT, "10.9.0.1:8080"), "10.0.0.9:8080"),
        ("IN-07", at_waypoint(Service, "10.9.0.9", "10.9.0.1:8080"), "10.0.0.9:8080"),
        (
            "IN-08",
            Case { app_tunnel: true, ..at_waypoint(Service, "10.9.0.9", "10.9.0.1:8080") },
            "10.0.0.9:15088 header 10.9.0.1:8080",
        ),
        ("IN-09", Case { authority: "10.0.0.1:8080", ..BASE }, "400"),
        ("IN-10", at_waypoint(Of::Nobody, WAYPOINT, "10.0.0.1:8080"), "400"),
        ("IN-11", at_waypoint(Service, WAYPOINT, "10.0.0.2:8080"), "400"),
        ("IN-12", at_waypoint(Workload, WAYPOINT, "10.9.0.1:8080"), "400"),
        ("our own port", Case { authority: "10.0.0.2:15001", ..BASE }, "503"),
        (
            "our own port before the tunnel's",
            Case { app_tunnel: true, ..at_waypoint(Of::Nobody, WAYPOINT, "10.99.0.1:15006") },
            "503",
        ),
        (
            "a tunnel takes any address",
            Case { app_tunnel: true, ..at_waypoint(Of::Nobody, WAYPOINT, "10.99.0.1:80") },
            "10.0.0.9:15088 header 10.99.0.1:80",
        ),
        (
            "a name in a header is its virtual address with the service's port",
            Case { app_tunnel: true, ..at_waypoint(Of::Nobody, WAYPOINT, "web.shop.svc.cluster.local:80") },
            "10.0.0.9:15088 header 10.9.0.1:80",
        ),
    ];
    for (id, case, expected) in cases {
        assert_eq!(run(&case), expected, "{id}");
    }
}
