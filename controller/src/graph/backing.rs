//! Backend TLS policies: which hold for what a proxy sends to, and what their authors are told at each Gateway.

use std::collections::BTreeSet;

use lateen_cluster::{api::ParentRef, store::Key};

use super::{
    Graph, Made, Thing,
    attached::{Parent, answer},
    eyes::Eyes,
    proxies::{Looked, taken},
    told::{Kind, Object, ParentTold, Reporter, Told},
};
use crate::{
    derive::{
        attached::Problem,
        backend::{Backend, Port},
        backing,
        destination::Backing,
        gate::Secrets as _,
    },
    facts::BackendTls,
};

/// As many as the Gateway API allows.
const ANCESTORS_MAX: usize = 16;

impl Eyes<'_> {
    /// What a backend TLS policy says of a port.
    pub(super) fn backing(&self, backend: &Backend, port: &Port) -> Option<Backing> {
        let Some(Parent::Service(service)) = self.graph.parent_of(backend) else { return None };
        self.looked.borrow_mut().insert(Thing::Backing(service.clone()));
        let all = self.graph.backings_of(&service);
        let (key, policy) = backing::choose(&all, &service, port)?;
        Some(backing::derive(key, policy, &|source| self.look(source)).backing)
    }
}

impl Graph {
    fn backings_of(&self, service: &Key) -> Vec<(&Key, &BackendTls)> {
        let named = self.world.backings_of.of(service);
        named.filter_map(|key| self.world.backings.pair(key)).map(|(key, policy)| (key, &**policy)).collect()
    }

    /// What the author of a policy is told, for each Gateway that sends to what it names.
    pub(super) fn author_of_backing(&self, key: &Key) -> Made {
        let object = Object { kind: Kind::BackendTlsPolicy, key: key.clone() };
        let Some((key, policy)) = self.world.backings.pair(key) else {
            let told = Told { is_gone: true, ..Told::new(object, Reporter::Ancestors) };
            return Made { told: vec![told], ..Made::default() };
        };
        let looked = Looked::default();
        let (mut gateways, mut lost_places, mut counts) = (BTreeSet::new(), Vec::new(), false);
        for service in backing::targets(key, policy) {
            looked.borrow_mut().insert(Thing::Backing(service.clone()));
            let hostname = self.mesh.hostname(&service);
            looked.borrow_mut().insert(Thing::Bound(hostname.clone()));
            let places = self.bindings.sent(|known| known == hostname);
            gateways.extend(places.into_iter().map(|place| place.gateway));
            let rival = backing::rival(&self.backings_of(&service), &service, (key, policy));
            counts |= rival.is_none();
            lost_places.extend(rival.map(|rival| lost(rival, &service)));
        }
        // It counts where nobody was first; where it does not is said beside.
        let refused = lost_places.first().filter(|_| !counts).cloned();
        let in_use = match backing::strange_target(policy).iter().chain(&lost_places).next() {
            Some(problem) => format!("it is in use, but not everywhere: {}", problem.message),
            None => "it is in use".to_owned(),
        };
        let parents = gateways.iter().take(ANCESTORS_MAX).map(|gateway| {
            looked.borrow_mut().insert(Thing::Gateway(gateway.clone()));
            let eyes = self.eyes(gateway, &looked);
            let made = backing::derive(key, policy, &|source| eyes.look(source));
            let refused = refused.as_ref().or(made.refused.as_ref());
            ParentTold {
                reference: ParentRef {
                    group: Some("gateway.networking.k8s.io".to_owned()),
                    kind: Some("Gateway".to_owned()),
                    namespace: Some(gateway.namespace.to_string()),
                    name: gateway.name.to_string(),
                    ..ParentRef::default()
                },
                controller: self.controller_at(gateway),
                words: vec![
                    answer("Accepted", refused, "Accepted", &in_use),
                    answer("ResolvedRefs", made.unresolved.as_ref(), "ResolvedRefs", "all it names is there"),
                ],
            }
        });
        let told = Told {
            generation: policy.generation,
            parents: parents.collect(),
            was_said: !policy.told.is_empty(),
            ..Told::new(object, Reporter::Ancestors)
        };
        Made { told: vec![told], looked_at: taken(looked), ..Made::default() }
    }
}

fn lost(rival: &Key, service: &Key) -> Problem {
    let message = format!("the older BackendTLSPolicy {rival} is for the same ports of Service {service}");
    Problem { reason: "Conflicted", message }
}
