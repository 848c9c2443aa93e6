//! The index against a matcher that asks one route after the other.

use std::collections::BTreeMap;

use lateen_wire::proxy as wire;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use wire::{path_match::Kind as Path, string_match::Kind as Text};

use super::Asked;
use crate::{
    book::tests::{service, to, wire_forward},
    route::RouteTable,
};

const SEED: u64 = 20_261_122;
const TABLES: usize = 150;
const REQUESTS: usize = 200;

/// One route in words that need no index.
#[derive(Debug, Clone)]
struct Rule {
    path: Option<Path>,
    ignore_case: bool,
    method: Option<&'static str>,
    header: Option<(&'static str, &'static str, bool)>,
    parameter: Option<&'static str>,
    regex: Option<regex::Regex>,
}

/// Few letters, so that paths are often each other's prefixes.
fn random_path(random: &mut StdRng) -> String {
    let letters = ["a", "b", "A", "/", "ab", "/a", "."];
    let length = random.random_range(0..6);
    let tail: String = (0..length).map(|_| *letters.choose(random).expect("some")).collect();
    format!("/{tail}")
}

fn random_rule(random: &mut StdRng) -> Rule {
    let path = match random.random_range(0..9) {
        0 => None,
        1 | 2 => Some(Path::Exact(random_path(random))),
        3 | 4 => Some(Path::Prefix(random_path(random))),
        5 | 6 => Some(Path::ElementPrefix(random_path(random))),
        _ => {
            let patterns = ["/a.*", "/[ab]+", ".*b", "/(a|b)/?", "/a|/b", "(?i)/AB?", "/[^/]*"];
            Some(Path::Regex((*patterns.choose(random).expect("some")).to_owned()))
        }
    };
    let maybe = |random: &mut StdRng| random.random_bool(0.3);
    let regex = match &path {
        // Without Unicode's tables the other engine has no case to ignore.
        Some(Path::Regex(pattern)) => Some(format!("^(?:{})$", pattern.replace("(?i)/AB?", "/[aA][bB]?"))),
        _ => None,
    };
    Rule {
        regex: regex.map(|pattern| regex::Regex::new(&pattern).expect("a pattern")),
        path,
        ignore_case: maybe(random),
        method: maybe(random).then_some("POST"),
        header: maybe(random).then(|| (*["x", "y"].choose(random).expect("some"), "1", random.random_bool(0.5))),
        parameter: maybe(random).then_some("k"),
    }
}

impl Rule {
    fn wire(&self, name: usize) -> wire::HttpRoute {
        let text = |text: &str| Some(wire::StringMatch { kind: Some(Text::Exact(text.into())), ignore_case: false });
        let header = |(name, value, invert): (&str, &str, bool)| wire::HeaderMatch {
            name: name.into(),
            value: text(value),
            invert,
            first_only: false,
        };
        let matched = wire::HttpMatch {
            path: self.path.clone().map(|kind| wire::PathMatch { kind: Some(kind), ignore_case: self.ignore_case }),
            method: self.method.and_then(text),
            headers: self.header.into_iter().map(header).collect(),
            query: self
                .parameter
                .map(|name| wire::QueryMatch { name: name.into(), value: text("1") })
                .into_iter()
                .collect(),
            ..wire::HttpMatch::default()
        };
        wire::HttpRoute { name: name.to_string(), r#match: Some(matched), ..wire_forward(vec![to("", 1)]) }
    }

    fn matches(&self, asked: &Asked) -> bool {
        let header = |(name, value, invert): (&str, &str, bool)| {
            let given = asked.headers.get(name).map_or("", |given| given.to_str().expect("text"));
            (given == value) != invert
        };
        let parameter = |name: &str| asked.query.as_deref() == Some(&format!("{name}=1"));
        self.matches_path(&asked.path)
            && self.method.is_none_or(|method| method == asked.method)
            && self.header.is_none_or(header)
            && self.parameter.is_none_or(parameter)
    }

    fn matches_path(&self, path: &str) -> bool {
        let fold = |text: &str| if self.ignore_case { text.to_lowercase() } else { text.to_owned() };
        match &self.path {
            None => true,
            Some(Path::Exact(exact)) => fold(path) == fold(exact),
            Some(Path::Prefix(prefix)) => fold(path).starts_with(&fold(prefix)),
            Some(Path::ElementPrefix(prefix)) => {
                let prefix = fold(prefix.trim_end_matches('/'));
                fold(path) == prefix || fold(path).starts_with(&format!("{prefix}/"))
            }
            Some(Path::Regex(pattern)) => self.regex.as_ref().expect(pattern).is_match(path),
        }
    }
}

fn random_request(random: &mut StdRng) -> Asked {
    let mut headers = Vec::new();
    for name in ["x", "y"] {
        if random.random_bool(0.5) {
            headers.push((name, *["1", "2"].choose(random).expect("some")));
        }
    }
    let query = if random.random_bool(0.5) { "?k=1" } else { "" };
    let mut asked = Asked::get(&format!("{}{query}", random_path(random)), &headers);
    asked.method = if random.random_bool(0.5) { "POST".into() } else { "GET".into() };
    asked
}

fn taken(table: &RouteTable, asked: &Asked) -> Option<usize> {
    table.select(&asked.view()).map(|route| route.name.parse().expect("a number"))
}

#[test]
fn the_index_finds_what_asking_one_after_the_other_finds() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut found: BTreeMap<bool, usize> = BTreeMap::new();
    for _ in 0..TABLES {
        let rules: Vec<Rule> = (0..random.random_range(1..40)).map(|_| random_rule(&mut random)).collect();
        let service = service(rules.iter().enumerate().map(|(at, rule)| rule.wire(at)).collect());
        let table = &service.port(80).expect("port 80").http;
        for _ in 0..REQUESTS {
            let asked = random_request(&mut random);
            let expected = rules.iter().position(|rule| rule.matches(&asked));
            assert_eq!(taken(table, &asked), expected, "{asked:?} among {rules:#?} (seed {SEED})");
            *found.entry(expected.is_some()).or_default() += 1;
        }
    }
    assert!(found.values().all(|count| *count > TABLES * REQUESTS / 100), "both outcomes occur: {found:?}");
}

/// Ten thousand routes, of every kind, and each is found.
#[test]
fn each_of_ten_thousand_routes_is_found() {
    let path = |at: usize| match at % 3 {
        0 => Path::Exact(format!("/service-{at}/exact")),
        1 => Path::Prefix(format!("/service-{at}/text")),
        _ => Path::ElementPrefix(format!("/service-{at}/elements")),
    };
    let rule = |at: usize| Rule {
        regex: None,
        path: Some(path(at)),
        ignore_case: false,
        method: None,
        header: None,
        parameter: None,
    };
    let service = service((0..10_000).map(|at| rule(at).wire(at)).collect());
    let table = &service.port(80).expect("port 80").http;
    for at in 0..10_000 {
        let target = match path(at) {
            Path::Exact(path) => path,
            Path::Prefix(path) => format!("{path}ual"),
            Path::ElementPrefix(path) => format!("{path}/one"),
            Path::Regex(_) => unreachable!("none here"),
        };
        assert_eq!(taken(table, &Asked::get(&target, &[])), Some(at), "{target}");
    }
    assert_eq!(taken(table, &Asked::get("/service-10000/exact", &[])), None);
}
