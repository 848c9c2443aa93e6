//! What the author of a Gateway is told of its listeners.

use lateen_cluster::store::Key;

use super::{
    authors::unsupported,
    eyes::Eyes,
    gates::Listened,
    told::{Kind, ListenerTold, Object, Reporter, Told},
};
use crate::{
    derive::{
        attached::Problem,
        gate::{
            client,
            judge::{self, Judged},
            tls,
        },
        word::{Truth, Word},
    },
    facts::Gateway,
};

/// Of the listeners of a gateway.
pub(super) fn told(key: &Key, gateway: &Gateway, (listened, eyes): (&[Listened], &Eyes<'_>)) -> Told {
    let of = |(listener, found): (&crate::facts::GatewayListener, &Listened)| ListenerTold {
        name: listener.name.clone(),
        kinds: found.judged.kinds.clone(),
        attached: found.attached,
        words: words(&found.judged, &found.ended),
    };
    let listeners = gateway.listeners.iter().zip(listened).map(of).collect();
    let fallback = tls::falls_back(&gateway.tls).then(|| Word {
        kind: "InsecureFrontendValidationMode",
        truth: Truth::True,
        reason: "ConfigurationChanged",
        message: "clients without a valid certificate are let in (AllowInsecureFallback)".to_owned(),
    });
    let shown = shown_to_backends(key, gateway, eyes);
    let words = fallback.into_iter().chain(shown).chain(unsupported(&gateway.unused)).collect();
    Told { words, ..said(key, gateway, listeners) }
}

/// Of the listeners of a waypoint, to which no routes are attached.
pub(super) fn told_of_waypoint(key: &Key, gateway: &Gateway, eyes: &Eyes<'_>) -> Told {
    let judged = judge::judge(&gateway.listeners, true);
    let of = |(listener, judged): (&crate::facts::GatewayListener, Judged)| ListenerTold {
        name: listener.name.clone(),
        kinds: Vec::new(),
        attached: 0,
        words: words(&judged, &tls::Ended::default()),
    };
    let words = shown_to_backends(key, gateway, eyes).into_iter().chain(unsupported(&gateway.unused)).collect();
    Told { words, ..said(key, gateway, gateway.listeners.iter().zip(judged).map(of).collect()) }
}

/// Whether the certificate that backends are shown can be.
fn shown_to_backends(key: &Key, gateway: &Gateway, eyes: &Eyes<'_>) -> Option<Word> {
    let shown = client::shown(key, &gateway.tls, eyes)?;
    Some(asked("ResolvedRefs", shown.as_ref().err(), "the certificate that backends are shown is there"))
}

/// Nothing is said of a Gateway that is not ours, or is gone.
pub(super) fn silent(key: &Key, gateway: Option<&Gateway>) -> Told {
    match gateway {
        Some(gateway) => said(key, gateway, Vec::new()),
        None => Told { is_gone: true, ..Told::new(object(key), Reporter::Listeners) },
    }
}

fn object(key: &Key) -> Object {
    Object { kind: Kind::Gateway, key: key.clone() }
}

fn said(key: &Key, gateway: &Gateway, listeners: Vec<ListenerTold>) -> Told {
    Told {
        generation: gateway.generation,
        listeners,
        was_said: gateway.has_listeners_told,
        ..Told::new(object(key), Reporter::Listeners)
    }
}

fn words(judged: &Judged, ended: &tls::Ended) -> Vec<Word> {
    let refused = judged.why_not().or(ended.refused.as_ref());
    let unresolved = judged.unknown_kinds.as_ref().or(ended.unresolved.as_ref());
    let ends_here = matches!(judged.spoken, Some(judge::Spoken::Https | judge::Spoken::Terminated));
    let is_closed = refused.is_some() || ends_here && ended.terms.is_none();
    let conflicted = match &judged.conflict {
        Some(conflict) => word("Conflicted", Truth::True, conflict.reason, &conflict.message),
        None => word("Conflicted", Truth::False, "NoConflicts", "it can be told apart from all others"),
    };
    let programmed = match (is_closed, ended.is_pending) {
        (true, _) => {
            let why = refused.or(unresolved).map_or("it is not listened on", |why| why.message.as_str());
            word("Programmed", Truth::False, "Invalid", why)
        }
        (false, true) => word("Programmed", Truth::Unknown, "Pending", PENDING),
        (false, false) => word("Programmed", Truth::True, "Programmed", "its proxies are told of it"),
    };
    let resolved = match (unresolved, ended.is_pending) {
        (None, true) => word("ResolvedRefs", Truth::Unknown, "Pending", PENDING),
        (unresolved, _) => asked("ResolvedRefs", unresolved, "all it names is there"),
    };
    vec![asked("Accepted", refused, "it is accepted"), conflicted, resolved, programmed]
}

const PENDING: &str = "what it names is being looked for";

fn asked(kind: &'static str, problem: Option<&Problem>, message: &str) -> Word {
    match problem {
        None => word(kind, Truth::True, kind, message),
        Some(problem) => word(kind, Truth::False, problem.reason, &problem.message),
    }
}

fn word(kind: &'static str, truth: Truth, reason: &'static str, message: &str) -> Word {
    Word { kind, truth, reason, message: message.to_owned() }
}
