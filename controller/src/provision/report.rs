//! What the author of a Gateway is told (pure).
//!
//! In: what became of it, what it was told before. Out: addresses and the conditions `Accepted` and `Programmed`.

use lateen_cluster::{api::StatusCondition, labels, store::Key};

use super::{
    classes::Role,
    facts::{ACCEPTED, Address, Held, PROGRAMMED, Place, Wanted},
};
use crate::derive::gate::judge;

/// What became of a Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It cannot be run as it is written: a reason of `Accepted`, and words.
    Refused { reason: &'static str, message: String },
    /// Its objects could not be written.
    Failed(String),
    /// Somebody else runs it.
    Elsewhere(Vec<Place>),
    /// It asks for as many addresses of its own, and a Service can be given one.
    Several(usize),
    /// Its objects are there.
    Made {
        /// The Service's name.
        service: String,
        /// The Service's addresses; by load balancer or by cluster.
        places: Vec<Place>,
        /// Whether the Service is for the cluster itself, which knows it by name.
        is_internal: bool,
        /// What the proxies are.
        role: Role,
        /// Pods that serve.
        available: u64,
    },
}

/// What becomes of a Gateway that names a host, or several addresses. A host is a Service that somebody else made; addresses
/// alone name nothing that is there, so a gateway with several asks us for what it cannot have.
pub fn of_places(places: &[Place], role: Role) -> Outcome {
    let is_of_somebody = places.iter().any(|place| matches!(place, Place::Hostname(_)));
    match (is_of_somebody, role) {
        (false, Role::Gateway) => Outcome::Several(places.len()),
        (true, Role::Gateway) | (_, Role::Waypoint) => Outcome::Elsewhere(places.to_vec()),
    }
}

/// What is to be said: the whole of our part of the status.
pub fn report(key: &Key, wanted: &Wanted, outcome: &Outcome, domain: &str) -> Held {
    let mut places = places(key, wanted, outcome, domain);
    if places.is_empty() {
        // An address that was given stays: whoever asked for this waypoint must not come to pass it by.
        places.clone_from(&wanted.held.places);
    }
    let accepted = match outcome {
        Outcome::Refused { reason, message } => (false, *reason, message.clone()),
        Outcome::Made { role: Role::Gateway, .. } => listening(wanted),
        Outcome::Failed(_) | Outcome::Elsewhere(_) | Outcome::Several(_) | Outcome::Made { .. } => {
            (true, "Accepted", "Lateen runs this Gateway".to_owned())
        }
    };
    let programmed = programmed(wanted, outcome, &places);
    let conditions = [(ACCEPTED, accepted), (PROGRAMMED, programmed)]
        .into_iter()
        .map(|(kind, (yes, reason, message))| StatusCondition {
            type_: kind.to_owned(),
            status: if yes { "True" } else { "False" }.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: None,
            observed_generation: Some(wanted.generation),
        })
        .collect();
    Held { places, conditions }
}

/// Whether a gateway has something to listen on.
fn listening(wanted: &Wanted) -> (bool, &'static str, String) {
    let judged = judge::judge(&wanted.listeners, false);
    let refused = wanted.listeners.iter().zip(&judged).filter_map(|(listener, judged)| {
        let why = judged.why_not()?;
        Some(format!("listener {}: {}", listener.name, why.message))
    });
    let refused: Vec<String> = refused.collect();
    match refused.len() {
        0 => (true, "Accepted", "Lateen runs this Gateway".to_owned()),
        some => (some < judged.len(), "ListenersNotValid", refused.join("; ")),
    }
}

fn places(key: &Key, wanted: &Wanted, outcome: &Outcome, domain: &str) -> Vec<Place> {
    let (service, found, is_internal) = match outcome {
        Outcome::Refused { .. } | Outcome::Failed(_) | Outcome::Several(_) => return Vec::new(),
        Outcome::Elsewhere(places) => return places.clone(),
        Outcome::Made { service, places, is_internal, .. } => (service, places, *is_internal),
    };
    let mut all = Vec::new();
    // The name first: it outlives the address.
    if is_internal && !found.is_empty() {
        all.push(Place::Hostname(format!("{service}.{}.svc.{domain}", key.namespace)));
    }
    all.extend(found.iter().cloned());
    match wanted.annotations.get(labels::ADDRESS_TYPE).map(String::as_str) {
        Some("Hostname") => all.retain(|place| matches!(place, Place::Hostname(_))),
        Some("IPAddress") => all.retain(|place| matches!(place, Place::Ip(_))),
        Some(_) | None => {}
    }
    all
}

fn programmed(wanted: &Wanted, outcome: &Outcome, places: &[Place]) -> (bool, &'static str, String) {
    let (available, role) = match outcome {
        Outcome::Refused { message, .. } => return (false, "Invalid", message.clone()),
        Outcome::Failed(why) => return (false, "Invalid", why.clone()),
        Outcome::Elsewhere(_) => return (true, "Programmed", "its address is somebody else's business".to_owned()),
        Outcome::Several(count) => {
            let message =
                format!("spec.addresses: a Service can ask for one address, and {count} are written; keep one");
            return (false, "AddressNotUsable", message);
        }
        Outcome::Made { available, role, .. } => (*available, *role),
    };
    if let Address::Ip(ip) = wanted.address
        && !places.is_empty()
        && !places.contains(&Place::Ip(ip))
    {
        return (false, "AddressNotUsable", format!("the Service did not get the address {ip}"));
    }
    if places.is_empty() {
        return (false, "AddressNotAssigned", "its Service has no address yet".to_owned());
    }
    if let (Role::Gateway, (false, _, why)) = (role, listening(wanted)) {
        return (false, "Invalid", why);
    }
    let was = wanted.held.conditions.iter().any(|one| one.type_ == PROGRAMMED && one.status == "True");
    match (available, was) {
        (0, false) => (false, "Pending", "no pod of it is ready yet".to_owned()),
        (0, true) => {
            let words = "no pod of it is ready at this moment, and traffic that must pass it is refused";
            (true, "Programmed", words.to_owned())
        }
        (_, _) => (true, "Programmed", "it is there".to_owned()),
    }
}

/// `new` with the times of what was said before, where the answer is the same; nothing where all of it is.
pub fn dated(mut new: Held, held: &Held, now: &str) -> Option<Held> {
    for one in &mut new.conditions {
        let before = held.conditions.iter().find(|before| before.type_ == one.type_ && before.status == one.status);
        let time = before.and_then(|before| before.last_transition_time.clone());
        one.last_transition_time = Some(time.unwrap_or_else(|| now.to_owned()));
    }
    let same = new.places == held.places
        && new.conditions.len() == held.conditions.len()
        && new.conditions.iter().all(|one| held.conditions.contains(one));
    (!same).then_some(new)
}
