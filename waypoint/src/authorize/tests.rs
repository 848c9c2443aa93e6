//! Policies from the wire, whole requests by the spec's vectors, and what happens around policies that are not there.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, HeaderValue};
use lateen_types::{id::SpiffeId, name::NamespacedHostname};
use lateen_wire::proxy as wire;
use prost::Message as _;

use super::{Facts, Guards, HeadersOf, Policies, Request, decide, decode};
use crate::{
    book::proxy::{EscapedSlashes, PathNormalization},
    http::normalize::{Cleaned, PathRules, clean_path},
};

fn field(attribute: wire::Attribute, any: &[&str]) -> wire::Field {
    let any = any.iter().map(|text| (*text).to_owned()).collect();
    wire::Field { attribute: attribute.into(), key: String::new(), any, none: Vec::new() }
}

fn message(name: &str, action: wire::Action, fields: Vec<wire::Field>) -> wire::Policy {
    let clause = wire::Clause { matches: vec![wire::Match { fields }] };
    wire::Policy {
        namespace: "foo".to_owned(),
        name: name.to_owned(),
        action: action.into(),
        dry_run: false,
        rules: vec![wire::Rule { index: 0, clauses: vec![clause] }],
    }
}

fn service(name: &str) -> NamespacedHostname {
    format!("foo/{name}.foo.svc.cluster.local").parse().expect("a service")
}

/// Guards of one service, `s`, that lists the policies' names.
fn guards(messages: &[wire::Policy], names: &[&str]) -> Guards {
    let mut guards = Guards::default();
    for message in messages {
        let policy = decode::policy(&message.encode_to_vec()).expect("readable");
        guards.put(&format!("foo/{}", message.name).into(), Some(Arc::new(policy)));
    }
    let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
    guards.settle(&[], [(&service("s"), &names[..])].into_iter());
    guards
}

/// What a request is answered: 200, 400, or the details of a refusal.
fn answer(guards: &Guards, method: &str, target: &str, mode: PathNormalization) -> String {
    let rules = PathRules::new(mode, false, EscapedSlashes::Keep);
    let target = match clean_path(target, &rules) {
        Ok(Cleaned::Same) => target.to_owned(),
        Ok(Cleaned::Changed(path) | Cleaned::Redirect(path)) => path,
        Err(_) => return "400".to_owned(),
    };
    let path = target.split('?').next().unwrap_or_default();
    let headers = HeaderMap::new();
    let headers = HeadersOf { headers: &headers, method, path_and_query: &target, authority: "s.foo", scheme: "http" };
    let client: SpiffeId = "spiffe://cluster.local/ns/a/sa/x".parse().expect("an identity");
    let facts = Facts {
        identity: Some(&client),
        source_ip: [10, 0, 0, 1].into(),
        remote_ip: [10, 0, 0, 1].into(),
        destination: ([10, 96, 0, 1], 80).into(),
        sni: None,
        request: Some(Request { host: "s.foo", method, path, headers: &headers }),
    };
    let verdict = decide(&guards.of(Some(&service("s"))), &facts);
    verdict.refusal().map_or_else(|| "200".to_owned(), |refusal| refusal.to_string())
}

const DENIED: &str = "rbac_access_denied_matched_policy[ns[foo]-policy[p]-rule[0]]";

#[test]
fn v13_and_v19_to_v23_paths_as_they_were_sent() {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
    let deny = |path: &str| {
        guards(&[message("p", wire::Action::Deny, vec![field(wire::Attribute::Path, &[path])])], &["foo/p"])
    };
    for (number, denied, target, mode, expected) in [
        (19, "/admin", "/x/../admin", Base, DENIED),
        (19, "/admin", "/x/../admin", None, "200"),
        (20, "/admin", "/%61dmin", Base, DENIED),
        (21, "/admin*", "//admin", Base, "200"),
        (21, "/admin*", "//admin", MergeSlashes, DENIED),
        (22, "/a/b", "/a%2fb", Base, "200"),
        (22, "/a/b", "/a%2fb", DecodeAndMergeSlashes, DENIED),
        (23, "/x", "/admin\\..\\x", Base, DENIED),
        (0, "/a", "/a%00", Base, "400"),
        (14, "*.html", "/a.html?x=1", Base, DENIED),
    ] {
        assert_eq!(answer(&deny(denied), "GET", target, mode), expected, "{number}: {denied} {target} {mode:?}");
    }
    let infos = [message("p", wire::Action::Allow, vec![field(wire::Attribute::Path, &["/info*"])])];
    let none = "rbac_access_denied_matched_policy[none]";
    assert_eq!(answer(&guards(&infos, &["foo/p"]), "GET", "/x?/info", Base), none, "13");
}

#[test]
fn a_policy_that_has_not_arrived_refuses_until_it_has() {
    let get = message("p", wire::Action::Allow, vec![field(wire::Attribute::Method, &["GET"])]);
    let mut guards = guards(&[], &["foo/p"]);
    let ask = |guards: &Guards| answer(guards, "GET", "/", PathNormalization::Base);
    assert_eq!(ask(&guards), "rbac_access_denied_policy_missing[ns[foo]-policy[p]]");
    let names: [Arc<str>; 1] = ["foo/p".into()];
    let policy = Arc::new(decode::policy(&get.encode_to_vec()).expect("readable"));
    guards.put(&names[0], Some(policy));
    guards.settle(&[], [(&service("s"), &names[..])].into_iter());
    assert_eq!(ask(&guards), "200");
    let before = guards.clone();
    guards.settle(&[], [(&service("s"), &names[..])].into_iter());
    let set = |guards: &Guards| std::ptr::from_ref::<Policies>(guards.of(Some(&service("s")))[1]);
    assert_eq!(set(&guards), set(&before), "what did not change is not made anew");
    guards.put(&names[0], None);
    guards.settle(&[], std::iter::empty());
    guards.settle(&names, std::iter::empty());
    assert_eq!(ask(&guards), "rbac_access_denied_policy_missing[ns[foo]-policy[p]]", "of the proxy itself");
}

/// That it is gone may be heard before its service lists it no more.
#[test]
fn a_policy_that_is_gone_holds_until_nobody_lists_it() {
    let of = |method| message("p", wire::Action::Allow, vec![field(wire::Attribute::Method, &[method])]);
    let read = |message: &wire::Policy| Some(Arc::new(decode::policy(&message.encode_to_vec()).expect("readable")));
    let names: [Arc<str>; 1] = ["foo/p".into()];
    let listed = |guards: &mut Guards, names: &[Arc<str>]| guards.settle(&[], [(&service("s"), names)].into_iter());
    let ask = |guards: &Guards, method| answer(guards, method, "/", PathNormalization::Base);
    let mut guards = guards(&[of("GET")], &["foo/p"]);

    guards.put(&names[0], None);
    listed(&mut guards, &names);
    assert_eq!(ask(&guards, "GET"), "200", "between the two");
    assert_eq!(ask(&guards, "POST"), "rbac_access_denied_matched_policy[none]");
    assert!(!guards.holds("foo/p"), "what comes in its place must not be kept out by it");

    // Back again: it is as if it had never gone.
    guards.put(&names[0], read(&of("POST")));
    listed(&mut guards, &names);
    assert_eq!([ask(&guards, "GET"), ask(&guards, "POST")], ["rbac_access_denied_matched_policy[none]", "200"]);
    listed(&mut guards, &[]);
    assert!(guards.holds("foo/p"), "who lists it may come after it");

    listed(&mut guards, &names);
    guards.put(&names[0], None);
    listed(&mut guards, &[]);
    assert_eq!(ask(&guards, "PUT"), "200", "listed no more");
    listed(&mut guards, &names);
    assert_eq!(ask(&guards, "GET"), "rbac_access_denied_policy_missing[ns[foo]-policy[p]]", "and forgotten");
}

#[test]
fn what_cannot_be_read_is_named_and_refuses() {
    let refused =
        |message: &wire::Policy| decode::policy(&message.encode_to_vec()).expect_err("unreadable").to_string();
    let blocks = message("p", wire::Action::Allow, vec![field(wire::Attribute::SourceIp, &["10.0.0.0/8", "10.x"])]);
    let text = refused(&blocks);
    assert!(text.contains("rules[0].clauses[0].matches[0]") && text.contains("10.x"), "{text}");
    let unknown = wire::Field { attribute: 99, ..field(wire::Attribute::Path, &["/"]) };
    assert!(refused(&message("p", wire::Action::Deny, vec![unknown])).contains("99 is not a value"));
    assert!(refused(&message("", wire::Action::Deny, vec![])).contains("name"));
    assert!(decode::policy(b"\xff\xff").is_err());

    let held = decode::stand_in("w/gw/foo/s.foo.svc.cluster.local/foo/p", b"\xff").expect("a stand-in");
    assert_eq!((held.key.to_string().as_str(), held.unreadable), ("foo/p", true), "resources are named by their place");
    let actions = |bytes: &[u8]| decode::stand_in("foo/p", bytes).map(|policy| (policy.action, policy.rules.len()));
    use lateen_policy::l7::Action;
    assert_eq!(actions(&blocks.encode_to_vec()), Some((Action::Allow, 0)));
    assert_eq!(actions(b"\xff\xff"), Some((Action::Deny, 1)), "it may have been a DENY");
    let tried = wire::Policy { dry_run: true, ..blocks.clone() };
    assert_eq!(actions(&tried.encode_to_vec()), None);
    let audit = wire::Policy { action: wire::Action::Audit.into(), ..blocks };
    assert_eq!(actions(&audit.encode_to_vec()), None);
}

#[test]
fn headers_are_joined_and_pseudo_headers_are_known() {
    use lateen_policy::l7::Headers as _;
    let mut headers = HeaderMap::new();
    headers.append("x-t", HeaderValue::from_static("a"));
    headers.append("x-t", HeaderValue::from_static("b"));
    headers.append("x-u", HeaderValue::from_bytes(b"u\xff").expect("opaque bytes are allowed"));
    headers.append("host", HeaderValue::from_static("sent"));
    let all = HeadersOf { headers: &headers, method: "GET", path_and_query: "/a?b", authority: "h:80", scheme: "http" };
    let found: HashMap<&str, Option<String>> =
        ["x-t", "x-u", "x-v", "host", ":authority", ":path", ":method", ":scheme"]
            .into_iter()
            .map(|name| (name, all.value(name).map(std::borrow::Cow::into_owned)))
            .collect();
    let text = |name: &str| found[name].as_deref();
    assert_eq!(text("x-t"), Some("a,b"));
    assert_eq!(text("x-u"), Some("u\u{fffd}"));
    assert_eq!(text("x-v"), None);
    assert_eq!((text("host"), text(":authority")), (Some("h:80"), Some("h:80")));
    assert_eq!((text(":path"), text(":method"), text(":scheme")), (Some("/a?b"), Some("GET"), Some("http")));
}
