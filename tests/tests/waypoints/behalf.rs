//! Policies of a pod that see who is behind its waypoint, where its namespace asks for that.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};

const URL: &str = "http://server.behalf/";
const NEAR: &str = "behalf/client";
const FAR: &str = "behalf-far/client";

/// The status of a request's answer.
fn status(lab: &Lab, client: &str) -> Option<String> {
    lab.exec(client, &["curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", URL]).ok()
}

/// Waits until requests of the two clients are answered so.
fn becomes(lab: &Lab, what: &str, [near, far]: [&str; 2]) {
    for (client, expected) in [(NEAR, near), (FAR, far)] {
        until(&format!("{what}: {expected} for {client}"), || (status(lab, client)? == expected).then_some(()));
    }
}

fn policy(action: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: far, namespace: behalf}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n  action: {action}\n  rules:\n  \
         - from: [{{source: {{namespaces: [behalf-far]}}}}]\n"
    )
}

#[test]
fn a_pods_policies_see_who_is_behind_its_waypoint_once_that_is_asked_for() {
    let lab = Lab::shared();
    let parts = [
        namespace("behalf", true),
        namespace("behalf-far", true),
        echo(NEAR, "node-1", ""),
        echo(FAR, "node-1", ""),
        echo("behalf/server", "node-2", ""),
        service("behalf/server", "app: server", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("behalf", &["--all"]);
    lab.ready("behalf-far", &["--all"]);
    lab.waypoint("behalf", (NEAR, URL));

    lab.apply(&policy("ALLOW"));
    becomes(&lab, "the pod knows the waypoint alone, and allows it nothing", ["503", "503"]);
    lab.kubectl(&["annotate", "namespace", "behalf", "lateen.io/client-identity=believe-waypoint"]);
    becomes(&lab, "it knows who is behind it", ["503", "200"]);
    lab.apply(&policy("DENY"));
    becomes(&lab, "and denies by that", ["200", "503"]);
    lab.kubectl(&["annotate", "namespace", "behalf", "lateen.io/client-identity-"]);
    becomes(&lab, "it is asked for no longer", ["200", "200"]);
    lab.kubectl(&["delete", "namespace", "behalf", "behalf-far", "--wait=false"]);
}
