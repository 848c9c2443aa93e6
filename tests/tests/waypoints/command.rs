//! `lateen waypoint` as a process, on a cluster.

use lateen_tests::lab::{Lab, manifest::namespace};

/// What a shell command printed, whether or not it failed.
fn shell(lab: &Lab, command: &str) -> String {
    lab.shell(command).unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Its complaint.
fn complaint(lab: &Lab, command: &str) -> String {
    lab.shell(command).expect_err(command)
}

/// A table's rows, word by word.
fn rows(table: &str) -> Vec<String> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn waypoints_are_written_shown_and_removed() {
    let lab = Lab::shared();
    lab.apply(&[namespace("verbs", true), namespace("bare", false)].concat());
    let gateway = |name: &str, path: &str| lab.field(&["gateway", "-n", "verbs", name], path);

    assert_eq!(shell(&lab, "lateen waypoint list -n verbs"), "No waypoints found in namespace verbs.\n");
    assert_eq!(shell(&lab, "lateen waypoint status -n verbs"), "No waypoints found in namespace verbs.\n");

    // What is generated is what a cluster takes.
    let generated = "lateen waypoint generate -n verbs --name kept --for all --revision r1";
    shell(&lab, &format!("{generated} | kubectl apply -f -"));
    assert_eq!(gateway("kept", ".metadata.labels"), r#"{"istio.io/rev":"r1","istio.io/waypoint-for":"all"}"#);
    assert_eq!(gateway("kept", ".spec.gatewayClassName"), "istio-waypoint");

    // An apply waits, enrols, can be repeated, and leaves a namespace alone that uses another.
    let apply = "lateen waypoint apply -n verbs --enroll-namespace --wait";
    let said = "waypoint verbs/waypoint applied\nwaypoint verbs/waypoint is ready\n\
                namespace verbs labelled istio.io/use-waypoint=waypoint\n";
    assert_eq!(shell(&lab, apply), said);
    assert_eq!(shell(&lab, apply), said);
    let used = |expected: &str| {
        assert_eq!(lab.field(&["namespace", "verbs"], r".metadata.labels.istio\.io/use-waypoint"), expected);
    };
    used("waypoint");
    let other = "lateen waypoint apply -n verbs --name other --enroll-namespace";
    assert!(shell(&lab, other).contains("uses the waypoint waypoint already; nothing was applied"));
    assert!(lab.try_kubectl(&["get", "gateway", "-n", "verbs", "other"]).is_err(), "it was applied all the same");
    assert!(shell(&lab, &format!("{other} --overwrite")).contains("labelled istio.io/use-waypoint=other"));
    used("other");
    assert!(
        shell(&lab, "lateen waypoint apply -n bare --enroll-namespace")
            .contains("warning: namespace bare is not in the mesh")
    );

    shell(&lab, "lateen waypoint status -n verbs --name other --wait=false");
    let listed = rows(&shell(&lab, "lateen waypoint list -n verbs"));
    assert_eq!(listed[0], "NAME REVISION TRAFFIC TYPE PROGRAMMED");
    assert!(listed[1].starts_with("kept r1 all ") && listed[2].starts_with("other default service "), "{listed:?}");
    assert_eq!(listed[3], "waypoint default service True");
    let everywhere = rows(&shell(&lab, "lateen waypoint list -A"));
    assert!(everywhere.iter().any(|row| row.starts_with("bare waypoint default service ")), "{everywhere:?}");
    let status = rows(&shell(&lab, "lateen waypoint status -n verbs --wait=false"));
    assert!(status.iter().any(|row| row.starts_with("waypoint True Programmed ")), "{status:?}");

    // Who uses what goes is warned of, and what is not there is named.
    let said = shell(&lab, "lateen waypoint delete -n verbs other absent");
    assert!(said.contains("there is no waypoint verbs/absent\n"), "{said}");
    assert!(said.contains("warning: namespace verbs uses verbs/other; traffic to it is refused"), "{said}");
    assert!(said.contains("waypoint verbs/other deleted\n"), "{said}");
    assert_eq!(shell(&lab, "lateen waypoint delete -n verbs --revision r1"), "waypoint verbs/kept deleted\n");
    assert_eq!(shell(&lab, "lateen waypoint delete -n verbs --all"), "waypoint verbs/waypoint deleted\n");

    assert!(complaint(&lab, "lateen waypoint delete -n verbs").contains("name the waypoints to delete"));
    assert!(complaint(&lab, "lateen waypoint apply -n nowhere --enroll-namespace").contains("nowhere"));
    assert!(
        complaint(&lab, "lateen waypoint apply -n verbs --name none").contains("that word means that there is none")
    );
    assert!(complaint(&lab, "KUBECONFIG=/nowhere lateen waypoint list").contains("KUBECONFIG"));
    lab.kubectl(&["delete", "namespace", "verbs", "bare", "--wait=false"]);
}
