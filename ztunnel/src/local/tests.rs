//! The specification's example, and what is refused.
use lateen_state::world::WorldStore;
use lateen_types::name::WorkloadUid;

use super::*;

const EXAMPLE: &str = r#"
workloads:
- uid: cluster1//Pod/default/web
  name: web
  namespace: default
  serviceAccount: default
  trustDomain: cluster.local
  workloadIps: ["10.0.0.5"]
  protocol: HBONE
  networkMode: Standard
  network: ""
  node: node1
  clusterId: Kubernetes
  workloadName: web
  workloadType: deployment
  canonicalName: web
  canonicalRevision: v1
  hostname: ""
  nativeTunnel: false
  applicationTunnel: {protocol: PROXY, port: 15088}
  waypoint: {destination: "/10.9.0.1", hboneMtlsPort: 15008}
  networkGateway: {destination: "ns/gw.example.com", hboneMtlsPort: 15008}
  authorizationPolicies: ["default/p1"]
  status: Healthy
  locality: {region: r, zone: z, subzone: s}
  capacity: 1
  services:
    "default/web.default.svc.cluster.local": {80: 8080}
services:
- name: web
  namespace: default
  hostname: web.default.svc.cluster.local
  vips: ["/10.96.0.10"]
  cidrVips: [{network: "", cidr: 240.1.0.0/16}]
  ports: {80: 8080}
  subjectAltNames: []
  waypoint: {destination: "/10.9.0.1", hboneMtlsPort: 15008}
  weightedWaypoints: [{destination: {destination: "/10.9.0.2", hboneMtlsPort: 15008}, weight: 10}]
  loadBalancer: {routingPreferences: [Network, Region, Zone], mode: Failover, healthPolicy: OnlyHealthy}
  ipFamilies: Dual
  canonical: true
  visibility: Public
policies:
- name: p
  namespace: default
  scope: Namespace
  action: Allow
  dryRun: false
  rules:
  - - - namespaces: [!Exact default, !Prefix a, !Suffix z]
        notPrincipals: [!Presence []]
        serviceAccounts: [{namespace: default, serviceAccount: web}]
        sourceIps: ["10.0.0.0/8"]
        destinationPorts: [80]
"#;

#[test]
fn the_example_loads_whole() {
    let store = WorldStore::new(None);
    store.apply(parse(EXAMPLE).expect("the example is valid"));
    let world = store.load();
    assert_eq!((world.workloads().count(), world.services().count(), world.policies().count()), (1, 1, 1));
    let web = world.workload(&WorkloadUid::from("cluster1//Pod/default/web")).expect("known");
    assert_eq!(web.identity.to_string(), "spiffe://cluster.local/ns/default/sa/default");
    let service = world.services().next().expect("known");
    assert_eq!(world.endpoints(service).count(), 1);
    assert_eq!(service.weighted_waypoints.len(), 1);
    let policy = world.policies().next().expect("known");
    let only = &policy.rules[0].clauses[0].matches[0];
    let shown = format!("{only:?}");
    for part in ["exact: [\"default\"]", "Prefix(\"a\")", "Suffix(\"z\")", "Presence", "10.0.0.0/8", "80"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn refusals_name_the_resource() {
    let check = |text: &str, words: &[&str]| {
        let error = parse(text).expect_err("it should be refused").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    check("nonsense: 1", &["nonsense"]);
    check("workloads: [{uid: a}]", &["namespace"]);
    check("services: [{namespace: a, hostname: b, vips: [x]}]", &["service a/b", "<network>/<ip>"]);
    check(
        "workloads: [{uid: u, namespace: n, workloadIps: [1.1.1.1], services: {bad: {}}}]",
        &["workload u", "services"],
    );
    check(
        "workloads: [{uid: u, namespace: n, workloadIps: [], waypoint: {destination: x}, services: {}}]",
        &["workload u", "<namespace>/<hostname>"],
    );
    assert!(load(&LocalSource::File("/nonexistent".into())).expect_err("no file").to_string().contains("/nonexistent"));
    assert!(parse("").expect("nothing is nothing").is_empty());
}
