//! What should be done for a pod now. Pure.
//!
//! In: what the cluster says of it, what our ledger says. Out: one [`Action`].
//! Absent on purpose: doing it, and retrying.

use std::net::IpAddr;

/// The redirection annotation as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotated {
    /// Not there, or nothing we know.
    No,
    /// The pod waits for ztunnel.
    Pending,
    /// The pod is in.
    Enabled,
}

/// The cluster's side.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Whether the enrolment predicate says yes.
    pub wanted: bool,
    /// Whether the pod has succeeded or failed for good.
    pub finished: bool,
    /// Whether its deletion has been asked for.
    pub ending: bool,
    /// The annotation.
    pub annotated: Annotated,
    /// The pod's addresses; empty until the runtime has made its sandbox.
    pub ips: &'a [IpAddr],
}

/// How far a pod has come; the ledger's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Its namespace is remembered, nothing more.
    Known,
    /// It is being enrolled: rules may be there, ztunnel has not said yes.
    Started,
    /// It is in.
    Enrolled,
}

/// What our ledger says.
#[derive(Debug, Clone)]
pub struct Holding<'a> {
    /// How far it has come.
    pub stage: Stage,
    /// The addresses it was enrolled with.
    pub ips: &'a [IpAddr],
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// All is as it should be, or it is not yet time.
    Nothing,
    /// Enrol it, or go on where an earlier try stopped.
    Enrol,
    /// It is in; only the annotation is behind.
    Annotate,
    /// It is in, under addresses it no longer has.
    Readdress,
    /// Take it out; it goes on running.
    Unenrol,
    /// It has ended: drop what we hold.
    Forget,
}

/// One word for metrics and logs.
impl Action {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Enrol => "enrol",
            Self::Annotate => "annotate",
            Self::Readdress => "readdress",
            Self::Unenrol => "unenrol",
            Self::Forget => "forget",
        }
    }
}

/// `wish` is `None` when the cluster does not have the pod; `held` when we know nothing of it.
pub fn decide(wish: Option<&Wish<'_>>, held: Option<&Holding<'_>>) -> Action {
    let stage = held.map(|held| held.stage);
    let Some(wish) = wish.filter(|wish| !wish.finished) else {
        return if held.is_some() { Action::Forget } else { Action::Nothing };
    };
    if !wish.wanted {
        let touched = stage > Some(Stage::Known) || wish.annotated != Annotated::No;
        return if touched { Action::Unenrol } else { Action::Nothing };
    }
    match held {
        // Its sandbox may be gone already; nothing is begun for it any more.
        None if wish.ending => Action::Nothing,
        // Before it has an address, CNI ADD is in charge.
        _ if wish.ips.is_empty() => Action::Nothing,
        Some(held) if held.stage == Stage::Enrolled => {
            if !same(held.ips, wish.ips) {
                Action::Readdress
            } else if wish.annotated != Annotated::Enabled {
                Action::Annotate
            } else {
                Action::Nothing
            }
        }
        Some(_) | None => Action::Enrol,
    }
}

fn same(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|ip| b.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words: `wanted`/`unwanted`/`finished`/`absent`, then the annotation, then whether it has an address.
    fn check(cluster: &str, stage: Option<Stage>, expected: Action) {
        let here: [IpAddr; 1] = [[10, 0, 0, 5].into()];
        let there: [IpAddr; 1] = [[10, 0, 0, 6].into()];
        let has = |word: &str| cluster.split(' ').any(|one| one == word);
        let ips: &[IpAddr] = match () {
            () if has("no-ip") => &[],
            () if has("moved") => &there,
            () => &here,
        };
        let annotated = match () {
            () if has("enabled") => Annotated::Enabled,
            () if has("pending") => Annotated::Pending,
            () => Annotated::No,
        };
        let wish = Wish { wanted: has("wanted"), finished: has("finished"), ending: has("ending"), annotated, ips };
        let held = stage.map(|stage| Holding { stage, ips: &here });
        let decided = decide((!has("absent")).then_some(&wish), held.as_ref());
        assert_eq!(decided, expected, "{cluster}, {stage:?}");
    }

    #[test]
    fn every_state_has_its_action() {
        use Action::{Annotate, Enrol, Forget, Nothing, Readdress, Unenrol};
        use Stage::{Enrolled, Known, Started};
        for (cluster, stage, expected) in [
            ("absent", None, Nothing),
            ("absent", Some(Known), Forget),
            ("absent", Some(Enrolled), Forget),
            ("finished wanted enabled", Some(Enrolled), Forget),
            ("finished wanted enabled", None, Nothing),
            ("wanted no-ip", None, Nothing),
            ("wanted no-ip", Some(Known), Nothing),
            ("wanted no-ip enabled", Some(Enrolled), Nothing),
            ("wanted", None, Enrol),
            ("wanted", Some(Known), Enrol),
            ("wanted pending", Some(Started), Enrol),
            ("wanted pending", None, Enrol),
            ("wanted enabled", None, Enrol),
            ("wanted enabled", Some(Enrolled), Nothing),
            ("wanted", Some(Enrolled), Annotate),
            ("wanted pending", Some(Enrolled), Annotate),
            ("wanted enabled moved", Some(Enrolled), Readdress),
            ("wanted moved", Some(Enrolled), Readdress),
            ("wanted ending enabled", None, Nothing),
            ("wanted ending enabled", Some(Enrolled), Nothing),
            ("unwanted", None, Nothing),
            ("unwanted", Some(Known), Nothing),
            ("unwanted", Some(Started), Unenrol),
            ("unwanted", Some(Enrolled), Unenrol),
            ("unwanted enabled", Some(Enrolled), Unenrol),
            ("unwanted enabled", None, Unenrol),
            ("unwanted pending", Some(Known), Unenrol),
            ("unwanted no-ip enabled", None, Unenrol),
        ] {
            check(cluster, stage, expected);
        }
    }
}
