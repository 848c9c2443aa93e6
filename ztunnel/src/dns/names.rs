//! Which full names a name may mean.
//!
//! In: the name as asked, the asker's namespace, the cluster's domain. Out: candidates in the order they are tried.

/// One thing the asked name may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The full name, without the last dot.
    pub(super) name: String,
    /// The asked name without a search domain the asker's resolver appended, where that is how this candidate came about.
    pub(super) stripped: Option<String>,
}

/// All candidates without repeats: the name itself, its Kubernetes expansions, then the same for the name without each
/// search domain it ends in.
pub(super) fn candidates(asked: &str, namespace: &str, domain: &str) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    let mut add = |names: Vec<String>, stripped: Option<&str>| {
        for name in names {
            if !all.iter().any(|known| known.name == name) {
                all.push(Candidate { name, stripped: stripped.map(str::to_owned) });
            }
        }
    };
    add(with_expansions(asked, namespace, domain), None);
    for search in [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()] {
        let stripped = asked.strip_suffix(&search).and_then(|rest| rest.strip_suffix('.'));
        if let Some(stripped) = stripped.filter(|stripped| !stripped.is_empty()) {
            add(with_expansions(stripped, namespace, domain), Some(stripped));
        }
    }
    all
}

fn with_expansions(name: &str, namespace: &str, domain: &str) -> Vec<String> {
    let labels: Vec<&str> = name.split('.').collect();
    let expansions = match labels.as_slice() {
        [_] => vec![format!("{name}.{namespace}.svc.{domain}")],
        [_, _] => vec![format!("{name}.svc.{domain}"), format!("{name}.{namespace}.svc.{domain}")],
        [_, _, "svc"] => vec![format!("{name}.{domain}"), format!("{name}.svc.{domain}")],
        [_, _, _] => vec![format!("{name}.svc.{domain}")],
        [_, _, _, "svc"] => vec![format!("{name}.{domain}")],
        _ => Vec::new(),
    };
    std::iter::once(name.to_owned()).chain(expansions).collect()
}

/// `w.x.y`, then `*.x.y`, `*.y`: the name, then wildcards that hold it from most to least specific.
pub(super) fn with_wildcards(name: &str) -> impl Iterator<Item = String> {
    let rests = std::iter::successors(name.split_once('.'), |(_, rest)| rest.split_once('.'));
    std::iter::once(name.to_owned()).chain(rests.map(|(_, rest)| format!("*.{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_go_from_most_to_least_specific() {
        let all = |name| with_wildcards(name).collect::<Vec<_>>();
        assert_eq!(all("w.x.y"), ["w.x.y", "*.x.y", "*.y"]);
        assert_eq!(all("y"), ["y"]);
    }

    #[test]
    fn short_names_expand_as_kubernetes_would() {
        let check = |name: &str, expected: &[&str]| {
            assert_eq!(with_expansions(name, "c", "d"), expected, "{name}");
        };
        check("a", &["a", "a.c.svc.d"]);
        check("a.b", &["a.b", "a.b.svc.d", "a.b.c.svc.d"]);
        check("a.b.svc", &["a.b.svc", "a.b.svc.d", "a.b.svc.svc.d"]);
        check("a.b.x", &["a.b.x", "a.b.x.svc.d"]);
        check("a.b.n.svc", &["a.b.n.svc", "a.b.n.svc.d"]);
        check("a.b.n.x", &["a.b.n.x"]);
        check("a.b.c.d.e", &["a.b.c.d.e"]);
    }

    #[test]
    fn search_domains_are_taken_off() {
        let all = candidates("www.ns1.svc.d", "ns1", "d");
        let stripped = all.iter().find(|one| one.name == "www").expect("there");
        assert_eq!(stripped.stripped.as_deref(), Some("www"));
        assert_eq!(all[0], Candidate { name: "www.ns1.svc.d".into(), stripped: None });
        assert!(candidates("svc.d", "ns1", "d").iter().all(|one| !one.name.is_empty()));
        assert!(candidates("ns1.svc.d", "ns1", "d").iter().all(|one| one.stripped.as_deref() != Some("")));
    }
}
