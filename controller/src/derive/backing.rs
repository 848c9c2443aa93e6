//! Backend TLS policies: how services are sent to by TLS, in the words of the Gateway API.
//!
//! In: policies, the service's port, a look at Secrets and ConfigMaps. Out: what holds for the port, and what authors are
//! told. A policy for the very port counts before one for all, then the oldest. One that cannot be had closes its port.

use lateen_cluster::{api::PolicyTarget, store::Key};

use super::{
    attached::Problem,
    backend::Port,
    credential::{self, Trouble},
    destination::{Authority, Backing},
    gate::problem,
};
use crate::facts::{BackendTls, Lookup, Source};

/// The services a policy names.
pub fn targets<'a>(key: &'a Key, policy: &'a BackendTls) -> impl Iterator<Item = Key> + 'a {
    policy.spec.target_refs.iter().filter(|one| is_service(one)).map(|one| Key::new(&key.namespace, &one.name))
}

/// A target that is nothing one sends to.
pub fn strange_target(policy: &BackendTls) -> Option<Problem> {
    let strange = policy.spec.target_refs.iter().find(|one| !is_service(one))?;
    let (group, kind, name) = (&strange.group, &strange.kind, &strange.name);
    let message = format!("targetRefs: {group}/{kind} {name} is no kind it can be for; name a Service (group \"\")");
    Some(problem("TargetNotFound", message))
}

fn is_service(target: &PolicyTarget) -> bool {
    matches!(target.group.as_str(), "" | "core") && target.kind == "Service"
}

/// The policy that counts for a port of a service, of all that name the service.
pub fn choose<'a>(all: &[(&'a Key, &'a BackendTls)], service: &Key, port: &Port) -> Option<(&'a Key, &'a BackendTls)> {
    let of = |section: Option<&str>| {
        let naming = all.iter().copied().filter(|(_, policy)| names(policy, service, section));
        naming.min_by_key(|(key, policy)| (&policy.age, *key))
    };
    of(Some(&port.name)).or_else(|| of(None))
}

fn names(policy: &BackendTls, service: &Key, section: Option<&str>) -> bool {
    let here = |one: &&PolicyTarget| is_service(one) && *one.name == *service.name;
    policy.spec.target_refs.iter().filter(here).any(|one| one.section_name.as_deref() == section)
}

/// An older policy for one of the same places, of all that name the service.
pub fn rival<'a>(
    all: &[(&'a Key, &'a BackendTls)],
    service: &Key,
    (key, policy): (&Key, &BackendTls),
) -> Option<&'a Key> {
    let own = policy.spec.target_refs.iter().filter(|one| is_service(one) && *one.name == *service.name);
    let mut sections = own.map(|one| one.section_name.as_deref());
    sections.find_map(|section| {
        let naming = all.iter().filter(|(_, other)| names(other, service, section));
        let first = naming.min_by_key(|(other, found)| (&found.age, *other)).map(|(other, _)| *other);
        first.filter(|first| *first != key)
    })
}

/// What a policy asks for.
pub struct Made {
    /// What holds for the ports it counts for.
    pub backing: Backing,
    /// What it names and cannot be used.
    pub unresolved: Option<Problem>,
    /// Why it is not accepted.
    pub refused: Option<Problem>,
}

/// What a policy comes to.
pub fn derive(key: &Key, policy: &BackendTls, look: &dyn Fn(&Source) -> Lookup) -> Made {
    let refused = |refused: Problem, unresolved: Option<Problem>| Made {
        backing: Backing::Unusable(format!("BackendTLSPolicy {key}: {}", refused.message)),
        unresolved,
        refused: Some(refused),
    };
    if let Some(name) = policy.spec.options.keys().next() {
        return refused(problem("Invalid", format!("options: {name:?} is not supported; remove it")), None);
    }
    let validation = &policy.spec.validation;
    let (mut sources, mut unresolved) = (Vec::new(), None);
    for reference in &validation.ca_certificate_refs {
        let named = Key::new(&key.namespace, &reference.name);
        let source = match (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref()) {
            ("" | "core", Some("ConfigMap") | None) => Source::ConfigMap(named),
            ("" | "core", Some("Secret")) => Source::Secret(named),
            (group, kind) => {
                let kind = kind.unwrap_or_default();
                let message = format!("{group}/{kind} {named} is no kind that holds certificates; use a ConfigMap");
                unresolved.get_or_insert(problem("InvalidKind", message));
                continue;
            }
        };
        match credential::authorities_in(&source, look) {
            Ok(()) | Err(Trouble::Pending) => sources.push(source),
            Err(Trouble::Kept(why) | Trouble::Unusable(why)) => {
                _ = unresolved.get_or_insert(problem("InvalidCACertificateRef", why))
            }
        }
    }
    let authority = match (validation.well_known.as_deref(), sources.is_empty()) {
        (_, false) => Authority::These(sources),
        (Some("System"), true) if validation.ca_certificate_refs.is_empty() => Authority::System,
        (Some(other), true) if validation.ca_certificate_refs.is_empty() => {
            let message = format!("validation.wellKnownCACertificates: {other:?} is not known; use System");
            return refused(problem("Invalid", message), None);
        }
        (_, true) => {
            let why = unresolved.as_ref().map_or("it names none", |why: &Problem| why.message.as_str());
            let message = format!("validation knows no authority: {why}");
            return refused(problem("NoValidCACertificate", message), unresolved);
        }
    };
    let names = validation.subject_alt_names.iter().filter_map(|name| match name.kind.as_str() {
        "URI" => name.uri.clone(),
        _ => name.hostname.clone(),
    });
    let backing = Backing::Tls { authority, hostname: validation.hostname.clone(), subject_alt_names: names.collect() };
    Made { backing, unresolved, refused: None }
}
