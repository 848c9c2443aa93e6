//! Which rules may match a request at all, found by what they ask for.
//!
//! In: rules in their order. Out: for a subject, lists of the numbers of those rules that are worth a look.
//!
//! Each rule stands under the keys of one of its clauses: every match of that clause has a field that lists the texts
//! (or the beginnings or ends of texts) one of which the request must have. Of several clauses and fields the one is
//! chosen that the fewest other rules share, so that a decision looks at few rules however many there are. A rule
//! without such a clause is always looked at.
//!
//! ```text
//!   rule 0: principal a, path /x*       principal   a ─► 0        path   exact   /y ─► 1
//!   rule 1: method GET, path /y         host        ...                  begins  /z ─► 2
//!   rule 2: path /z*, /w*               header x    ...                  begins  /w ─► 2
//!   rule 3: not path /secret            always ─► 3
//! ```

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use super::{
    facts::Subject,
    model::{Clause, Match, Rule},
};
use crate::model::{Account, StringMatch};

/// Numbers of rules, rising.
type Bucket = Box<[u32]>;

/// What a field lists.
pub(super) type Keys = Vec<Key>;

/// Something that a request has or has not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Text(Words, Shape, Arc<str>),
    Account(Account),
    Port(u16),
}

/// Whose text it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Words {
    Principal,
    Path,
    Header(Arc<str>),
    Host,
    Namespace,
    Sni,
    TrustDomain,
    Method,
}

/// How much of a text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Whole,
    Beginning,
    End,
}

impl Key {
    /// The key of one entry of a list; none for what says nothing of the text.
    pub(super) fn of(words: Words, entry: &StringMatch) -> Option<Self> {
        let (shape, text) = match entry {
            StringMatch::Exact(text) => (Shape::Whole, text),
            StringMatch::Prefix(text) if !text.is_empty() => (Shape::Beginning, text),
            StringMatch::Suffix(text) if !text.is_empty() => (Shape::End, text),
            StringMatch::Prefix(_) | StringMatch::Suffix(_) | StringMatch::Presence => return None,
        };
        Some(Self::Text(words, shape, text.clone()))
    }

    /// Of keys that are as rare, the one that requests have less often is the better one.
    fn rank(&self) -> u8 {
        match self {
            Self::Text(Words::Principal | Words::Path, Shape::Whole, _) | Self::Account(_) => 0,
            Self::Text(Words::Header(_) | Words::Host | Words::Sni, Shape::Whole, _) => 1,
            Self::Text(Words::Namespace, Shape::Whole, _) => 2,
            Self::Text(Words::Method | Words::TrustDomain, ..) | Self::Port(_) => 4,
            Self::Text(_, Shape::Beginning | Shape::End, _) => 3,
        }
    }
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    texts: Vec<(Words, Texts)>,
    accounts: HashMap<Account, Bucket>,
    ports: HashMap<u16, Bucket>,
    always: Bucket,
}

impl Index {
    /// An index of `rules`.
    pub(super) fn of<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let rules: Vec<Choices> = rules.map(Choices::of).collect();
        let mut shared: HashMap<&Key, u32> = HashMap::new();
        for key in rules.iter().flat_map(Choices::keys) {
            *shared.entry(key).or_default() += 1;
        }
        let mut filling = Filling::default();
        for (number, choices) in (0u32..).zip(&rules) {
            match choices.best(&shared) {
                Some(keys) => keys.into_iter().for_each(|key| filling.put(key, number)),
                None => filling.always.push(number),
            }
        }
        filling.done()
    }

    /// Calls `look` with every bucket in which a rule for the subject may be.
    pub(super) fn each(&self, subject: &Subject<'_>, look: &mut dyn FnMut(&[u32])) {
        look(&self.always);
        for (words, texts) in &self.texts {
            match words {
                Words::Principal => texts.each(subject.principal(), look),
                Words::Path => texts.each(subject.path(), look),
                Words::Header(name) => texts.each(subject.header(name).as_deref(), look),
                Words::Host => texts.each(subject.host(), look),
                Words::Namespace => texts.each(subject.namespace(), look),
                Words::Sni => texts.each(subject.sni(), look),
                Words::TrustDomain => texts.each(subject.trust_domain(), look),
                Words::Method => texts.each(subject.method(), look),
            }
        }
        if let Some(id) = subject.facts.identity.filter(|_| !self.accounts.is_empty()) {
            let (namespace, service_account) = (id.namespace().clone(), id.service_account().clone());
            found(&self.accounts, &Account { namespace, service_account }, look);
        }
        found(&self.ports, &subject.facts.destination.port(), look);
    }
}

fn found<K: Eq + Hash>(map: &HashMap<K, Bucket>, key: &K, look: &mut dyn FnMut(&[u32])) {
    if let Some(bucket) = map.get(key) {
        look(bucket);
    }
}

/// The ways in which one rule can be found: for each clause that can be, the keys of each of its matches' fields.
struct Choices(Vec<Vec<Vec<Keys>>>);

impl Choices {
    fn of(rule: &Rule) -> Self {
        Self(rule.clauses.iter().filter_map(Self::of_clause).collect())
    }

    fn of_clause(clause: &Clause) -> Option<Vec<Vec<Keys>>> {
        if clause.matches.is_empty() {
            return None;
        }
        let fields = |one: &Match| -> Option<Vec<Keys>> {
            let keys: Vec<Keys> = one.fields.iter().filter_map(|field| field.keys()).collect();
            (!keys.is_empty()).then_some(keys)
        };
        // A match without fields never holds, so it need not be found.
        clause.matches.iter().filter(|one| !one.fields.is_empty()).map(fields).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().flatten().flatten().flatten()
    }

    /// The keys to put the rule under; `None` where it must always be looked at.
    fn best<'k>(&'k self, shared: &HashMap<&Key, u32>) -> Option<Vec<&'k Key>> {
        let cost_of = |keys: &Keys| {
            let most = keys.iter().map(|key| shared.get(key).copied().unwrap_or_default()).max();
            (most.unwrap_or_default(), keys.iter().map(Key::rank).max().unwrap_or_default(), keys.len())
        };
        let clause = |matches: &'k Vec<Vec<Keys>>| {
            let fields: Vec<&Keys> =
                matches.iter().filter_map(|fields| fields.iter().min_by_key(|keys| cost_of(keys))).collect();
            let cost = fields.iter().map(|keys| cost_of(keys)).max();
            (cost, fields)
        };
        let (_, fields) = self.0.iter().map(clause).min_by_key(|(cost, _)| *cost)?;
        Some(fields.into_iter().flatten().collect())
    }
}

/// The rules found by one kind of text, while it is filled.
#[derive(Default)]
struct Found {
    whole: BTreeMap<Arc<str>, Vec<u32>>,
    beginnings: BTreeMap<Arc<str>, Vec<u32>>,
    ends: BTreeMap<Arc<str>, Vec<u32>>,
}

/// An index while it is filled.
#[derive(Default)]
struct Filling {
    texts: BTreeMap<Words, Found>,
    accounts: HashMap<Account, Vec<u32>>,
    ports: HashMap<u16, Vec<u32>>,
    always: Vec<u32>,
}

impl Filling {
    fn put(&mut self, key: &Key, number: u32) {
        let bucket = match key {
            Key::Text(words, shape, text) => {
                let maps = self.texts.entry(words.clone()).or_default();
                let map = match shape {
                    Shape::Whole => &mut maps.whole,
                    Shape::Beginning => &mut maps.beginnings,
                    Shape::End => &mut maps.ends,
                };
                map.entry(text.clone()).or_default()
            }
            Key::Account(account) => self.accounts.entry(account.clone()).or_default(),
            Key::Port(port) => self.ports.entry(*port).or_default(),
        };
        // Two matches of a rule may have a key in common; rules come in their order.
        if bucket.last() != Some(&number) {
            bucket.push(number);
        }
    }

    fn done(self) -> Index {
        let texts = |found: Found| Texts {
            whole: boxed(found.whole),
            beginnings: Affixes::new(Side::Beginning, found.beginnings),
            ends: Affixes::new(Side::End, found.ends),
        };
        Index {
            texts: self.texts.into_iter().map(|(words, maps)| (words, texts(maps))).collect(),
            accounts: boxed(self.accounts),
            ports: boxed(self.ports),
            always: self.always.into(),
        }
    }
}

fn boxed<K: Eq + Hash>(map: impl IntoIterator<Item = (K, Vec<u32>)>) -> HashMap<K, Bucket> {
    map.into_iter().map(|(key, bucket)| (key, bucket.into())).collect()
}

/// The rules found by one kind of text.
#[derive(Debug)]
struct Texts {
    whole: HashMap<Arc<str>, Bucket>,
    beginnings: Affixes,
    ends: Affixes,
}

impl Texts {
    fn each(&self, text: Option<&str>, look: &mut dyn FnMut(&[u32])) {
        let Some(text) = text else { return };
        if !self.whole.is_empty()
            && let Some(bucket) = self.whole.get(text)
        {
            look(bucket);
        }
        self.beginnings.each(text, look);
        self.ends.each(text, look);
    }
}

/// Which side of a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Beginning,
    End,
}

impl Side {
    fn compare(self, one: &str, other: &str) -> Ordering {
        match self {
            Self::Beginning => one.cmp(other),
            Self::End => one.bytes().rev().cmp(other.bytes().rev()),
        }
    }

    fn has(self, text: &str, affix: &str) -> bool {
        match self {
            Self::Beginning => text.starts_with(affix),
            Self::End => text.ends_with(affix),
        }
    }
}

/// Beginnings (or ends) of texts: all that a text has are found by one binary search and a walk from longer to shorter.
#[derive(Debug)]
struct Affixes {
    side: Side,
    /// Sorted by `side`, so that whatever begins with a text follows it.
    all: Box<[Affix]>,
}

#[derive(Debug)]
struct Affix {
    text: Arc<str>,
    /// The longest other affix that this one has itself.
    shorter: Option<u32>,
    bucket: Bucket,
}

impl Affixes {
    fn new(side: Side, map: BTreeMap<Arc<str>, Vec<u32>>) -> Self {
        let mut sorted: Vec<(Arc<str>, Vec<u32>)> = map.into_iter().collect();
        sorted.sort_unstable_by(|(one, _), (other, _)| side.compare(one, other));
        let mut all: Vec<Affix> = Vec::with_capacity(sorted.len());
        // Those that the next one may have, shorter ones first.
        let mut open: Vec<u32> = Vec::new();
        for (at, (text, bucket)) in (0u32..).zip(sorted) {
            while open.last().is_some_and(|last| !side.has(&text, &all[*last as usize].text)) {
                open.pop();
            }
            all.push(Affix { text, shorter: open.last().copied(), bucket: bucket.into() });
            open.push(at);
        }
        Self { side, all: all.into() }
    }

    fn each(&self, text: &str, look: &mut dyn FnMut(&[u32])) {
        // The longest affix of the text, and whatever stands between it and the text, begin with that affix; so it is the
        // last one before the text, or one that the last one has.
        let after = self.all.partition_point(|affix| self.side.compare(&affix.text, text) != Ordering::Greater);
        let mut at = after.checked_sub(1);
        while let Some(affix) = at.and_then(|at| self.all.get(at)) {
            if self.side.has(text, &affix.text) {
                look(&affix.bucket);
            }
            at = affix.shorter.map(|at| at as usize);
        }
    }
}
