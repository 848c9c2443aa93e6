//! The server's end of one stream.
//!
//! In: requests, views of the table. Out: responses, at most one unanswered per type.
//! For a wildcard subscription the names that were sent are not remembered: later removals come from the table's log, and
//! on reconnect from what the client says it holds. A client that holds nothing is sent the table in the order of names,
//! and of what is still to come only the last name sent is kept: a thousand that connect at once cost no more than their
//! responses. What else waits to be sent is merged by name, so a slow client costs at most one reference per resource.
//!
//! Order: new policies go out before the workloads that may name them, and removed policies only after the workloads
//! that named them, because a proxy refuses what is ruled by a policy it does not know. So it is with what waypoints and
//! gateways are sent. Of those types a proxy gets what is meant for it, whatever it asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lateen_wire::{discovery::DeltaDiscoveryRequest, encoded::Response, type_url};

use super::EVERYTHING;
use crate::{
    resource::Entry,
    server::{Peer, View},
};

/// A response stays below this. Many gRPC clients take 4 MiB by default; what is on its way to a client lies in our memory
/// as often as there are clients, so it is less.
pub const RESPONSE_MAX: usize = 1_000_000;
/// The most types one stream may name.
pub const TYPES_MAX: usize = 16;
/// The most keys one stream may ask for.
pub const NAMES_MAX: usize = 200_000;

/// Why a stream must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Too many types.
    #[error("a stream may subscribe to at most {TYPES_MAX} types")]
    TooManyTypes,
    /// Too many keys.
    #[error("a stream may ask for at most {NAMES_MAX} resources of {type_url}; subscribe to all instead")]
    TooManyNames {
        /// The type.
        type_url: String,
    },
    /// The client, or this server, was stuck for so long that changes are lost.
    #[error("the stream fell behind the changes of {type_url}; reconnect with initial_resource_versions")]
    FellBehind {
        /// The type.
        type_url: String,
    },
}

/// What the client said of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The type.
    pub type_url: String,
    /// The client's words, if it could not use all of it.
    pub rejected: Option<String>,
}

/// One stream's state.
#[derive(Debug, Default)]
pub struct ServerSession {
    /// Sorted by [`rank`].
    kinds: Vec<Kind>,
    peer: Peer,
    nonces: u64,
}

#[derive(Debug)]
struct Kind {
    type_url: String,
    interest: Interest,
    /// The table's revision up to which changes are in `put` and `removed`, or sent.
    at: u64,
    /// The nonce of the answer that has not been acknowledged.
    pending: Option<String>,
    /// The rest of a first picture.
    sweep: Option<Sweep>,
    /// To send. No name is in both, and none that a sweep will come to.
    put: BTreeMap<Arc<str>, Arc<Entry>>,
    removed: BTreeSet<Arc<str>>,
    /// A request is owed an answer, even an empty one.
    owed: bool,
}

/// A walk through all resources of a type, in the order of their names.
#[derive(Debug, Default)]
struct Sweep {
    /// The last name that was sent.
    done: Option<Arc<str>>,
}

impl Sweep {
    fn will_reach(&self, name: &str) -> bool {
        self.done.as_deref().is_none_or(|done| *name > *done)
    }
}

#[derive(Debug)]
enum Interest {
    Everything,
    Names(BTreeSet<Arc<str>>),
    /// The members of the peer's groups; these are they.
    Own(BTreeSet<Arc<str>>),
}

impl ServerSession {
    /// A stream on which nothing was said yet.
    pub fn new(peer: Peer) -> Self {
        Self { peer, ..Self::default() }
    }

    /// Takes a request in. Afterwards [`Self::next_response`] may have something.
    pub fn request(
        &mut self,
        request: &DeltaDiscoveryRequest,
        view: &View,
    ) -> Result<Option<Acknowledged>, SessionError> {
        let peer = self.peer.clone();
        let Some(at) = self.kinds.iter().position(|kind| kind.type_url == request.type_url) else {
            return self.subscribe(request, view).map(|()| None);
        };
        let kind = &mut self.kinds[at];
        let acknowledged = kind.acknowledge(request);
        kind.change_interest(request, (view, &peer))?;
        Ok(acknowledged)
    }

    /// The first request of a type on this stream.
    fn subscribe(&mut self, request: &DeltaDiscoveryRequest, view: &View) -> Result<(), SessionError> {
        if self.kinds.len() >= TYPES_MAX {
            return Err(SessionError::TooManyTypes);
        }
        let mut kind = Kind::new(&request.type_url, view.revision());
        kind.begin(request, (view, &self.peer))?;
        self.kinds.push(kind);
        self.kinds.sort_by_key(|kind| rank(&kind.type_url));
        Ok(())
    }

    /// Notes what changed in the table since the last look.
    pub fn collect(&mut self, view: &View) -> Result<(), SessionError> {
        for kind in &mut self.kinds {
            kind.collect(view, &self.peer)?;
        }
        Ok(())
    }

    /// The next response that may be sent now; call until there is none. It notes what changed first: a walk reads the
    /// table as it is now, and a policy that a workload names by now must go out before it.
    pub fn next_response(&mut self, view: &View) -> Result<Option<Response>, SessionError> {
        self.collect(view)?;
        Ok(self.next(view))
    }

    fn next(&mut self, view: &View) -> Option<Response> {
        let ready = (0..self.kinds.len()).find(|at| self.is_ready(&self.kinds[*at]))?;
        let with_removals = !self.is_named_by_work(&self.kinds[ready]);
        self.nonces += 1;
        Some(self.kinds[ready].respond(self.nonces.to_string(), with_removals, view))
    }

    fn is_ready(&self, kind: &Kind) -> bool {
        let held_back = self.kinds.iter().any(|one| one.comes_before(kind) && one.has_puts());
        let only_removals = !kind.has_puts() && !kind.owed && self.is_named_by_work(kind);
        kind.pending.is_none() && kind.has_work() && !held_back && !only_removals
    }

    /// Whether something is still to be sent that may name, or have named, resources of this kind.
    fn is_named_by_work(&self, kind: &Kind) -> bool {
        self.kinds.iter().any(|one| kind.comes_before(one) && one.has_work())
    }

    /// Whether an answer is out that the client has not acknowledged.
    pub fn awaits_acknowledgement(&self) -> bool {
        self.kinds.iter().any(|kind| kind.pending.is_some())
    }

    /// How far the client is with each type it asked for: the table's revision up to which it has acknowledged all that
    /// concerns it; `None` while something is on its way.
    pub fn progress(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.kinds.iter().map(|kind| {
            let settled = kind.pending.is_none() && !kind.has_work();
            (kind.type_url.as_str(), settled.then_some(kind.at))
        })
    }

    /// Whether a first picture is not complete yet.
    pub fn has_first_picture(&self) -> bool {
        self.kinds.iter().any(|kind| kind.sweep.is_some())
    }

    /// Whether this type was asked for on this stream.
    pub fn is_subscribed(&self, type_url: &str) -> bool {
        self.kinds.iter().any(|kind| kind.type_url == type_url)
    }
}

/// The types a proxy is sent its own part of, in the order in which what is named comes before what names it.
const OWN: [&str; 5] =
    [type_url::CREDENTIAL, type_url::POLICY, type_url::DESTINATION, type_url::SERVICE, type_url::PROXY];

/// Where a type stands: only of the same half one comes before another. Types of the same rank are served as they like.
fn rank(type_url: &str) -> (Half, usize) {
    if let Some(place) = OWN.iter().position(|own| *own == type_url) {
        return (Half::Own, place);
    }
    (Half::Shared, usize::from(type_url != type_url::AUTHORIZATION))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    /// What all proxies may ask for.
    Shared,
    /// What is each proxy's own.
    Own,
}

impl Kind {
    fn new(type_url: &str, at: u64) -> Self {
        Self {
            type_url: type_url.to_owned(),
            interest: Interest::Names(BTreeSet::new()),
            at,
            pending: None,
            sweep: None,
            put: BTreeMap::new(),
            removed: BTreeSet::new(),
            owed: true,
        }
    }

    fn comes_before(&self, other: &Self) -> bool {
        let (own, theirs) = (rank(&self.type_url), rank(&other.type_url));
        own.0 == theirs.0 && own.1 < theirs.1
    }

    fn is_own(&self) -> bool {
        OWN.contains(&self.type_url.as_str())
    }

    fn has_puts(&self) -> bool {
        !self.put.is_empty() || self.sweep.is_some()
    }

    fn has_work(&self) -> bool {
        self.owed || self.has_puts() || !self.removed.is_empty()
    }

    fn begin(&mut self, request: &DeltaDiscoveryRequest, (view, peer): (&View, &Peer)) -> Result<(), SessionError> {
        let held = &request.initial_resource_versions;
        if self.is_own() {
            self.want_own((view, peer), held);
            self.refuse_others(&request.resource_names_subscribe);
            return Ok(());
        }
        let has = |list: &[String]| list.iter().any(|name| name == EVERYTHING);
        let subscribe = &request.resource_names_subscribe;
        if (subscribe.is_empty() || has(subscribe)) && !has(&request.resource_names_unsubscribe) {
            self.want_everything(view, held);
            return Ok(());
        }
        // A client that reconnects names what it holds, or still waits for, only here.
        let asked = subscribe.iter().filter(|name| *name != EVERYTHING).chain(held.keys());
        for key in asked {
            self.want(key, view, held)?;
        }
        for entry in view.members(&self.type_url, &peer.groups) {
            self.offer(&entry, held)?;
        }
        Ok(())
    }

    fn want_everything(&mut self, view: &View, held: &BTreeMap<String, String>) {
        self.interest = Interest::Everything;
        if held.is_empty() {
            self.put.clear();
            self.sweep = view.all(&self.type_url).next().map(|_| Sweep::default());
            return;
        }
        for entry in view.all(&self.type_url).filter(|entry| !holds(held, entry)) {
            self.queue_put(entry);
        }
        let gone: Vec<&String> = held.keys().filter(|name| view.entry(&self.type_url, name).is_none()).collect();
        for name in gone {
            self.queue_removal(name.as_str().into());
        }
    }

    fn want_own(&mut self, (view, peer): (&View, &Peer), held: &BTreeMap<String, String>) {
        let mut own = BTreeSet::new();
        for entry in view.members(&self.type_url, &peer.groups) {
            if !holds(held, &entry) {
                self.queue_put(&entry);
            }
            own.insert(entry.name.clone());
        }
        for name in held.keys().filter(|name| !own.contains(name.as_str())) {
            self.queue_removal(name.as_str().into());
        }
        self.interest = Interest::Own(own);
    }

    /// A client that asks by name is told "there is none" of whatever is not its own, there or not.
    fn refuse_others(&mut self, asked: &[String]) {
        let Interest::Own(own) = &self.interest else { return };
        let others = asked.iter().filter(|name| *name != EVERYTHING && !own.contains(name.as_str()));
        let others: Vec<Arc<str>> = others.map(|name| name.as_str().into()).collect();
        others.into_iter().take(NAMES_MAX).for_each(|name| self.queue_removal(name));
    }

    /// Answers one key: what it stands for, or that there is no such thing.
    fn want(&mut self, key: &str, view: &View, held: &BTreeMap<String, String>) -> Result<(), SessionError> {
        self.remember(key)?;
        let found = view.find(&self.type_url, key);
        if found.is_empty() {
            self.queue_removal(key.into());
        }
        found.iter().try_for_each(|entry| self.offer(entry, held))
    }

    /// Queues `entry` unless the client holds exactly it; it is subscribed to from now on either way.
    fn offer(&mut self, entry: &Arc<Entry>, held: &BTreeMap<String, String>) -> Result<(), SessionError> {
        self.remember(&entry.name)?;
        if !holds(held, entry) {
            self.queue_put(entry);
        }
        Ok(())
    }

    fn remember(&mut self, name: &str) -> Result<(), SessionError> {
        if let Interest::Own(names) = &mut self.interest {
            names.insert(name.into());
        }
        let Interest::Names(names) = &mut self.interest else { return Ok(()) };
        if names.len() >= NAMES_MAX && !names.contains(name) {
            return Err(SessionError::TooManyNames { type_url: self.type_url.clone() });
        }
        if !names.contains(name) {
            names.insert(name.into());
        }
        Ok(())
    }

    /// A nonce other than the pending one is stale: it answers something we no longer wait for.
    fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Option<Acknowledged> {
        let is_pending = self.pending.as_ref().is_some_and(|nonce| *nonce == request.response_nonce);
        if !is_pending {
            return None;
        }
        self.pending = None;
        let rejected = request.error_detail.as_ref().map(|detail| detail.message.clone());
        Some(Acknowledged { type_url: self.type_url.clone(), rejected })
    }

    fn change_interest(
        &mut self,
        request: &DeltaDiscoveryRequest,
        (view, peer): (&View, &Peer),
    ) -> Result<(), SessionError> {
        let nothing_held = BTreeMap::new();
        if let Interest::Names(names) = &mut self.interest {
            for name in &request.resource_names_unsubscribe {
                names.remove(name.as_str());
            }
        }
        if request.resource_names_subscribe.is_empty() {
            return Ok(());
        }
        // A second subscription sees the table as it is now, so what changed until now comes first.
        self.collect(view, peer)?;
        self.owed = true;
        if self.is_own() {
            self.refuse_others(&request.resource_names_subscribe);
            return Ok(());
        }
        for key in &request.resource_names_subscribe {
            let unsubscribed = request.resource_names_unsubscribe.contains(key);
            match (key.as_str(), unsubscribed) {
                (_, true) => {}
                (EVERYTHING, false) => self.want_everything(view, &nothing_held),
                (key, false) => self.want(key, view, &nothing_held)?,
            }
        }
        Ok(())
    }

    fn collect(&mut self, view: &View, peer: &Peer) -> Result<(), SessionError> {
        if self.at == view.revision() {
            return Ok(());
        }
        let delta = view.since(&self.type_url, self.at);
        let delta = delta.ok_or_else(|| SessionError::FellBehind { type_url: self.type_url.clone() })?;
        self.at = view.revision();
        for entry in &delta.put {
            if self.interest.takes(entry, peer) {
                self.remember(&entry.name)?;
                self.queue_put(entry);
            } else if self.interest.loses(&entry.name) {
                self.queue_removal(entry.name.clone());
            }
        }
        for name in &delta.removed {
            if self.interest.took(name) {
                self.interest.loses(name);
                self.queue_removal(name.clone());
            }
        }
        Ok(())
    }

    fn queue_put(&mut self, entry: &Arc<Entry>) {
        if self.sweep.as_ref().is_some_and(|sweep| sweep.will_reach(&entry.name)) {
            return;
        }
        self.removed.remove(&entry.name);
        self.put.insert(entry.name.clone(), entry.clone());
    }

    /// A removal is told even of a name that a sweep has not come to: the client may hold it from an earlier subscription.
    fn queue_removal(&mut self, name: Arc<str>) {
        self.put.remove(&name);
        self.removed.insert(name);
    }

    /// As much of what waits as fits one response.
    fn respond(&mut self, nonce: String, with_removals: bool, view: &View) -> Response {
        self.owed = false;
        self.pending = Some(nonce.clone());
        let mut response = Response { type_url: self.type_url.clone(), nonce, ..Response::default() };
        let mut room = RESPONSE_MAX;
        while let Some(first) = self.put.first_entry() {
            let size = first.get().wire_size();
            // One resource larger than a response goes alone; whether it is too large is the receiver's to say.
            if size > room && !response.resources.is_empty() {
                return response;
            }
            room = room.saturating_sub(size);
            response.resources.push(first.remove().encoded());
        }
        self.sweep_on(&mut response, &mut room, view);
        if !with_removals || self.sweep.is_some() {
            return response;
        }
        while let Some(name) = self.removed.pop_first() {
            let size = name.len() + 8;
            let is_alone = response.resources.is_empty() && response.removed_resources.is_empty();
            if size > room && !is_alone {
                self.removed.insert(name);
                return response;
            }
            room = room.saturating_sub(size);
            response.removed_resources.push((*name).to_owned());
        }
        response
    }

    /// Goes on with the first picture as far as there is room.
    fn sweep_on(&mut self, response: &mut Response, room: &mut usize, view: &View) {
        let Some(sweep) = self.sweep.take() else { return };
        let mut done = sweep.done.clone();
        for entry in view.after(&self.type_url, sweep.done.as_ref()) {
            if entry.wire_size() > *room && !response.resources.is_empty() {
                self.sweep = Some(Sweep { done });
                return;
            }
            *room = room.saturating_sub(entry.wire_size());
            response.resources.push(entry.encoded());
            // What was told as gone and came again meanwhile is not gone.
            self.removed.remove(&entry.name);
            done = Some(entry.name.clone());
        }
    }
}

/// Whether a client that holds these versions holds exactly this.
fn holds(held: &BTreeMap<String, String>, entry: &Entry) -> bool {
    held.get(&*entry.name).is_some_and(|version| entry.version.is(version))
}

impl Interest {
    /// Whether a changed entry concerns this subscription.
    fn takes(&self, entry: &Entry, peer: &Peer) -> bool {
        match self {
            Self::Everything => true,
            Self::Names(names) => {
                names.contains(&entry.name)
                    || entry.aliases.iter().any(|alias| names.contains(alias.as_str()))
                    || entry.groups.iter().any(|group| names.contains(group) || peer.is_in(group))
            }
            Self::Own(_) => entry.groups.iter().any(|group| peer.is_in(group)),
        }
    }

    /// Whether `name` was the peer's own, and is no more.
    fn loses(&mut self, name: &str) -> bool {
        match self {
            Self::Everything | Self::Names(_) => false,
            Self::Own(names) => names.remove(name),
        }
    }

    /// Whether a removed name may have been sent.
    fn took(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Names(names) | Self::Own(names) => names.contains(name),
        }
    }
}
