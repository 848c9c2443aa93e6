//! Which identities live on which node: what a node's proxy may ask certificates for.
//!
//! In: pods as they come and go; a proven caller and the identity it asks for. Out: yes, or the reason why not.
//! Failed pods do not count; succeeded ones still do, as in the reference.

use std::{collections::HashMap, sync::Arc};

use lateen_cluster::store::Key;
use lateen_types::id::{SpiffeId, TrustDomain};
use parking_lot::RwLock;

use super::authn::Caller;
use crate::{
    facts::{Phase, Pod},
    scope::Scope,
};

/// The index; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Residents {
    shared: Arc<RwLock<Index>>,
}

/// Invariant: `accounts` counts the pods of `pods` that are on a node and have an account.
#[derive(Debug, Default)]
struct Index {
    pods: HashMap<Key, Resident>,
    accounts: HashMap<Place, usize>,
    /// Pods outside count for nothing.
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resident {
    uid: Arc<str>,
    node: Arc<str>,
    account: Arc<str>,
    /// The name of the Gateway it is an instance of.
    gateway: Option<Arc<str>>,
}

/// What a pod is to Gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    /// It is not known, or not yet.
    Unknown,
    /// It runs none.
    Plain,
    /// It runs this one.
    Of(Key),
}

/// A service account on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    node: Arc<str>,
    namespace: Arc<str>,
    account: Arc<str>,
}

/// Who may ask for whom.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Accounts of node proxies, `namespace/name`; when empty nobody may ask for another.
    pub trusted: Vec<Key>,
    /// The only trust domain there are certificates for.
    pub trust_domain: TrustDomain,
}

/// Why a caller does not get the identity it asked for. For our log; the caller learns only that it was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody may.
    #[error("CA_TRUSTED_NODE_ACCOUNTS is empty, so no caller may ask for another identity")]
    NobodyTrusted,
    /// The token is not bound to a pod.
    #[error("the caller's token names no pod; use a projected token")]
    NoPod,
    /// The caller is no node proxy.
    #[error("{0} is not in CA_TRUSTED_NODE_ACCOUNTS")]
    NotTrusted(Key),
    /// The identity is of another domain.
    #[error("the trust domain {0} is not ours")]
    TrustDomain(TrustDomain),
    /// The pod is not known, or not yet.
    #[error("the caller's pod {0} is not known here (yet)")]
    UnknownPod(Key),
    /// A pod of that name lives, but another one.
    #[error("the caller's token is of an earlier pod {0}")]
    OtherPod(Key),
    /// The pod's account is another one.
    #[error("the caller's pod {0} has another service account")]
    OtherAccount(Key),
    /// Nobody of that identity lives there.
    #[error("no pod of {identity} is on node {node:?}")]
    NotResident {
        /// Who was asked for.
        identity: Box<SpiffeId>,
        /// The caller's node.
        node: String,
    },
}

impl Residents {
    /// Notes the state of a pod, `None` when it is gone.
    pub fn note(&self, key: &Key, pod: Option<&Pod>) {
        let resident = pod.filter(|pod| pod.phase != Phase::Failed).map(|pod| Resident {
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            account: pod.service_account.clone(),
            gateway: pod.gateway().map(Arc::from),
        });
        let mut index = self.shared.write();
        let old = match resident {
            Some(new) => index.enter(key, new),
            None => index.pods.remove(key),
        };
        if let Some(old) = old {
            index.leave(key, old);
        }
    }

    /// From now on only pods within `scope` count.
    pub fn keep_within(&self, scope: Scope) {
        self.shared.write().scope = scope;
    }

    /// The node of the pod that a token is bound to, if that very pod lives.
    pub fn node_of(&self, caller: &Caller) -> Option<String> {
        let pod = caller.pod.as_ref()?;
        let index = self.shared.read();
        let resident = index.pods.get(&pod.key).filter(|resident| *resident.uid == *pod.uid);
        resident.map(|resident| resident.node.to_string())
    }

    /// Which Gateway the very pod that a token is bound to is an instance of.
    pub fn gateway_of(&self, caller: &Caller) -> Instance {
        let Some(pod) = &caller.pod else { return Instance::Unknown };
        let index = self.shared.read();
        let resident = index.pods.get(&pod.key).filter(|resident| *resident.uid == *pod.uid);
        let Some(resident) = resident else { return Instance::Unknown };
        let is_its_own = pod.key.namespace == caller.account.namespace && *resident.account == *caller.account.name;
        let is_within = is_its_own && index.scope.holds_namespace(&pod.key.namespace);
        let name = resident.gateway.as_ref().filter(|_| is_within);
        name.map_or(Instance::Plain, |name| Instance::Of(Key::new(&pod.key.namespace, name)))
    }

    /// Whether `caller` may have a certificate of `identity`, as a node proxy.
    pub fn may_have(&self, caller: &Caller, identity: &SpiffeId, rules: &Rules) -> Result<(), Refusal> {
        if rules.trusted.is_empty() {
            return Err(Refusal::NobodyTrusted);
        }
        let pod = caller.pod.as_ref().ok_or(Refusal::NoPod)?;
        if !rules.trusted.contains(&caller.account) {
            return Err(Refusal::NotTrusted(caller.account.clone()));
        }
        if *identity.trust_domain() != rules.trust_domain {
            return Err(Refusal::TrustDomain(identity.trust_domain().clone()));
        }
        let index = self.shared.read();
        let resident = index.pods.get(&pod.key).ok_or_else(|| Refusal::UnknownPod(pod.key.clone()))?;
        if *resident.uid != *pod.uid {
            return Err(Refusal::OtherPod(pod.key.clone()));
        }
        if pod.key.namespace != caller.account.namespace || *resident.account != *caller.account.name {
            return Err(Refusal::OtherAccount(pod.key.clone()));
        }
        let place = Place {
            node: resident.node.clone(),
            namespace: identity.namespace().as_str().into(),
            account: identity.service_account().as_str().into(),
        };
        if index.accounts.contains_key(&place) && index.scope.holds_namespace(&place.namespace) {
            return Ok(());
        }
        Err(Refusal::NotResident { identity: Box::new(identity.clone()), node: place.node.to_string() })
    }
}

impl Index {
    fn enter(&mut self, key: &Key, new: Resident) -> Option<Resident> {
        if let Some(place) = new.place(key) {
            *self.accounts.entry(place).or_default() += 1;
        }
        self.pods.insert(key.clone(), new)
    }

    fn leave(&mut self, key: &Key, old: Resident) {
        let Some(place) = old.place(key) else { return };
        if let Some(count) = self.accounts.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.accounts.remove(&place);
            }
        }
    }
}

impl Resident {
    fn place(&self, key: &Key) -> Option<Place> {
        let placed = !self.node.is_empty() && !self.account.is_empty();
        placed.then(|| Place {
            node: self.node.clone(),
            namespace: key.namespace.clone(),
            account: self.account.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::authn::CallerPod;

    fn pod(uid: &str, node: &str, account: &str, phase: Phase) -> Pod {
        Pod {
            uid: uid.into(),
            labels: Arc::default(),
            addresses: Vec::new(),
            node: node.into(),
            service_account: account.into(),
            healthy: false,
            host_network: false,
            redirected: false,
            owner: None,
            ports: Arc::default(),
            phase,
            wish: crate::facts::Wish::default(),
        }
    }

    fn rules() -> Rules {
        Rules { trusted: vec![Key::new("istio-system", "ztunnel")], trust_domain: "cluster.local".into() }
    }

    fn proxy() -> Caller {
        let pod = CallerPod { key: Key::new("istio-system", "ztunnel-1"), uid: "z1".to_owned() };
        Caller { account: Key::new("istio-system", "ztunnel"), pod: Some(pod) }
    }

    /// A proxy on n1 beside a pod of `shop/web`; `shop/db` lives on n2 only.
    fn cluster() -> Residents {
        let residents = Residents::default();
        residents.note(&Key::new("istio-system", "ztunnel-1"), Some(&pod("z1", "n1", "ztunnel", Phase::Live)));
        residents.note(&Key::new("shop", "web-1"), Some(&pod("w1", "n1", "web", Phase::Live)));
        residents.note(&Key::new("shop", "db-1"), Some(&pod("d1", "n2", "db", Phase::Live)));
        residents
    }

    fn ask(residents: &Residents, caller: &Caller, identity: &str) -> Result<(), Refusal> {
        residents.may_have(caller, &identity.parse().expect("a SPIFFE id"), &rules())
    }

    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

    #[test]
    fn a_proxy_gets_the_identities_of_its_node() {
        let residents = cluster();
        assert_eq!(ask(&residents, &proxy(), WEB), Ok(()));
        for elsewhere in ["shop/sa/db", "web/sa/web", "shop/sa/nobody"] {
            let refused = ask(&residents, &proxy(), &format!("spiffe://cluster.local/ns/{elsewhere}"));
            assert!(matches!(refused, Err(Refusal::NotResident { .. })), "{elsewhere}: {refused:?}");
        }
        assert_eq!(residents.node_of(&proxy()).as_deref(), Some("n1"));
    }

    #[test]
    fn pods_outside_the_mesh_do_not_count() {
        let (residents, store) = (cluster(), lateen_cluster::store::Store::default());
        let usual = crate::settings::Settings::usual(crate::derive::tests::mesh(), "istio-system");
        let settings = usual.with("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]").expect("valid");
        let space = |label: &str| crate::facts::Namespace {
            labels: [("mesh".to_owned(), label.to_owned())].into(),
            ..crate::facts::Namespace::default()
        };
        store.put(&Key::new("", "shop"), space("no"));
        residents.keep_within(Scope::of(&settings, &store));
        let refused = ask(&residents, &proxy(), WEB);
        assert!(matches!(refused, Err(Refusal::NotResident { .. })), "{refused:?}");
        store.put(&Key::new("", "shop"), space("yes"));
        residents.keep_within(Scope::of(&settings, &store));
        assert_eq!(ask(&residents, &proxy(), WEB), Ok(()));
    }

    #[test]
    fn every_check_can_refuse() {
        let residents = cluster();
        let check = |caller: Caller, refusal: Refusal| assert_eq!(ask(&residents, &caller, WEB), Err(refusal));
        check(Caller { pod: None, ..proxy() }, Refusal::NoPod);
        let account = Key::new("shop", "web");
        check(Caller { account: account.clone(), ..proxy() }, Refusal::NotTrusted(account));
        let at = |name: &str, uid: &str| Caller {
            pod: Some(CallerPod { key: Key::new("istio-system", name), uid: uid.to_owned() }),
            ..proxy()
        };
        check(at("ztunnel-9", "z1"), Refusal::UnknownPod(Key::new("istio-system", "ztunnel-9")));
        check(at("ztunnel-1", "old"), Refusal::OtherPod(Key::new("istio-system", "ztunnel-1")));
        residents.note(&Key::new("istio-system", "other"), Some(&pod("o1", "n1", "other", Phase::Live)));
        check(at("other", "o1"), Refusal::OtherAccount(Key::new("istio-system", "other")));
        let foreign = ask(&residents, &proxy(), "spiffe://other.org/ns/shop/sa/web");
        assert_eq!(foreign, Err(Refusal::TrustDomain("other.org".into())));
        let nobody = Rules { trusted: Vec::new(), ..rules() };
        let refused = residents.may_have(&proxy(), &WEB.parse().expect("an id"), &nobody);
        assert_eq!(refused, Err(Refusal::NobodyTrusted));
        assert_eq!(residents.node_of(&at("ztunnel-1", "old")), None);
    }

    #[test]
    fn pods_count_while_they_are_there() {
        let residents = cluster();
        let web = Key::new("shop", "web-1");
        let second = Key::new("shop", "web-2");
        let state = |phase| pod("w1", "n1", "web", phase);
        residents.note(&web, Some(&state(Phase::Succeeded)));
        assert_eq!(ask(&residents, &proxy(), WEB), Ok(()));
        residents.note(&web, Some(&state(Phase::Failed)));
        assert!(ask(&residents, &proxy(), WEB).is_err());
        residents.note(&web, Some(&pod("w1", "", "web", Phase::Live)));
        assert!(ask(&residents, &proxy(), WEB).is_err());
        residents.note(&web, Some(&state(Phase::Live)));
        residents.note(&second, Some(&state(Phase::Live)));
        residents.note(&second, Some(&state(Phase::Live)));
        residents.note(&web, None);
        assert_eq!(ask(&residents, &proxy(), WEB), Ok(()));
        residents.note(&second, None);
        residents.note(&second, None);
        assert!(ask(&residents, &proxy(), WEB).is_err());
    }
}
