//! Layer 7: a waypoint that the controller runs, a route and a policy that it carries out, and what their authors are told.

use super::{
    app::App,
    driver::{Cluster, gateway_api, note, until},
    life::{roll, under_load},
};

const CALLS: u32 = 100;

impl App {
    /// The application in the mesh with two more servers, `blue` and `green`, and a waypoint for its namespace.
    fn start_behind_waypoint(namespace: &'static str) -> Self {
        let app = Self::start_enrolled(namespace);
        gateway_api(app.cluster);
        let [first, second] = &app.cluster.nodes;
        app.cluster.apply(
            &[
                app.deployment("blue", first),
                app.service_of("blue"),
                app.deployment("green", second),
                app.service_of("green"),
            ]
            .concat(),
        );
        for name in ["deploy/blue", "deploy/green"] {
            app.cluster.rolled_out(namespace, name);
        }
        app.enrolled(4);
        app.waypoint();
        app.cluster.kubectl(&["label", "namespace", namespace, "istio.io/use-waypoint=waypoint"]);
        until("the service is bound to the waypoint", || {
            let path = r#".status.conditions[?(@.type=="istio.io/WaypointBound")].status"#;
            (app.cluster.field(&["service", "-n", namespace, "server"], path) == "True").then_some(())
        });
        until("calls pass the waypoint", || app.call().ok().filter(|answer| answer.contains("x-request-id")));
        app
    }

    /// A Gateway of the class `istio-waypoint`, and what is made of it.
    fn waypoint(&self) {
        self.cluster.apply(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: waypoint, namespace: {}}}\nspec:\n  \
             gatewayClassName: istio-waypoint\n  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]\n",
            self.namespace
        ));
        self.has("gateway/waypoint", "Programmed");
        self.cluster.rolled_out(self.namespace, "deploy/waypoint");
    }

    /// Waits for a condition that is not below `status.parents`.
    fn has(&self, object: &str, condition: &str) {
        let wait = format!("--for=condition={condition}");
        self.cluster.kubectl(&["wait", &wait, object, "-n", self.namespace, "--timeout=140s"]);
    }

    fn field(&self, object: &str, path: &str) -> String {
        self.cluster.field(&[object, "-n", self.namespace], path)
    }

    /// Requests to `server` split between the other two by weight.
    fn split(&self, blue: u32, green: u32) {
        self.cluster.apply(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: split, namespace: {}}}\nspec:\n  \
             parentRefs: [{{group: \"\", kind: Service, name: server, port: 80}}]\n  rules:\n    - backendRefs:\n        \
             - {{name: blue, port: 80, weight: {blue}}}\n        - {{name: green, port: 80, weight: {green}}}\n",
            self.namespace
        ));
        for condition in ["Accepted", "ResolvedRefs"] {
            let path = format!(r#".status.parents[*].conditions[?(@.type=="{condition}")].status"#);
            until(&format!("the route's author is told {condition}"), || {
                (self.field("httproute/split", &path) == "True").then_some(())
            });
        }
    }

    /// How many of [`CALLS`] calls each server answered.
    fn answers(&self) -> (u32, u32) {
        let script = format!(
            "for i in $(seq {CALLS}); do timeout 10 wget -q -O - http://server/ || echo Hostname: nobody-; done | grep ^Hostname"
        );
        let words = self.in_client(&["sh", "-c", &script]).expect("the client runs");
        let of = |name: &str| words.lines().filter(|line| line.starts_with(&format!("Hostname: {name}-"))).count();
        let (blue, green) = (of("blue"), of("green"));
        assert_eq!(blue + green + of("server"), CALLS as usize, "some calls failed: {words}");
        (u32::try_from(blue).expect("few"), u32::try_from(green).expect("few"))
    }

    /// What a call to this path of `server` gets: the answer, or the client's complaint.
    fn ask(&self, path: &str) -> Result<String, String> {
        self.in_client(&["timeout", "10", "wget", "-q", "-O", "-", &format!("http://server{path}")])
    }
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_waypoint_is_run_splits_traffic_and_denies_by_path() {
    let app = App::start_behind_waypoint("lateen-test-layer7");
    what_was_made(&app);

    app.split(3, 1);
    until("the route holds", || (app.answers().0 > 0).then_some(()));
    let (blue, green) = app.answers();
    note(format_args!("3 to 1: of {CALLS} calls blue answered {blue}, green {green}"));
    // Six standard deviations.
    assert!((75 - 26..=75 + 26).contains(&blue) && blue + green == CALLS, "blue {blue}, green {green}");
    app.split(0, 1);
    until("the changed route holds", || (app.answers() == (0, CALLS)).then_some(()));

    app.cluster.apply(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: no-admin, namespace: {}}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: server}}]\n  action: DENY\n  \
         rules: [{{to: [{{operation: {{paths: [\"/admin*\"]}}}}]}}]\n",
        app.namespace
    ));
    let refusal = until("the path is refused", || app.ask("/admin/users").err());
    assert!(refusal.contains("403"), "{refusal}");
    app.ask("/").expect("other paths are open");
    app.has("authorizationpolicy/no-admin", "WaypointAccepted");
    app.cluster.kubectl(&["delete", "authorizationpolicy", "-n", app.namespace, "no-admin"]);
    until("the path is open again", || app.ask("/admin/users").ok());
}

/// Two pods on two nodes, one of which stays while nodes are drained, and the address that says where.
fn what_was_made(app: &App) {
    let Cluster { nodes, .. } = app.cluster;
    let pods = ["pods", "-n", app.namespace, "-l", "gateway.networking.k8s.io/gateway-name=waypoint"];
    let on = app.cluster.field(&pods, ".items[*].spec.nodeName");
    assert!(nodes.iter().all(|node| on.split(' ').any(|one| one == node)), "waypoint pods run on {on}");
    assert_eq!(app.field("deployment/waypoint", ".status.availableReplicas"), "2");
    assert_eq!(app.field("poddisruptionbudget/waypoint", ".spec.minAvailable"), "1");
    assert_eq!(app.field("service/waypoint", ".spec.type"), "ClusterIP");
    let own = app.field("service/waypoint", ".spec.clusterIP");
    let told = app.field("gateway/waypoint", ".status.addresses[*].value");
    assert!(
        told.split(' ').any(|address| address == own),
        "the Gateway is told to be at {told}, its Service is at {own}"
    );
    note(format_args!("the waypoint runs on {on} and is at {told}"));
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_waypoint_is_replaced_without_a_lost_call_and_missed_when_it_goes() {
    let app = App::start_behind_waypoint("lateen-test-waypoint");
    let load = under_load(&app, || roll(&app, app.namespace, "deploy/waypoint"));
    note(format_args!("rollout of a waypoint: {} calls, {} failed", load.made, load.failed));
    assert!(load.made > 0 && load.failed == 0, "{}", load.words);

    app.cluster.kubectl(&["delete", "gateway", "-n", app.namespace, "waypoint"]);
    until("calls are refused", || app.call().err());
    until("all that was made is gone", || {
        let left = ["get", "deploy,service,poddisruptionbudget,serviceaccount", "-n", app.namespace, "-o", "name"];
        (!app.cluster.kubectl(&left).contains("/waypoint")).then_some(())
    });
    app.waypoint();
    until("calls are answered again", || app.call().ok());
}
