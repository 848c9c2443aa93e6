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
#[cfg(test)]
mod tests;

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
    /// What the proxy held of that type before, and holds now.
    before: u64,
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
        let renamed = self.rejected_before(&moves);
        let mut rules = self.shared.rules.lock();
        let mut places = self.shared.places.lock();
        let mut moved = places.take(moves);
        // What was rejected and is sent anew has to be acknowledged anew.
        moved.extend(renamed.iter().flat_map(|namer| places.named_by(namer)).cloned());
        drop(places);
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

    /// What names policies, was rejected by some proxy, and is sent anew now; what was said of it is of the past.
    fn rejected_before(&self, moves: &Moves) -> BTreeSet<String> {
        let sent: BTreeSet<&str> = moves.namers().collect();
        match sent.is_empty() {
            true => BTreeSet::new(),
            false => self.proxies().iter().flat_map(|slot| slot.forget_namers(&sent)).collect(),
        }
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
                Enforceable::Whole | Enforceable::Without(_) | Enforceable::Nothing(_) | Enforceable::AtWaypoint(_) => {
                    report.put(object, rule.generation, count(&proxies, object, (rule, &places)));
                }
                Enforceable::Overridden(_) => {}
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
    // A policy that selects gateways is sent to them, too; others without targets to nobody but node proxies.
    let is_of_nodes = !rule.is_at_waypoints();
    let is_authorization = object.kind == Kind::AuthorizationPolicy;
    let gateways = if is_authorization { places.of(&object.key) } else { BTreeSet::new() };
    count.gateways = gateways.len();
    let is_at_gateway = |slot: &Slot| slot.gateway.as_ref().is_some_and(|gateway| gateways.contains(gateway));
    let enforces = |slot: &&Arc<Slot>| is_at_gateway(slot) || is_of_nodes && slot.is_asking();
    for slot in proxies.iter().filter(enforces) {
        count.connected += 1;
        let held = if is_at_gateway(slot) { slot.holds_own() } else { slot.holds_all() };
        if let Some(words) = slot.rejected(object, (rule, places)) {
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

    /// Forgets what was said of these, which name policies; gives those of which anything was.
    fn forget_namers(&self, namers: &BTreeSet<&str>) -> Vec<String> {
        let mut forgotten = Vec::new();
        let mut rejections = self.rejections.lock();
        for one in rejections.iter_mut().filter(|one| [type_url::SERVICE, type_url::PROXY].contains(&one.kind)) {
            let is_of_them = |part: &&str| part.split_once(": ").is_some_and(|(namer, _)| namers.contains(namer));
            let (gone, kept): (Vec<&str>, Vec<&str>) = one.words.split("; ").partition(is_of_them);
            forgotten.extend(gone.iter().filter_map(|part| part.split_once(": ")).map(|(namer, _)| namer.to_owned()));
            one.words = kept.join("; ");
        }
        forgotten
    }

    /// What the proxy said against a policy since it last changed.
    fn rejected(&self, object: &Object, (rule, places): (&Rule, &Places)) -> Option<String> {
        let rejections = self.rejections.lock();
        let recent = rejections.iter().filter(|one| one.revision.is_some_and(|revision| revision >= rule.required));
        if rule.is_at_waypoints() || self.gateway.is_some() {
            // Whoever held what names the policy before keeps that, whatever became of what came later.
            let mut recent = recent.filter(|one| one.kind == type_url::POLICY || one.before < rule.required);
            return recent.find_map(|one| match one.kind {
                type_url::POLICY => said_of_own(&one.words, &object.key).map(str::to_owned),
                _ => said_of_namer(&one.words, |namer| places.names(namer, &object.key)),
            });
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

/// The same of what names a policy.
fn said_of_namer(words: &str, names: impl Fn(&str) -> bool) -> Option<String> {
    let mut parts = words.split("; ").filter_map(|part| part.split_once(": "));
    let (namer, why) = parts.find(|(resource, _)| names(resource))?;
    Some(format!("it could not use {namer}, which names the policy: {why}"))
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

    /// The proxy could not use all of a response; of policies, and of what names them, that is remembered.
    pub fn rejected(&self, kind: &str, words: &str) {
        let kinds = [type_url::AUTHORIZATION, type_url::POLICY, type_url::SERVICE, type_url::PROXY];
        let Some(kind) = kinds.into_iter().find(|one| *one == kind) else { return };
        let before = OWN.iter().position(|own| *own == kind).map(|at| self.slot.own[at].load(Ordering::Acquire));
        let mut rejections = self.slot.rejections.lock();
        if rejections.len() >= REJECTIONS_MAX {
            rejections.pop_front();
        }
        let words = words.chars().take(REJECTION_CHARS_MAX).collect();
        rejections.push_back(Rejection { kind, revision: None, before: before.unwrap_or_default(), words });
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.proxies.lock().remove(&self.number);
        self.shared.changed.notify_one();
    }
}
