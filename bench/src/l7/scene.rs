//! What a proxy is told in one measurement: so many routes, so many policies. Pure.
//!
//! In: numbers. Out: words that both our proxy's and Envoy's configuration are made of, so that both do the same work: of each
//! team's routes, text prefixes; of each team's two policies, one that refuses and one that admits. Absent on purpose: how
//! either proxy is told.

/// Teams, each with a share of the routes and two policies: one that denies, one that allows.
const TEAMS: usize = 25;
/// Requests ask for so many different paths, spread evenly over the routes.
const PATHS: usize = 100;

/// The host that requests name.
pub(crate) const HOST: &str = "shop.example";
/// Clients come from here, and policies say so.
pub(crate) const SOURCES: [(&str, u32); 2] = [("127.0.0.0", 8), ("10.0.0.0", 8)];
/// What allowing policies allow.
pub(crate) const ALLOWED: [&str; 2] = ["GET", "HEAD"];
/// What denying policies deny.
pub(crate) const DENIED: [&str; 2] = ["DELETE", "PUT"];

/// How requests come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// HTTP/1.1 on plain TCP, in and out.
    Plain,
    /// The same inside tunnels, in and out.
    Tunnels,
}

/// One configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    /// How many routes.
    pub routes: usize,
    /// How many policies, of which half deny.
    pub policies: usize,
    /// How requests come and go.
    pub way: Way,
}

/// One policy: what any of these sources may or may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Its name.
    pub name: String,
    /// Whether it denies.
    pub denies: bool,
    /// The methods it is about.
    pub methods: [&'static str; 2],
    /// The paths it is about, by their beginning.
    pub prefixes: [String; 2],
}

impl Scene {
    /// What the measures of the speed table are taken with.
    pub fn usual(way: Way) -> Self {
        Self { routes: 100, policies: 50, way }
    }

    /// Each route's path prefix, in the order in which routes are looked at.
    pub fn prefixes(&self) -> impl Iterator<Item = String> {
        (0..self.routes).map(|route| format!("/t{}/r{route}/", route % TEAMS))
    }

    /// All policies.
    pub fn policies(&self) -> impl Iterator<Item = Policy> {
        (0..self.policies).map(|number| {
            let (team, denies) = (number / 2 % TEAMS, number % 2 == 0);
            let (word, methods) = if denies { ("deny", DENIED) } else { ("allow", ALLOWED) };
            let rest = if denies { "r0/admin/" } else { "" };
            let prefixes = [format!("/t{team}/{rest}"), format!("/team-{team}/{rest}")];
            Policy { name: format!("{word}-{number}"), denies, methods, prefixes }
        })
    }

    /// What requests ask for.
    pub fn paths(&self) -> Vec<String> {
        let count = PATHS.min(self.routes).max(1);
        // An odd step visits all, and neighbours in time are not neighbours in the table.
        let one = |number: usize| {
            let route = (number * 37 % count) * self.routes / count;
            format!("/t{}/r{route}/items/{number}?page=2", route % TEAMS)
        };
        (0..count).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_has_one_route_and_one_policy_that_allows_it() {
        for routes in [10, 100, 10_000] {
            let scene = Scene { routes, ..Scene::usual(Way::Plain) };
            let (prefixes, policies): (Vec<String>, Vec<Policy>) =
                (scene.prefixes().collect(), scene.policies().collect());
            assert_eq!((prefixes.len(), policies.len()), (routes, 50));
            let mut hit = BTreeSet::new();
            for path in scene.paths() {
                let of: Vec<&String> = prefixes.iter().filter(|prefix| path.starts_with(*prefix)).collect();
                assert_eq!(of.len(), 1, "{path}");
                hit.extend(of);
                let holds = |policy: &&Policy| policy.prefixes.iter().any(|prefix| path.starts_with(prefix));
                let about: Vec<&Policy> = policies.iter().filter(holds).collect();
                assert!(about.iter().all(|policy| !policy.denies) && about.len() == 1, "{path}: {about:?}");
            }
            assert_eq!(hit.len(), routes.min(PATHS), "paths are spread over all routes");
        }
    }
}
