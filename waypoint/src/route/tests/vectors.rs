//! The vectors of l7-routing that are about matching, by their numbers.

use lateen_wire::proxy as wire;
use wire::{path_match::Kind as Path, string_match::Kind as Text};

use super::Asked;
use crate::book::tests::{service, to, wire_forward};

/// Whether a request takes the only route, whose match this is.
fn takes(matched: wire::HttpMatch, asked: &Asked) -> bool {
    let route = wire::HttpRoute { r#match: Some(matched), ..wire_forward(vec![to("", 1)]) };
    service(vec![route]).port(80).expect("port 80").http.select(&asked.view()).is_some()
}

fn path(kind: Path, ignore_case: bool) -> wire::HttpMatch {
    wire::HttpMatch { path: Some(wire::PathMatch { kind: Some(kind), ignore_case }), ..wire::HttpMatch::default() }
}

fn check_path(kind: Path, ignore_case: bool, cases: &[(&str, bool)]) {
    for (target, expected) in cases {
        let takes = takes(path(kind.clone(), ignore_case), &Asked::get(target, &[]));
        assert_eq!(takes, *expected, "{kind:?} (ignore case: {ignore_case}) and {target}");
    }
}

fn text(kind: Text) -> Option<wire::StringMatch> {
    Some(wire::StringMatch { kind: Some(kind), ignore_case: false })
}

/// A condition of `withoutHeaders`.
fn without(name: &str, kind: Text) -> wire::HttpMatch {
    let header = wire::HeaderMatch { name: name.into(), value: text(kind), invert: true, first_only: false };
    wire::HttpMatch { headers: vec![header], ..wire::HttpMatch::default() }
}

fn with(name: &str, kind: Text) -> wire::HttpMatch {
    let header = wire::HeaderMatch { name: name.into(), value: text(kind), invert: false, first_only: false };
    wire::HttpMatch { headers: vec![header], ..wire::HttpMatch::default() }
}

#[test]
fn vector_1_text_prefixes_and_element_prefixes() {
    check_path(Path::Prefix("/foo".into()), false, &[("/foobar", true), ("/foo", true), ("/fo", false)]);
    let cases = [("/foobar", false), ("/foo/", true), ("/foo", true), ("/foo/x", true), ("/Foo", false)];
    check_path(Path::ElementPrefix("/foo".into()), false, &cases);
    check_path(Path::ElementPrefix("/foo/".into()), false, &cases);
    check_path(Path::ElementPrefix("/".into()), false, &[("/", true), ("/x", true)]);
}

#[test]
fn vector_2_a_regex_matches_the_whole_path() {
    check_path(Path::Regex("/a.*".into()), false, &[("/a/b", true), ("/x/a", false)]);
    check_path(Path::Regex("/a|/b".into()), false, &[("/a", true), ("/b", true), ("/ab", false), ("/x/b", false)]);
    check_path(Path::Regex(r"/\w+/é".into()), false, &[("/a/é", true), ("/é/é", false)]);
    check_path(Path::Regex("/a?".into()), false, &[("/a?x=/b", true)]);
}

#[test]
fn vector_3_case_is_ignored_of_texts_not_of_regexes() {
    check_path(Path::Exact("/A".into()), true, &[("/a", true), ("/A", true), ("/ab", false)]);
    check_path(Path::Prefix("/Ab".into()), true, &[("/aBc", true), ("/a", false)]);
    check_path(Path::Regex("/A".into()), true, &[("/a", false), ("/A", true)]);
    check_path(Path::Exact("/A".into()), false, &[("/a", false)]);
}

#[test]
fn vector_4_without_a_value() {
    let jason = || without("end-user", Text::Exact("jason".into()));
    assert!(takes(jason(), &Asked::get("/", &[])));
    assert!(!takes(jason(), &Asked::get("/", &[("end-user", "jason")])));
    assert!(takes(jason(), &Asked::get("/", &[("end-user", "bob")])));
}

#[test]
fn vector_5_without_the_header_at_all() {
    let absent = || without("x", Text::Present(true));
    assert!(takes(absent(), &Asked::get("/", &[])));
    assert!(!takes(absent(), &Asked::get("/", &[("x", "")])));
    assert!(!takes(absent(), &Asked::get("/", &[("x", "1")])));
}

#[test]
fn vector_6_without_whatever_also_matches_nothing() {
    let whatever = || without("x", Text::Regex(".*".into()));
    assert!(!takes(whatever(), &Asked::get("/", &[])));
    assert!(!takes(whatever(), &Asked::get("/", &[("x", "1")])));
}

#[test]
fn vector_7_an_empty_parameter() {
    let query = |kind: Text| {
        let query = wire::QueryMatch { name: "k".into(), value: text(kind) };
        wire::HttpMatch { query: vec![query], ..wire::HttpMatch::default() }
    };
    let empty = || query(Text::Exact(String::new()));
    for (target, expected) in [("/?k", true), ("/?k=", true), ("/?k=1", false), ("/", false), ("/?kk", false)] {
        assert_eq!(takes(empty(), &Asked::get(target, &[])), expected, "{target}");
    }
    assert!(takes(query(Text::Exact("1".into())), &Asked::get("/?a=k&k=1&k=2", &[])), "the first value counts");
    assert!(!takes(query(Text::Exact("a b".into())), &Asked::get("/?k=a%20b", &[])), "nothing is decoded");
    assert!(takes(query(Text::Present(true)), &Asked::get("/?k", &[])));
}

#[test]
fn values_of_one_header_are_joined_unless_the_first_counts() {
    let both = Asked::get("/", &[("x", "a"), ("x", "b")]);
    assert!(takes(with("x", Text::Exact("a,b".into())), &both));
    assert!(!takes(with("x", Text::Exact("a".into())), &both));
    let mut first = with("x", Text::Exact("a".into()));
    first.headers[0].first_only = true;
    assert!(takes(first, &both));
    assert!(!takes(with("x", Text::Exact(String::new())), &Asked::get("/", &[])), "a missing header is not empty");
}

#[test]
fn the_request_line_is_matched_by_its_names() {
    for (name, value) in [(":method", "GET"), (":authority", "web.shop"), (":scheme", "http"), ("host", "web.shop")] {
        assert!(takes(with(name, Text::Exact(value.into())), &Asked::get("/", &[])), "{name}");
        assert!(!takes(without(name, Text::Exact(value.into())), &Asked::get("/", &[])), "{name}");
    }
    let method = wire::HttpMatch { method: text(Text::Exact("get".into())), ..wire::HttpMatch::default() };
    assert!(!takes(method, &Asked::get("/", &[])), "case counts");
}

/// The name of the route that a request takes.
fn taken(routes: &[(&str, wire::HttpMatch)], asked: &Asked) -> String {
    let route = |(name, matched): &(&str, wire::HttpMatch)| wire::HttpRoute {
        name: (*name).into(),
        r#match: Some(matched.clone()),
        ..wire_forward(vec![to("", 1)])
    };
    let service = service(routes.iter().map(route).collect());
    let taken = service.port(80).expect("port 80").http.select(&asked.view()).expect("a route");
    taken.name.to_string()
}

#[test]
fn vector_17_what_follows_a_catch_all_is_never_taken() {
    let exact = path(Path::Exact("/a".into()), false);
    let routes = [("all", path(Path::Prefix("/".into()), false)), ("exact", exact.clone())];
    assert_eq!(taken(&routes, &Asked::get("/a", &[])), "all");
    assert_eq!(taken(&[("any", wire::HttpMatch::default()), ("exact", exact)], &Asked::get("/a", &[])), "any");
}

/// The controller has put the newer one, which asks for a header, first.
#[test]
fn vector_20_more_headers_come_first() {
    let mut newer = path(Path::ElementPrefix("/".into()), false);
    newer.headers = with("x", Text::Exact("1".into())).headers;
    let routes = [("newer", newer), ("older", path(Path::ElementPrefix("/".into()), false))];
    assert_eq!(taken(&routes, &Asked::get("/", &[("x", "1")])), "newer");
    assert_eq!(taken(&routes, &Asked::get("/", &[])), "older");
}
