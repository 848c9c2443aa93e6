//! Both sessions against each other, without sockets.

mod own;

use std::collections::{BTreeMap, VecDeque};

use lateen_wire::{
    core::Node,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    type_url::{ADDRESS, AUTHORIZATION},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    client::{ClientSession, Mode, Rejected, Subscription},
    server::{RESPONSE_MAX, ServerSession},
};
use crate::{
    resource::Entry,
    server::{Peer, Publish, Table},
};

/// A client with a store, connected to a server by queues that may break.
struct Pair {
    table: Table,
    client: ClientSession,
    server: ServerSession,
    up: VecDeque<DeltaDiscoveryRequest>,
    down: VecDeque<DeltaDiscoveryResponse>,
    /// What the client applied: type, name, content.
    store: BTreeMap<(String, String), Vec<u8>>,
    answered: Vec<String>,
}

const UNUSABLE: &str = "unusable";

impl Pair {
    fn new(modes: &[(&'static str, Mode)]) -> Self {
        let subscriptions: Vec<Subscription> =
            modes.iter().map(|(type_url, mode)| Subscription { type_url, mode: *mode }).collect();
        let mut pair = Self {
            table: Table::new(),
            client: ClientSession::new(Node::default(), &subscriptions),
            server: ServerSession::default(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            store: BTreeMap::new(),
            answered: Vec::new(),
        };
        pair.connect();
        pair
    }

    /// A new stream; whatever was under way on the old one is lost.
    fn connect(&mut self) {
        self.connect_as("node/mine");
    }

    /// As a peer of this group.
    fn connect_as(&mut self, group: &str) {
        self.server = ServerSession::new(Peer { id: String::new(), groups: vec![group.into()] });
        self.down.clear();
        self.up = self.client.open().into();
    }

    fn server_step(&mut self) {
        if let Some(request) = self.up.pop_front() {
            let server = &mut self.server;
            self.table.with(|view| server.request(&request, view)).expect("within limits");
        }
        let server = &mut self.server;
        self.table.with(|view| server.collect(view)).expect("in the log");
    }

    fn server_send(&mut self) {
        let server = &mut self.server;
        while let Some(response) = self.table.with(|view| server.next_response(view)).expect("in the log") {
            self.down.push_back(response.decoded().expect("the same message"));
        }
    }

    fn client_step(&mut self) -> Option<DeltaDiscoveryResponse> {
        let response = self.down.pop_front()?;
        let summary = self.client.summary(&response);
        let mut rejected = Vec::new();
        for one in &response.resources {
            let content = one.resource.as_ref().expect("present").value.clone();
            if String::from_utf8_lossy(&content).contains(UNUSABLE) {
                rejected.push(Rejected { name: one.name.clone(), reason: "cannot".into() });
            } else {
                self.store.insert((response.type_url.clone(), one.name.clone()), content);
            }
        }
        for name in &response.removed_resources {
            self.store.remove(&(response.type_url.clone(), name.clone()));
        }
        let applied = self.client.applied(&summary, &rejected);
        self.answered.extend(applied.answered);
        self.up.push_back(applied.request);
        Some(response)
    }

    /// Until nothing is under way; every response that came, in order.
    fn settle(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let mut seen = Vec::new();
        loop {
            let had_requests = !self.up.is_empty();
            while !self.up.is_empty() {
                self.server_step();
            }
            self.server_step();
            self.server_send();
            let before = seen.len();
            while let Some(response) = self.client_step() {
                seen.push(response);
            }
            if seen.len() == before && !had_requests {
                return seen;
            }
        }
    }

    fn demand(&mut self, key: &str) {
        self.up.extend(self.client.demand(ADDRESS, key));
    }

    fn names(&self, type_url: &str) -> Vec<&str> {
        self.store.keys().filter(|(of, _)| of == type_url).map(|(_, name)| name.as_str()).collect()
    }
}

fn put(type_url: &'static str, name: &str, text: &str) -> Publish {
    Publish::Put(type_url, Entry::new(type_url, name, &text.to_owned()))
}

/// An address that is a member of groups and answers to an alias.
fn member(name: &str, text: &str, groups: &[&str]) -> Publish {
    let entry = Entry::new(ADDRESS, name, &text.to_owned()).with_aliases(vec![format!("/{name}")]);
    Publish::Put(ADDRESS, entry.with_groups(groups.iter().map(|group| (*group).into()).collect()))
}

const BOTH: [(&str, Mode); 2] = [(ADDRESS, Mode::Wildcard), (AUTHORIZATION, Mode::Wildcard)];
const ON_DEMAND: [(&str, Mode); 2] = [(ADDRESS, Mode::OnDemand), (AUTHORIZATION, Mode::Wildcard)];

#[test]
fn streams_begin_as_the_reference_begins_them() {
    let opening = Pair::new(&ON_DEMAND).up;
    assert_eq!(opening[0].type_url, ADDRESS);
    assert_eq!(opening[0].resource_names_subscribe, ["*"]);
    assert_eq!(opening[0].resource_names_unsubscribe, ["*"]);
    assert_eq!(opening[1].type_url, AUTHORIZATION);
    assert!(opening[1].resource_names_subscribe.is_empty() && opening[1].resource_names_unsubscribe.is_empty());
    assert!(opening.iter().all(|request| request.node.is_some()));
}

#[test]
fn an_empty_mesh_is_answered_so_that_the_client_becomes_ready() {
    let mut pair = Pair::new(&BOTH);
    assert_eq!(pair.settle().len(), 2);
    assert!(pair.client.is_synced());
    pair.table.publish([]);
    assert!(pair.settle().is_empty(), "nothing changed, nothing is sent");
}

#[test]
fn good_resources_of_a_partly_bad_response_are_kept_and_the_bad_named() {
    let mut pair = Pair::new(&[(ADDRESS, Mode::Wildcard)]);
    pair.table.publish([put(ADDRESS, "a", "fine"), put(ADDRESS, "b", UNUSABLE), put(ADDRESS, "c", UNUSABLE)]);
    pair.server_step();
    pair.server_send();
    pair.client_step();
    let nack = pair.up.pop_back().expect("an answer");
    let detail = nack.error_detail.clone().expect("a NACK");
    assert_eq!((detail.code, detail.message.as_str()), (0, "b: cannot; c: cannot"));
    assert!(nack.node.is_none());
    assert_eq!(pair.names(ADDRESS), ["a"]);
    assert!(!pair.client.is_synced(), "a NACK does not make the client ready");
    let again: Vec<String> = pair.client.open()[0].initial_resource_versions.keys().cloned().collect();
    assert_eq!(again, ["a"], "what was rejected is not claimed");
    pair.up.push_back(nack);
    pair.table.publish([put(ADDRESS, "b", "mended")]);
    pair.settle();
    assert!(pair.client.is_synced());
    assert_eq!(pair.names(ADDRESS), ["a", "b"]);
}

#[test]
fn a_reconnect_sends_only_the_difference() {
    let mut pair = Pair::new(&[(ADDRESS, Mode::Wildcard)]);
    pair.table.publish([put(ADDRESS, "a", "1"), put(ADDRESS, "b", "1"), put(ADDRESS, "c", "1")]);
    pair.settle();
    pair.table.publish([put(ADDRESS, "b", "2"), Publish::Remove(ADDRESS, "c".into())]);
    pair.connect();
    let seen = pair.settle();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].resources.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(seen[0].removed_resources, ["c"]);
    assert_eq!(pair.names(ADDRESS), ["a", "b"]);
}

#[test]
fn policies_come_before_workloads_and_leave_after_them() {
    let mut pair = Pair::new(&BOTH);
    pair.settle();
    pair.table.publish([put(ADDRESS, "pod", "names p"), put(AUTHORIZATION, "ns/p", "deny")]);
    let order: Vec<String> = pair.settle().into_iter().map(|response| response.type_url).collect();
    assert_eq!(order, [AUTHORIZATION, ADDRESS]);
    pair.table.publish([Publish::Remove(AUTHORIZATION, "ns/p".into()), put(ADDRESS, "pod", "names nothing")]);
    let order: Vec<String> = pair.settle().into_iter().map(|response| response.type_url).collect();
    assert_eq!(order, [ADDRESS, AUTHORIZATION]);
    assert!(pair.names(AUTHORIZATION).is_empty());
}

#[test]
fn big_pictures_are_split_and_one_answer_is_out_at_a_time() {
    let mut pair = Pair::new(&[(ADDRESS, Mode::Wildcard)]);
    let text = "x".repeat(10_000);
    pair.table.publish((0..1000).map(|number| put(ADDRESS, &format!("w{number:04}"), &text)));
    pair.server_step();
    pair.server_send();
    assert_eq!(pair.down.len(), 1, "the next part waits for the acknowledgement");
    let seen = pair.settle();
    assert_eq!(seen.len(), 11);
    assert!(seen.iter().all(|response| prost::Message::encoded_len(response) <= RESPONSE_MAX));
    assert_eq!(pair.names(ADDRESS).len(), 1000);
}

#[test]
fn what_changes_during_a_first_picture_is_told_once_and_in_time() {
    let mut pair = Pair::new(&[(ADDRESS, Mode::Wildcard)]);
    let text = "x".repeat(RESPONSE_MAX / 3);
    pair.table.publish(["a", "b", "c", "d"].map(|name| put(ADDRESS, name, &text)));
    pair.server_step();
    pair.server_send();
    pair.client_step();
    assert_eq!(pair.names(ADDRESS), ["a", "b"], "as much as fits");
    // Of what was sent, one changes and one goes; of what is to come, one changes, one goes and comes again.
    pair.table.publish([put(ADDRESS, "a", "new"), put(ADDRESS, "c", "new"), Publish::Remove(ADDRESS, "b".into())]);
    pair.table.publish([Publish::Remove(ADDRESS, "d".into())]);
    pair.server_step();
    pair.table.publish([put(ADDRESS, "d", "again"), put(ADDRESS, "0", "late")]);
    let seen = pair.settle();
    let sent: Vec<&str> = seen.iter().flat_map(|one| &one.resources).map(|one| one.name.as_str()).collect();
    let removed: Vec<&str> = seen.iter().flat_map(|one| &one.removed_resources).map(String::as_str).collect();
    assert_eq!((sent, removed), (vec!["0", "a", "c", "d"], vec!["b"]));
    assert_eq!(pair.names(ADDRESS), ["0", "a", "c", "d"]);
}

#[test]
fn a_walk_does_not_overtake_the_policies_its_workloads_name() {
    let mut pair = Pair::new(&BOTH);
    let text = "x".repeat(RESPONSE_MAX / 2);
    pair.table.publish(["a", "b", "c"].map(|name| put(ADDRESS, name, &text)));
    pair.server_step();
    pair.server_step();
    pair.server_send();
    // Neither the policy nor the workload that names it was noted when the next part is made.
    pair.table.publish([put(AUTHORIZATION, "ns/p", "deny"), put(ADDRESS, "z", "names p")]);
    let order: Vec<String> =
        pair.settle().into_iter().flat_map(|one| one.resources).map(|resource| resource.name).collect();
    let place = |name: &str| order.iter().position(|one| one == name).expect("sent");
    assert!(place("ns/p") < place("z"), "{order:?}");
}

#[test]
fn a_client_that_does_not_acknowledge_is_owed_each_resource_once() {
    let mut pair = Pair::new(&[(ADDRESS, Mode::Wildcard)]);
    pair.settle();
    pair.table.publish([put(ADDRESS, "a", "first")]);
    pair.server_step();
    pair.server_send();
    for round in 0..50 {
        pair.table.publish(["a", "b", "c"].map(|name| put(ADDRESS, name, &round.to_string())));
        pair.server_step();
        pair.server_send();
    }
    assert_eq!(pair.down.len(), 1, "one answer is out");
    let sent: Vec<usize> = pair.settle().iter().map(|response| response.resources.len()).collect();
    assert_eq!(sent, [1, 3]);
}

#[test]
fn a_stale_nonce_is_ignored() {
    let mut pair = Pair::new(&[(ADDRESS, Mode::Wildcard)]);
    pair.server_step();
    pair.server_send();
    let stale = DeltaDiscoveryRequest {
        type_url: ADDRESS.into(),
        response_nonce: "another".into(),
        ..DeltaDiscoveryRequest::default()
    };
    let taken = pair.table.with(|view| pair.server.request(&stale, view)).expect("within limits");
    assert_eq!(taken, None);
    assert!(pair.server.awaits_acknowledgement());
    pair.table.publish([put(ADDRESS, "a", "1")]);
    pair.server_step();
    let server = &mut pair.server;
    let next = pair.table.with(|view| server.next_response(view)).expect("in the log");
    assert!(next.is_none(), "the first answer is still out");
}

#[test]
fn keys_are_answered_by_name_alias_or_absence() {
    let mut pair = Pair::new(&ON_DEMAND);
    pair.table.publish([
        member("mine", "1", &["node/mine"]),
        member("10.0.0.1", "1", &["ns/svc"]),
        member("10.0.0.2", "1", &[]),
        put(ADDRESS, "ns/svc", "1"),
    ]);
    pair.settle();
    assert_eq!(pair.names(ADDRESS), ["mine"], "the client's own node comes unasked");
    pair.answered.clear();
    pair.demand("ns/svc");
    pair.settle();
    assert_eq!(pair.names(ADDRESS), ["10.0.0.1", "mine", "ns/svc"], "a service comes with its workloads");
    pair.answered.clear();
    pair.demand("/10.0.0.2");
    pair.demand("/9.9.9.9");
    pair.settle();
    assert!(pair.answered.contains(&"/10.0.0.2".to_owned()), "an alias wakes: {:?}", pair.answered);
    assert!(pair.answered.contains(&"/9.9.9.9".to_owned()), "so does absence: {:?}", pair.answered);
    pair.demand("/9.9.9.9");
    assert_eq!(pair.settle().len(), 1, "a repeated question is answered again");
    pair.table.publish([member("9.9.9.9", "late", &[]), member("10.0.0.3", "1", &["ns/svc"])]);
    pair.settle();
    assert!(pair.names(ADDRESS).contains(&"9.9.9.9"), "what was asked for comes when it exists");
    assert!(pair.names(ADDRESS).contains(&"10.0.0.3"), "so do new members of a service");
}

#[test]
fn an_unanswered_key_is_asked_for_again_without_a_version() {
    let mut pair = Pair::new(&ON_DEMAND);
    pair.table.publish([member("mine", "1", &["node/mine"])]);
    pair.settle();
    pair.demand("/9.9.9.9");
    pair.connect();
    let versions = &pair.up[0].initial_resource_versions;
    assert_eq!(versions.get("/9.9.9.9").map(String::as_str), Some(""));
    assert!(versions.get("mine").is_some_and(|version| !version.is_empty()));
    pair.answered.clear();
    pair.settle();
    assert!(pair.answered.contains(&"/9.9.9.9".to_owned()));
    assert!(!pair.client.open()[0].initial_resource_versions.contains_key("/9.9.9.9"), "answered by absence");
}

/// One random history; afterwards both ends agree.
fn history(seed: u64, modes: &[(&'static str, Mode)]) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut pair = Pair::new(modes);
    let types = [ADDRESS, AUTHORIZATION];
    let mut demanded = Vec::new();
    for step in 0..300 {
        let type_url = types[dice.random_range(0..2)];
        let name = format!("n{}", dice.random_range(0..12));
        match dice.random_range(0..100) {
            0..25 => {
                let text = if dice.random_bool(0.1) { UNUSABLE.to_owned() } else { format!("{step}") };
                let groups: &[&str] = if dice.random_bool(0.3) { &["n0"] } else { &[] };
                let change =
                    if type_url == ADDRESS { member(&name, &text, groups) } else { put(type_url, &name, &text) };
                pair.table.publish([change]);
            }
            25..35 => pair.table.publish([Publish::Remove(type_url, name.into())]),
            35..40 => pair.connect(),
            40..45 => pair.up.extend(pair.up.back().cloned()),
            45..60 => {
                pair.demand(&format!("/{name}"));
                demanded.push(name);
            }
            60..75 => pair.server_step(),
            75..85 => pair.server_send(),
            _ => _ = pair.client_step(),
        }
    }
    pair.settle();
    agrees(&pair, seed, modes, |_| false);
    // A key answered by "there is none" is not remembered across streams; asking again finds what is there now.
    for name in &demanded {
        pair.demand(&format!("/{name}"));
    }
    pair.settle();
    agrees(&pair, seed, modes, |name| demanded.iter().any(|demanded| demanded == name));
}

/// What the client holds is what is published; all of it under a wildcard, else at least what `must_hold` says.
fn agrees(pair: &Pair, seed: u64, modes: &[(&'static str, Mode)], must_hold: impl Fn(&str) -> bool) {
    for (type_url, mode) in modes {
        pair.table.with(|view| {
            for entry in view.all(type_url) {
                let content = entry.content();
                let held = pair.store.get(&((*type_url).to_owned(), (*entry.name).to_owned()));
                let is_unusable = String::from_utf8_lossy(&content).contains(UNUSABLE);
                let may_lack = held.is_none() && *mode == Mode::OnDemand && !must_hold(&entry.name);
                assert!(is_unusable || may_lack || held == Some(&content), "seed {seed}: {} differs", entry.name);
            }
            for name in pair.names(type_url) {
                assert!(view.entry(type_url, name).is_some(), "seed {seed}: {name} should be gone");
            }
        });
    }
}

#[test]
fn both_ends_converge_under_loss_repeats_and_reconnects() {
    for seed in 0..300 {
        history(seed, &BOTH);
        history(seed, &ON_DEMAND);
    }
}

#[test]
fn progress_is_what_was_acknowledged() {
    let mut pair = Pair::new(&[(AUTHORIZATION, Mode::Wildcard), (ADDRESS, Mode::OnDemand)]);
    let progress = |pair: &Pair| -> Vec<(String, Option<u64>)> {
        pair.server.progress().map(|(kind, revision)| (kind.to_owned(), revision)).collect()
    };
    let at = |revision| vec![(AUTHORIZATION.to_owned(), revision), (ADDRESS.to_owned(), Some(2))];
    pair.table.publish([put(AUTHORIZATION, "n/p", "1")]);
    pair.settle();
    pair.table.publish([put(AUTHORIZATION, "n/p", "2"), put(ADDRESS, "uid", "1")]);
    pair.server_step();
    // The workload is nothing this client asked for, so it is up to date with those; the policy is on its way.
    assert_eq!(progress(&pair), at(None));
    pair.server_send();
    pair.client_step();
    assert_eq!(progress(&pair), at(None));
    pair.server_step();
    assert_eq!(progress(&pair), at(Some(2)));
}
