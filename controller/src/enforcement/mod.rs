//! Whether policies are in force: which proxies hold what.
//!
//! In: proxies' progress, policies as they change. Out: the condition `Enforced` of each policy.
//! A node proxy holds a policy once it has acknowledged everything of the batch the policy came in, policies and workloads
//! both: a selector policy is in force where its workloads name it. A policy with targets is in force once every proxy of
//! the Gateways it is sent to has acknowledged it, and what names it. Of proxies connected to other controllers `share`
//! brings reports to the one that leads, which alone tells. Absent on purpose: writing (see `status`), words (see
//! `derive::enforced`).

mod places;
mod report;
pub mod share;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lateen_cluster::store::Key;
use lateen_wire::type_url;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

pub use self::places::Moves;
use self::{places::Places, report::Report};
use crate::{
    derive::{
        enforced::{self, Count, Enforceable},
        word::Word,
    },
    graph::{Enforcing, Kind, Object, Reporter, Told},
    status::Statuses,
};

/// Between two looks at all.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A policy on its way is said to be so only after this; usually it has arrived by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Numbers alone, which change with every proxy that comes or goes, are written no more often than this.
const NUMBERS_EVERY: Duration = Duration::from_secs(30);
/// Rejections remembered for each proxy, and how much of each.
const REJECTIONS_MAX: usize = 32;
const REJECTION_CHARS_MAX: usize = 1000;
/// Proxies named in a message.
const NAMED_MAX: usize = 3;

/// What is known of proxies and policies; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Enforcement {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    proxies: Mutex<HashMap<u64, Arc<Slot>>>,
    numbers: AtomicU64,
    rules: Mutex<HashMap<Object, Rule>>,
    /// Taken while `rules` is held, or alone.
    places: Mutex<Places>,
    /// What other controllers count; `None` while another leads, or as long as nobody was asked.
    others: Mutex<Option<Vec<Report>>>,
    changed: Notify,
}

/// One proxy. Revisions are one more than the table's, 0 is none yet.
#[derive(Debug, Default)]
struct Slot {
    name: String,
    /// Whose instance it is.
    gateway: Option<Key>,
    policies: AtomicU64,
    addresses: AtomicU64,
    /// Of a Gateway's instance: its policies, and the services and the proxy that name them.
    own: [AtomicU64; OWN.len()],
    /// Whether it asked for node proxies' policies at all.
    asked: std::sync::atomic::AtomicBool,
    rejections: Mutex<VecDeque<Rejection>>,
}

/// What a Gateway's instance must hold for a policy to be in force there.
const OWN: [&str; 3] = [type_url::POLICY, type_url::SERVICE, type_url::PROXY];

#[derive(Debug)]
struct Rejection {
    /// The type of what was rejected.
    kind: &'static str,
    /// The revision it was about; `None` until the proxy has settled.
    revision: Option<u64>,
    words: String,
}

#[derive(Debug, Clone)]
struct Rule {
    generation: i64,
    what: Enforceable,
    required: u64,
    since: Instant,
    said: Option<(Word, Instant)>,
    said_generation: i64,
}

impl Enforcement {
    /// A proxy connects; it counts while the value lives.
    pub fn connect(&self, name: &str, gateway: Option<Key>) -> Connected {
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot { name: name.to_owned(), gateway, ..Slot::default() });
        self.shared.proxies.lock().insert(number, slot.clone());
        Connected { shared: self.shared.clone(), number, slot }
    }

    /// These policies changed, or where they are sent, and the table was at `revision` afterwards.
    pub fn begin(&self, changed: Vec<Enforcing>, moves: Moves, revision: u64) {
        let mut rules = self.shared.rules.lock();
        let moved = self.shared.places.lock().take(moves);
        if changed.is_empty() && moved.is_empty() {
            return;
        }
        for Enforcing { object, generation, what } in changed {
            let Some(what) = what else {
                rules.remove(&object);
                continue;
            };
            let before = rules.remove(&object);
            let (said, said_generation) = before.map_or((None, 0), |rule| (rule.said, rule.said_generation));
            let rule = Rule { generation, what, required: revision + 1, since: Instant::now(), said, said_generation };
            rules.insert(object, rule);
        }
        for key in moved {
            let object = Object { kind: Kind::AuthorizationPolicy, key };
            if let Some(rule) = rules.get_mut(&object) {
                (rule.required, rule.since) = (revision + 1, Instant::now());
            }
        }
        drop(rules);
        self.shared.changed.notify_one();
    }

    /// What other controllers count, `None` where another one tells authors.
    fn others(&self, reports: Option<Vec<Report>>) {
        let mut held = self.shared.others.lock();
        if *held == reports {
            return;
        }
        if reports.is_none() {
            // Whoever led in between may have said something else.
            self.shared.rules.lock().values_mut().for_each(|rule| rule.said = None);
        }
        *held = reports;
        drop(held);
        self.shared.changed.notify_one();
    }

    /// What is counted here, for the controller that leads.
    fn report(&self) -> Report {
        let proxies = self.proxies();
        let mut report =
            Report { connected: proxies.iter().filter(|slot| slot.is_asking()).count(), ..Report::default() };
        let rules = self.shared.rules.lock();
        let places = self.shared.places.lock();
        for (object, rule) in rules.iter() {
            match rule.what {
                Enforceable::Whole | Enforceable::Without(_) | Enforceable::AtWaypoint(_) => {
                    report.put(object, rule.generation, count(&proxies, object, (rule, &places)));
                }
                Enforceable::Nothing(_) | Enforceable::Overridden(_) => {}
            }
        }
        report
    }

    /// All that are connected.
    fn proxies(&self) -> Vec<Arc<Slot>> {
        self.shared.proxies.lock().values().cloned().collect()
    }

    /// Tells what changes, for ever.
    pub async fn run(self, statuses: Statuses) {
        loop {
            let (told, again) = self.look(Instant::now());
            told.into_iter().for_each(|told| statuses.tell(told));
            sleep(LOOK_EVERY).await;
            // Nothing is lost: a notification stays until it is taken.
            let changed = self.shared.changed.notified();
            match again {
                Some(wait) => drop(timeout(wait, changed).await),
                None => changed.await,
            }
        }
    }

    /// What is to be told now, and when to look again although nothing changes.
    fn look(&self, now: Instant) -> (Vec<Told>, Option<Duration>) {
        let proxies = self.proxies();
        let (mut told, mut again) = (Vec::new(), None);
        let Some(others) = self.shared.others.lock().clone() else { return (told, again) };
        let mut rules = self.shared.rules.lock();
        let places = self.shared.places.lock();
        for (object, rule) in rules.iter_mut() {
            let mut count = count(&proxies, object, (rule, &places));
            others.iter().for_each(|report| report.add_to(&mut count, object, rule.generation));
            let word = enforced::word(&rule.what, &count);
            match rule.due(&word, now) {
                Due::Now => {
                    rule.said = Some((word.clone(), now));
                    rule.said_generation = rule.generation;
                    told.push(Told {
                        object: object.clone(),
                        reporter: Reporter::Enforcement,
                        generation: rule.generation,
                        words: vec![word],
                        was_said: false,
                        parents: Vec::new(),
                        listeners: Vec::new(),
                        is_gone: false,
                    });
                }
                Due::In(wait) => again = Some(again.map_or(wait, |other: Duration| other.min(wait))),
                Due::Said => {}
            }
        }
        (told, again)
    }
}

enum Due {
    Now,
    In(Duration),
    Said,
}

impl Rule {
    fn is_at_waypoints(&self) -> bool {
        matches!(self.what, Enforceable::AtWaypoint(_))
    }

    fn due(&self, word: &Word, now: Instant) -> Due {
        let waiting = word.reason == "Pending" || word.reason == "NoProxies";
        let patient = (self.since + PATIENCE).saturating_duration_since(now);
        let Some((said, at)) = self.said.as_ref().filter(|_| self.said_generation == self.generation) else {
            return if waiting && !patient.is_zero() { Due::In(patient) } else { Due::Now };
        };
        if said == word {
            return Due::Said;
        }
        if (said.truth, said.reason) != (word.truth, word.reason) {
            return if waiting && !patient.is_zero() { Due::In(patient) } else { Due::Now };
        }
        let rest = (*at + NUMBERS_EVERY).saturating_duration_since(now);
        if rest.is_zero() { Due::Now } else { Due::In(rest) }
    }
}

fn count(proxies: &[Arc<Slot>], object: &Object, (rule, places): (&Rule, &Places)) -> Count {
    let mut count = Count::default();
    let gateways = rule.is_at_waypoints().then(|| places.of(&object.key));
    count.gateways = gateways.as_ref().map_or(0, BTreeSet::len);
    let enforces = |slot: &&Arc<Slot>| match (&gateways, &slot.gateway) {
        (None, _) => slot.is_asking(),
        (Some(gateways), Some(gateway)) => gateways.contains(gateway),
        (Some(_), None) => false,
    };
    for slot in proxies.iter().filter(enforces) {
        count.connected += 1;
        let held = if gateways.is_some() { slot.holds_own() } else { slot.holds_all() };
        if let Some(words) = slot.rejected(object, rule) {
            count.rejected.get_or_insert((slot.name.clone(), words));
        } else if held >= rule.required {
            count.holding += 1;
        } else if count.waiting.len() < NAMED_MAX {
            count.waiting.push(slot.name.clone());
        }
    }
    count.waiting.sort_unstable();
    count
}

impl Slot {
    /// Whether it is a node proxy, which asks for its policies.
    fn is_asking(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// The newest revision of which a node proxy holds everything.
    fn holds_all(&self) -> u64 {
        self.policies.load(Ordering::Acquire).min(self.addresses.load(Ordering::Acquire))
    }

    /// The same, of a Gateway's instance.
    fn holds_own(&self) -> u64 {
        self.own.iter().map(|held| held.load(Ordering::Acquire)).min().unwrap_or_default()
    }

    /// What the proxy said against a policy since it last changed.
    fn rejected(&self, object: &Object, rule: &Rule) -> Option<String> {
        let rejections = self.rejections.lock();
        let recent = rejections.iter().filter(|one| one.revision.is_some_and(|revision| revision >= rule.required));
        if rule.is_at_waypoints() {
            let of_policies = recent.filter(|one| one.kind == type_url::POLICY);
            return of_policies.filter_map(|one| said_of_own(&one.words, &object.key)).next().map(str::to_owned);
        }
        let resource = match object.kind {
            Kind::AuthorizationPolicy => format!("{}: ", object.key),
            Kind::PeerAuthentication => {
                format!("{}/converted_peer_authentication_{}: ", object.key.namespace, object.key.name)
            }
            Kind::Service
            | Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::VirtualService
            | Kind::DestinationRule
            | Kind::Route(_)
            | Kind::Gateway
            | Kind::Servers
            | Kind::BackendTlsPolicy => {
                return None;
            }
        };
        let of_policies = recent.filter(|one| one.kind == type_url::AUTHORIZATION);
        of_policies.filter_map(|one| said_of(&one.words, &resource)).next().map(str::to_owned)
    }
}

/// The part of `name: reason; name: reason` that is about `resource` (with its colon).
fn said_of<'a>(words: &'a str, resource: &str) -> Option<&'a str> {
    words.split("; ").find_map(|part| part.strip_prefix(resource))
}

/// The same of any resource that a policy is sent as.
fn said_of_own<'a>(words: &'a str, policy: &Key) -> Option<&'a str> {
    let mut parts = words.split("; ").filter_map(|part| part.split_once(": "));
    parts.find(|(resource, _)| places::read(resource).is_some_and(|(_, of)| of == *policy)).map(|(_, words)| words)
}

/// A connected proxy.
#[derive(Debug)]
pub struct Connected {
    shared: Arc<Shared>,
    number: u64,
    slot: Arc<Slot>,
}

impl Connected {
    /// The proxy settled at a revision of the table for a type, or asks for the type for the first time.
    pub fn progressed(&self, kind: &str, revision: Option<u64>) {
        let place = match kind {
            type_url::AUTHORIZATION => {
                self.slot.asked.store(true, Ordering::Release);
                &self.slot.policies
            }
            type_url::ADDRESS => &self.slot.addresses,
            other => match OWN.iter().position(|own| *own == other) {
                Some(at) => &self.slot.own[at],
                None => return,
            },
        };
        if let Some(revision) = revision {
            let mut rejections = self.slot.rejections.lock();
            let same = rejections.iter_mut().filter(|one| one.kind == kind);
            same.for_each(|one| _ = one.revision.get_or_insert(revision + 1));
            drop(rejections);
            place.store(revision + 1, Ordering::Release);
        }
        self.shared.changed.notify_one();
    }

    /// The proxy could not use all of a response; of policies that is remembered.
    pub fn rejected(&self, kind: &str, words: &str) {
        let kinds = [type_url::AUTHORIZATION, type_url::POLICY];
        let Some(kind) = kinds.into_iter().find(|one| *one == kind) else { return };
        let mut rejections = self.slot.rejections.lock();
        if rejections.len() >= REJECTIONS_MAX {
            rejections.pop_front();
        }
        let words = words.chars().take(REJECTION_CHARS_MAX).collect();
        rejections.push_back(Rejection { kind, revision: None, words });
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.proxies.lock().remove(&self.number);
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
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
        let entry =
            lateen_xds::resource::Entry::new(type_url::POLICY, resource, &lateen_wire::proxy::Policy::default());
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
}
