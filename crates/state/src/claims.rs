//! Who claims which address.
//!
//! In: workloads that come and go. Out: the workload that claims an address most strongly. Absent on purpose: services.

use std::{net::IpAddr, sync::Arc};

use lateen_types::{addr::NetworkAddress, name::NetworkId};

use crate::{table::Table, workload::Workload};

/// Workloads by address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims(Table<Claim>);

/// One address.
#[derive(Debug, Clone)]
enum Claim {
    /// Of one workload, as nearly always; the address is read from there.
    One {
        workload: Arc<Workload>,
        /// Which of its addresses.
        at: u32,
    },
    /// Of several.
    Several(Box<Contested>),
}

#[derive(Debug, Clone)]
struct Contested {
    network: NetworkId,
    ip: IpAddr,
    /// The strongest first; of equal ones the earlier stays in front.
    by: Vec<Arc<Workload>>,
}

impl Claims {
    /// The workload that claims this address most strongly.
    pub(crate) fn get(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        let key = Key { network: &address.network, ip: address.ip };
        match self.0.find(self.0.slot(&key), |claim| claim.key() == key)? {
            Claim::One { workload, .. } => Some(workload),
            Claim::Several(contested) => contested.by.first(),
        }
    }

    /// Takes the claims of `workload`, of which there must be none.
    pub(crate) fn put(&mut self, workload: &Arc<Workload>) {
        for (at, ip) in workload.own_addresses().iter().enumerate() {
            let key = Key { network: &workload.network, ip: *ip };
            let put = |before| (Some(Claim::with(before, workload, at)), ());
            self.0.edit(self.0.slot(&key), |claim| claim.key() == key, put);
        }
    }

    /// Forgets the claims of `workload`.
    pub(crate) fn remove(&mut self, workload: &Workload) {
        for ip in workload.own_addresses() {
            let key = Key { network: &workload.network, ip: *ip };
            let remove = |before: Option<Claim>| (before.and_then(|claim| claim.without(workload)), ());
            self.0.edit(self.0.slot(&key), |claim| claim.key() == key, remove);
        }
    }

    /// How many addresses are claimed.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A [`NetworkAddress`] in parts.
#[derive(PartialEq, Eq, Hash)]
struct Key<'c> {
    network: &'c NetworkId,
    ip: IpAddr,
}

impl Claim {
    fn one(workload: Arc<Workload>, at: usize) -> Self {
        let at = u32::try_from(at).expect("a message is shorter than 4 GB, so it lists fewer addresses");
        Self::One { workload, at }
    }

    fn key(&self) -> Key<'_> {
        match self {
            Self::One { workload, at } => Key { network: &workload.network, ip: workload.addresses[*at as usize] },
            Self::Several(contested) => Key { network: &contested.network, ip: contested.ip },
        }
    }

    /// With the claim of `workload` to its address number `at`.
    fn with(before: Option<Self>, workload: &Arc<Workload>, at: usize) -> Self {
        let mut contested = match before {
            None => return Self::one(workload.clone(), at),
            // One address listed twice.
            Some(Self::One { workload: held, at }) if held.uid == workload.uid => {
                return Self::One { workload: held, at };
            }
            Some(Self::One { workload: held, at }) => {
                let (network, ip) = (held.network.clone(), held.addresses[at as usize]);
                Box::new(Contested { network, ip, by: vec![held] })
            }
            Some(Self::Several(contested)) => contested,
        };
        if contested.by.iter().all(|other| other.uid != workload.uid) {
            let claim = workload.address_claim();
            let weaker = contested.by.iter().position(|other| other.address_claim() < claim);
            contested.by.insert(weaker.unwrap_or(contested.by.len()), workload.clone());
        }
        Self::Several(contested)
    }

    fn without(self, workload: &Workload) -> Option<Self> {
        match self {
            Self::One { workload: held, .. } if held.uid == workload.uid => None,
            Self::One { .. } => Some(self),
            Self::Several(mut contested) => {
                contested.by.retain(|other| other.uid != workload.uid);
                let [last] = contested.by.as_slice() else { return Some(Self::Several(contested)) };
                let at = last.addresses.iter().position(|ip| *ip == contested.ip)?;
                Some(Self::one(last.clone(), at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{at, reached};

    fn uid_at(claims: &Claims, ip: &str) -> Option<String> {
        claims.get(&at(ip)).map(|workload| workload.uid.to_string())
    }

    #[test]
    fn a_claim_outlives_those_beside_it() {
        let (a, b, c) = (
            reached("k//Pod/a", &["10.0.0.1", "fd00::1", "10.0.0.1"]),
            reached("k//Pod/b", &["10.0.0.2", "fd00::1"]),
            reached("k//Pod/c", &["fd00::1"]),
        );
        let mut claims = Claims::default();
        [&a, &b, &c].into_iter().for_each(|one| claims.put(one));
        let before = claims.clone();
        assert_eq!(claims.len(), 3, "an address listed twice is one");
        assert_eq!(uid_at(&claims, "fd00::1").as_deref(), Some("k//Pod/a"), "of equal claims the earlier");
        claims.remove(&a);
        assert_eq!(uid_at(&claims, "fd00::1").as_deref(), Some("k//Pod/b"));
        assert_eq!((uid_at(&claims, "10.0.0.1"), uid_at(&claims, "10.0.0.2").as_deref()), (None, Some("k//Pod/b")));
        claims.remove(&c);
        // Alone again, and found by either address.
        assert_eq!(uid_at(&claims, "fd00::1").as_deref(), Some("k//Pod/b"));
        assert_eq!(uid_at(&claims, "10.0.0.2").as_deref(), Some("k//Pod/b"));
        claims.remove(&b);
        assert_eq!((claims.len(), uid_at(&claims, "fd00::1")), (0, None));
        assert_eq!(uid_at(&before, "fd00::1").as_deref(), Some("k//Pod/a"), "a copy stays as it was");
    }
}
