//! The endpoints of one service, healthy or not.
//!
//! In: endpoints that come and go. Out: all of them, sorted by workload. A copy shares every chunk, and a change copies
//! one, so that an endpoint of thousands costs no more than one of few. Absent on purpose: which may be chosen.

use std::sync::Arc;

use lateen_types::name::WorkloadUid;
use smallvec::{SmallVec, smallvec};

use crate::service::Endpoint;

/// The endpoints.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoints {
    /// Sorted by uid, within and over chunks; none is empty. One chunk is nearly always enough, and needs no list.
    chunks: SmallVec<[Chunk; 1]>,
}

/// Some endpoints, one after the other by uid.
type Chunk = Arc<Vec<Endpoint>>;

/// A longer chunk is halved.
const CHUNK_MAX: usize = 64;
/// Two neighbours that together are shorter become one.
const CHUNK_MIN: usize = 24;

impl Endpoints {
    /// Puts `endpoint` in the place of the one of its workload.
    pub(crate) fn put(&mut self, endpoint: Endpoint) {
        if self.chunks.is_empty() {
            self.chunks = smallvec![Arc::new(vec![endpoint])];
            return;
        }
        let at = self.chunk_of(endpoint.uid()).min(self.chunks.len() - 1);
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        match chunk.binary_search_by(|held| held.uid().cmp(endpoint.uid())) {
            Ok(place) => chunk[place] = endpoint,
            Err(place) => {
                // Room to grow would be a third of all lists.
                chunk.reserve_exact(1);
                chunk.insert(place, endpoint);
            }
        }
        if chunk.len() > CHUNK_MAX {
            let second = chunk.split_off(CHUNK_MAX / 2);
            chunk.shrink_to_fit();
            self.chunks.insert(at + 1, Arc::new(second));
        }
    }

    /// Removes the endpoint of `uid`, if there is one.
    pub(crate) fn remove(&mut self, uid: &WorkloadUid) {
        let at = self.chunk_of(uid);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Ok(place) = chunk.binary_search_by(|held| held.uid().cmp(uid)) else { return };
        let chunk = Arc::make_mut(chunk);
        chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
            return;
        }
        let length = |at: usize| self.chunks.get(at).map_or(CHUNK_MAX, |chunk| chunk.len());
        let (before, here, after) = (at.checked_sub(1).map_or(CHUNK_MAX, length), length(at), length(at + 1));
        if here + before < CHUNK_MIN {
            self.join(at - 1);
        } else if here + after < CHUNK_MIN {
            self.join(at);
        }
    }

    /// Joins two neighbours, the first of which is at `at`.
    fn join(&mut self, at: usize) {
        let second = self.chunks.remove(at + 1);
        Arc::make_mut(&mut self.chunks[at]).extend_from_slice(&second);
    }

    /// The endpoint of `uid`.
    pub(crate) fn get(&self, uid: &WorkloadUid) -> Option<&Endpoint> {
        let chunk = self.chunks.get(self.chunk_of(uid))?;
        chunk.binary_search_by(|held| held.uid().cmp(uid)).ok().map(|place| &chunk[place])
    }

    /// All, sorted by uid.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The first chunk that does not end before `uid`.
    fn chunk_of(&self, uid: &WorkloadUid) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.uid() < uid))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tests::named;

    /// As a map would have it, whatever comes and goes.
    #[test]
    fn endpoints_are_those_of_a_sorted_map() {
        let (mut held, mut model) = (Endpoints::default(), BTreeMap::new());
        // A linear congruential generator (Knuth's MMIX): the same walk each time.
        let mut random = 1_u64;
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let workload = named(&format!("{:03}", (random >> 33) % 500));
            // Grows, shrinks to nothing, grows again.
            let grows = (step / 5_000) % 2 == 0;
            if ((random >> 20) % 8 < 6) == grows {
                held.put(Endpoint { workload: workload.clone(), ports: Arc::default() });
                model.insert(workload.uid.clone(), workload);
            } else {
                held.remove(&workload.uid);
                model.remove(&workload.uid);
            }
            assert!(held.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
            if step % 50 == 0 {
                assert!(held.iter().map(|one| &one.workload).eq(model.values()), "step {step}");
                assert!(model.keys().all(|uid| held.get(uid).is_some_and(|one| one.uid() == uid)));
            }
        }
        model.keys().for_each(|uid| held.remove(uid));
        assert!(held.is_empty() && held.get(&"000".into()).is_none());
    }

    #[test]
    fn a_change_among_thousands_copies_one_chunk() {
        let all: Vec<_> = (0..5_000).map(|number| named(&format!("{number:04}"))).collect();
        let mut held = Endpoints::default();
        all.iter().for_each(|workload| held.put(Endpoint { workload: workload.clone(), ports: Arc::default() }));
        let before = held.clone();
        held.remove(&all[2_500].uid);
        let shared = before.chunks.iter().filter(|one| held.chunks.iter().any(|other| Arc::ptr_eq(one, other)));
        assert_eq!(shared.count(), before.chunks.len() - 1);
        assert_eq!((before.iter().count(), held.iter().count()), (5_000, 4_999));
    }
}
