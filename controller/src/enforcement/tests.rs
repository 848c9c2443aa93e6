//! Policies in force, on their way, rejected.

use lateen_cluster::store::Key;

use super::*;

fn object() -> Object {
    Object { kind: Kind::AuthorizationPolicy, key: Key::new("shop", "p") }
}

fn begin(enforcement: &Enforcement, generation: i64, revision: u64) {
    let what = Some(Enforceable::Whole);
    enforcement.begin(vec![Enforcing { object: object(), generation, what }], Moves::default(), revision);
}

/// Of the controller that leads, and knows of no other.
fn leading() -> Enforcement {
    let enforcement = Enforcement::default();
    enforcement.others(Some(Vec::new()));
    enforcement
}

/// The reasons told at `after` the present.
fn told(enforcement: &Enforcement, after: Duration) -> Vec<&'static str> {
    let (told, _) = enforcement.look(Instant::now() + after);
    told.into_iter().flat_map(|told| told.words).map(|word| word.reason).collect()
}

const SOON: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_policy_is_in_force_once_every_proxy_holds_its_batch() {
    let enforcement = leading();
    let (one, other) = (enforcement.connect("z1", None), enforcement.connect("z2", None));
    for proxy in [&one, &other] {
        proxy.progressed(type_url::AUTHORIZATION, None);
        proxy.progressed(type_url::ADDRESS, Some(3));
    }
    begin(&enforcement, 1, 3);
    assert!(told(&enforcement, Duration::ZERO).is_empty(), "it may be on its way");
    assert_eq!(told(&enforcement, SOON), ["Pending"]);
    one.progressed(type_url::AUTHORIZATION, Some(3));
    other.progressed(type_url::AUTHORIZATION, Some(2));
    let (last, _) = enforcement.look(Instant::now() + NUMBERS_EVERY + SOON);
    assert_eq!(last[0].words[0].message, "in force at 1 of 2 connected proxies; waiting for z2");
    other.progressed(type_url::AUTHORIZATION, Some(3));
    assert_eq!(told(&enforcement, SOON), ["InForce"]);
    assert!(told(&enforcement, SOON).is_empty(), "it is said once");
    // A new batch: the workloads that name the policy count too.
    begin(&enforcement, 2, 4);
    one.progressed(type_url::AUTHORIZATION, Some(4));
    other.progressed(type_url::AUTHORIZATION, Some(4));
    one.progressed(type_url::ADDRESS, Some(4));
    assert_eq!(told(&enforcement, SOON), ["Pending"]);
    drop(other);
    assert_eq!(told(&enforcement, SOON), ["InForce"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_names_the_proxy_until_the_policy_changes() {
    let enforcement = leading();
    let proxy = enforcement.connect("z1", None);
    proxy.progressed(type_url::ADDRESS, Some(9));
    begin(&enforcement, 1, 1);
    proxy.rejected(type_url::AUTHORIZATION, "shop/other: no; shop/p: bad scope");
    proxy.progressed(type_url::AUTHORIZATION, Some(1));
    let (told_now, _) = enforcement.look(Instant::now());
    assert_eq!(told_now[0].words[0].reason, "Rejected");
    assert!(told_now[0].words[0].message.ends_with("z1 rejected it: bad scope"));
    begin(&enforcement, 2, 2);
    proxy.progressed(type_url::AUTHORIZATION, Some(2));
    assert_eq!(told(&enforcement, Duration::ZERO), ["InForce"]);
}

#[tokio::test(start_paused = true)]
async fn proxies_that_ask_for_no_policies_do_not_count() {
    let enforcement = leading();
    let waypoint = enforcement.connect("w", None);
    waypoint.progressed(type_url::WORKLOAD, Some(7));
    begin(&enforcement, 1, 1);
    assert_eq!(told(&enforcement, SOON), ["NoProxies"]);
    enforcement.begin(vec![Enforcing { object: object(), generation: 0, what: None }], Moves::default(), 2);
    assert!(enforcement.shared.rules.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_in_force_when_the_proxies_of_all_controllers_hold_it() {
    let (leader, follower) = (Enforcement::default(), Enforcement::default());
    let holding = |enforcement: &Enforcement, name: &str| {
        let proxy = enforcement.connect(name, None);
        proxy.progressed(type_url::ADDRESS, Some(1));
        proxy.progressed(type_url::AUTHORIZATION, Some(1));
        proxy
    };
    let (_one, other) = (holding(&leader, "z1"), holding(&follower, "z2"));
    begin(&leader, 1, 1);
    assert!(told(&leader, SOON).is_empty(), "nobody was asked yet");
    // The other controller has not seen the policy.
    leader.others(Some(vec![Report { from: "c2".to_owned(), ..follower.report() }]));
    let (words, _) = leader.look(Instant::now() + SOON);
    assert_eq!(words[0].words[0].message, "in force at 1 of 2 connected proxies; waiting for the proxies of c2");
    begin(&follower, 1, 4);
    leader.others(Some(vec![follower.report()]));
    assert!(told(&leader, SOON).is_empty(), "z2 is at revision 1 of 4");
    other.progressed(type_url::ADDRESS, Some(4));
    other.progressed(type_url::AUTHORIZATION, Some(4));
    leader.others(Some(vec![follower.report()]));
    assert_eq!(told(&leader, SOON), ["InForce"]);
    // Who does not lead any more tells nothing, and all of it when it leads again.
    leader.others(None);
    assert!(told(&leader, SOON).is_empty());
    leader.others(Some(vec![follower.report()]));
    assert_eq!(told(&leader, SOON), ["InForce"]);
}

/// A policy sent so, as it is published.
fn sent(resource: &str) -> Moves {
    let entry = lateen_xds::resource::Entry::new(type_url::POLICY, resource, &lateen_wire::proxy::Policy::default());
    Moves::of(&[lateen_xds::server::Publish::Put(type_url::POLICY, entry)])
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_targets_is_in_force_once_its_waypoints_hold_it() {
    let enforcement = leading();
    let at_waypoint =
        || vec![Enforcing { object: object(), generation: 1, what: Some(Enforceable::AtWaypoint(Vec::new())) }];
    let ztunnel = enforcement.connect("z1", None);
    ztunnel.progressed(type_url::AUTHORIZATION, Some(1));
    ztunnel.progressed(type_url::ADDRESS, Some(1));
    enforcement.begin(at_waypoint(), Moves::default(), 1);
    assert_eq!(told(&enforcement, SOON), ["AtWaypoint"], "nobody is sent it");
    enforcement.begin(Vec::new(), sent("shop/w/shop/a.shop.svc/shop/p"), 2);
    assert_eq!(told(&enforcement, SOON), ["NoProxies"], "what node proxies hold counts nothing");
    let proxies = ["w-1", "w-2"].map(|name| enforcement.connect(name, Some(Key::new("shop", "w"))));
    let _other = enforcement.connect("v-1", Some(Key::new("shop", "v")));
    for proxy in &proxies {
        proxy.progressed(type_url::POLICY, Some(2));
        proxy.progressed(type_url::SERVICE, Some(2));
    }
    assert_eq!(told(&enforcement, SOON), ["Pending"], "what names it counts, too");
    proxies.iter().for_each(|proxy| proxy.progressed(type_url::PROXY, Some(2)));
    let (words, _) = enforcement.look(Instant::now() + SOON);
    assert_eq!(
        (words[0].words[0].reason, &*words[0].words[0].message),
        ("InForce", "in force at 2 of 2 connected proxies")
    );
    // It is sent somewhere else besides, and one proxy cannot use it.
    enforcement.begin(Vec::new(), sent("shop/w/shop/p"), 3);
    proxies[0].rejected(type_url::POLICY, "shop/w/shop/other: no; shop/w/shop/p: bad rules");
    for proxy in &proxies {
        OWN.iter().for_each(|kind| proxy.progressed(kind, Some(3)));
    }
    let (words, _) = enforcement.look(Instant::now() + SOON);
    assert_eq!(words[0].words[0].reason, "Rejected");
    assert!(words[0].words[0].message.ends_with("w-1 rejected it: bad rules"), "{:?}", words[0].words[0].message);
}

/// A resource that names policies, as it is published.
fn named(resource: &str) -> Moves {
    let entry = lateen_xds::resource::Entry::new(type_url::SERVICE, resource, &lateen_wire::proxy::Service::default());
    Moves::of(&[lateen_xds::server::Publish::Put(type_url::SERVICE, entry)])
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_nothing_names_is_not_in_force() {
    let enforcement = leading();
    let what = Some(Enforceable::AtWaypoint(Vec::new()));
    let (service, other) = ("shop/w/shop/a.shop.svc", "shop/w/shop/b.shop.svc");
    let proxy = enforcement.connect("w-1", Some(Key::new("shop", "w")));
    let settle = |revision| OWN.iter().for_each(|kind| proxy.progressed(kind, Some(revision)));
    settle(1);
    let changed = vec![Enforcing { object: object(), generation: 1, what }];
    enforcement.begin(changed, sent(&format!("{service}/shop/p")), 2);
    proxy.rejected(type_url::SERVICE, &format!("{service}: http[0].match: no"));
    settle(2);
    let (words, _) = enforcement.look(Instant::now() + SOON);
    let said = &words[0].words[0];
    assert_eq!(said.reason, "Rejected");
    assert!(said.message.ends_with(&format!("it could not use {service}, which names the policy: http[0].match: no")));
    // Mended, it has to be acknowledged; and what is rejected later takes nothing away that is held.
    enforcement.begin(Vec::new(), named(service), 3);
    assert_eq!(told(&enforcement, SOON), ["Pending"]);
    settle(3);
    assert_eq!(told(&enforcement, SOON), ["InForce"]);
    enforcement.begin(Vec::new(), named(service), 4);
    proxy.rejected(type_url::SERVICE, &format!("{service}: worse; {other}: worse"));
    settle(4);
    assert!(told(&enforcement, NUMBERS_EVERY + SOON).is_empty(), "the version before names it");
}
