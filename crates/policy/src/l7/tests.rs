//! Tables for the words of the spec, the index, and the engine against a slow, obvious evaluator on random cases.

mod random;
mod reference;
mod vectors;

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use lateen_types::{id::SpiffeId, name::PolicyKey};

use super::{
    Action, Attribute, Clause, Decision, DryRun, Facts, Field, Headers, Match, Policies, Policy, Refusal, Request,
    Rule, Speaker, decide, template::Template,
};

/// Headers as a list.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed(pub(super) Vec<(String, String)>);

impl Headers for Listed {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let values: Vec<&str> = self.0.iter().filter(|(one, _)| one == name).map(|(_, value)| value.as_str()).collect();
        match values[..] {
            [] => None,
            [only] => Some(Cow::Borrowed(only)),
            _ => Some(Cow::Owned(values.join(","))),
        }
    }
}

fn id(text: &str) -> SpiffeId {
    format!("spiffe://{text}").parse().expect("an identity")
}

fn key(name: &str) -> PolicyKey {
    format!("a/{name}").parse().expect("a key")
}

fn field(attribute: Attribute, any: &[&str], none: &[&str]) -> Field {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Field::read(attribute, &owned(any), &owned(none)).expect("values that can be read")
}

fn rule(number: u32, clauses: Vec<Vec<Vec<Field>>>) -> Arc<Rule> {
    let clause =
        |matches: Vec<Vec<Field>>| Clause { matches: matches.into_iter().map(|fields| Match { fields }).collect() };
    Arc::new(Rule { number, clauses: clauses.into_iter().map(clause).collect() })
}

fn policy(name: &str, action: Action, rules: Vec<Arc<Rule>>) -> Arc<Policy> {
    Arc::new(Policy { key: key(name), action, dry_run: false, rules, unreadable: false })
}

fn set(policies: &[Arc<Policy>]) -> Policies {
    Policies::new(policies, Vec::new())
}

/// A GET of `/` by nobody.
fn nobody<'a>(headers: &'a Listed) -> Facts<'a> {
    let request = Request { host: "s.a", method: "GET", path: "/", headers };
    let (source, destination): (SocketAddr, SocketAddr) =
        ("10.2.3.4:40000".parse().expect("an address"), "10.96.0.1:80".parse().expect("an address"));
    Facts {
        identity: None,
        source_ip: source.ip(),
        remote_ip: source.ip(),
        destination,
        sni: None,
        request: Some(request),
    }
}

#[test]
fn path_templates_mean_what_the_spec_says() {
    for (template, path, expected) in [
        ("/v/{*}", "/v/a", true),
        ("/v/{*}", "/v/a/b", false),
        ("/v/{*}", "/v/", false),
        ("/v/{*}", "/v", false),
        ("/{*}/v/{*}", "/a/v/b", true),
        ("/{*}/v/{*}", "/a/b/v/c", false),
        ("/{*}/{*}", "/a/b", true),
        ("/{*}/{*}", "/a/", false),
        ("/v/{*}/", "/v/a/", true),
        ("/v/{*}/", "/v/a", false),
        ("/v/{**}", "/v/", true),
        ("/v/{**}", "/v", false),
        ("/v/{**}", "/v/a/b", true),
        ("/{**}", "/", true),
        ("/foo/{**}/", "/foo/", false),
        ("/foo/{**}/", "/foo/a/", true),
        ("/foo/{**}/", "/foo//", true),
        ("/store/{**}/cart", "/store/a/b/cart", true),
        ("/store/{**}/cart", "/store//cart", true),
        ("/store/{**}/cart", "/store/cart", false),
        ("/{*}/{**}/c", "/a/b/c", true),
        ("/{*}/{**}/c", "/a//c", true),
        ("/{*}/{**}/c", "//x/c", false),
    ] {
        let read = Template::read(template).unwrap_or_else(|why| panic!("{template}: {why}"));
        assert_eq!(read.hits(path), expected, "{template} on {path}");
    }
    for bad in ["{*}", "x/{*}", "/foo/{*}.txt", "/a{*}", "/{**}/{*}", "/{**}/{**}", "/a*/{*}", "/{x}/{*}", "/{*}{*}"] {
        assert!(Template::read(bad).is_err(), "{bad} was accepted");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    for (attribute, value, part) in [
        (Attribute::SourceIp, "10.0.0.0/33", "source.ip: \"10.0.0.0/33\""),
        (Attribute::RemoteIp, "x", "remote.ip"),
        (Attribute::DestinationIp, "", "destination.ip"),
        (Attribute::DestinationPort, "65536", "port number"),
        (Attribute::ServiceAccount, "x", "<namespace>/<account>"),
        (Attribute::ServiceAccount, "a/b/c", "<namespace>/<account>"),
        (Attribute::Path, "/foo/{*}.txt", "stand alone"),
    ] {
        let values = [value.to_owned()];
        for (any, none) in [(&values[..], &[][..]), (&[][..], &values[..])] {
            let error = Field::read(attribute.clone(), any, none).expect_err(value).to_string();
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[test]
fn levels_that_are_empty_mean_what_they_mean_at_l4() {
    let headers = Listed::default();
    let denied = |rules| !decide(&[&set(&[policy("p", Action::Deny, rules)])], &nobody(&headers)).is_allowed();
    assert!(!denied(vec![]), "no rules: never matches");
    assert!(denied(vec![rule(0, vec![])]), "a rule without clauses always matches");
    assert!(denied(vec![rule(0, vec![vec![]])]), "a clause without matches always matches");
    assert!(!denied(vec![rule(0, vec![vec![vec![]]])]), "a match without fields never matches");
    let get = || field(Attribute::Method, &["GET"], &[]);
    assert!(denied(vec![rule(0, vec![vec![vec![], vec![get()]]])]), "the match beside it counts");
    assert!(!denied(vec![rule(0, vec![vec![vec![get()]], vec![vec![]]])]));
}

#[test]
fn what_is_missing_or_unreadable_refuses_and_is_named() {
    let headers = Listed::default();
    let facts = nobody(&headers);
    let all = policy("all", Action::Allow, vec![rule(0, vec![])]);
    let refusal =
        |sets: &[&Policies]| decide(sets, &facts).refusal().map(|refusal| (refusal.reason(), refusal.to_string()));
    let named = |reason, details: &str| Some((reason, details.to_owned()));

    let missing = Policies::new(std::slice::from_ref(&all), vec![key("later")]);
    let expected = named("policy_missing", "rbac_access_denied_policy_missing[ns[a]-policy[later]]");
    assert_eq!(refusal(&[&missing]), expected);
    assert_eq!(refusal(&[&set(std::slice::from_ref(&all)), &missing]), expected, "in any of the sets");
    let deny = policy("no", Action::Deny, vec![rule(0, vec![])]);
    let denied = named("denied_by_policy", "rbac_access_denied_matched_policy[ns[a]-policy[no]-rule[0]]");
    assert_eq!(refusal(&[&missing, &set(&[deny])]), denied, "a DENY tells more");

    for action in [Action::Deny, Action::Audit] {
        let unreadable = Arc::new(Policy::unreadable(key("bad"), action));
        let expected = named("policy_unreadable", "rbac_access_denied_policy_unreadable[ns[a]-policy[bad]]");
        assert_eq!(refusal(&[&set(&[all.clone(), unreadable])]), expected);
    }
    let unreadable = Arc::new(Policy::unreadable(key("bad"), Action::Allow));
    let none = named("no_allow_policy_matched", "rbac_access_denied_matched_policy[none]");
    assert_eq!(refusal(&[&set(std::slice::from_ref(&unreadable))]), none);
    assert_eq!(refusal(&[&set(&[all, unreadable])]), None, "it admits nobody, and forbids nobody whom another admits");
}

#[test]
fn the_first_rule_of_the_first_set_speaks_whatever_the_index_chose() {
    let headers = Listed::default();
    let facts = nobody(&headers);
    let by = |attribute, value| vec![vec![field(attribute, &[value], &[])]];
    let rules = vec![
        rule(0, vec![by(Attribute::Method, "POST")]),
        rule(1, vec![by(Attribute::Path, "/*")]),
        rule(2, vec![by(Attribute::Path, "/")]),
        rule(3, vec![]),
    ];
    let (one, other) = (policy("one", Action::Allow, rules.clone()), policy("other", Action::Allow, rules));
    let (first, second) = (set(&[one, other.clone()]), set(&[other]));
    let expected = Speaker { policy: &key("one"), rule: 1 };
    assert_eq!(decide(&[&first, &second], &facts).decision, Decision::Allowed(expected));
    let expected = Speaker { policy: &key("other"), rule: 1 };
    assert_eq!(decide(&[&second, &first], &facts).decision, Decision::Allowed(expected));
}

/// A thousand policies are asked for one request, and only those rules are looked at that its own words lead to.
#[test]
fn a_decision_looks_at_the_rules_that_can_match() {
    let headers = Listed(vec![("x-tenant".to_owned(), "t7".to_owned())]);
    let callers: Vec<String> = (0..10_000).map(|at| format!("cluster.local/ns/a/sa/caller-{at}")).collect();
    let paths: Vec<String> = (0..10_000).map(|at| format!("/path-{at}/*")).collect();
    let tenants: Vec<String> = (0..10_000).map(|at| format!("t{at}")).collect();
    let ruled = |fields: &dyn Fn(usize) -> Vec<Field>| {
        let rules =
            (0..10_000u32).map(|at| rule(at, fields(at as usize).into_iter().map(|one| vec![vec![one]]).collect()));
        set(&[policy("p", Action::Deny, rules.collect())])
    };
    let get = || field(Attribute::Method, &["GET"], &[]);
    let same = || field(Attribute::Principal, &["cluster.local/ns/a/*"], &[]);
    let caller = |at: usize| vec![get(), field(Attribute::Principal, &[&callers[at]], &[])];
    let path = |at: usize| vec![same(), get(), field(Attribute::Path, &[&paths[at]], &[])];
    let tenant = |at: usize| vec![get(), field(Attribute::Header("x-tenant".into()), &[&tenants[at]], &[])];
    let identity = id(&callers[7]);
    let request = Request { host: "s.a", method: "GET", path: "/path-7/x", headers: &headers };
    let facts = Facts { identity: Some(&identity), request: Some(request), ..nobody(&headers) };
    for (what, policies) in [("caller", ruled(&caller)), ("path", ruled(&path)), ("tenant", ruled(&tenant))] {
        assert_eq!(policies.looked_at(&facts), 1, "{what}");
        let verdict = decide(&[&policies], &facts);
        assert_eq!(verdict.refusal(), Some(Refusal::Denied(Speaker { policy: &key("p"), rule: 7 })), "{what}");
    }
}

#[test]
fn beginnings_and_ends_are_found_however_they_nest() {
    let headers = Listed::default();
    let hosts = ["*.com", "*.example.com", "*a.example.com", "*b.com", "*com", "a*", "ab*", "abc*", "b*", "abd"];
    let rules = hosts.iter().enumerate().map(|(at, host)| {
        rule(u32::try_from(at).expect("few"), vec![vec![vec![field(Attribute::Host, &[*host], &[])]]])
    });
    let policies = set(&[policy("p", Action::Deny, rules.collect())]);
    for (host, looked_at) in [
        ("a.example.com", 5), // *.com *.example.com *a.example.com *com a*
        ("xa.example.com", 4),
        ("b.com", 4), // *.com *b.com *com b*
        ("abcd", 3),
        ("abd", 3),
        ("com", 1),
        ("zzz", 0),
        ("", 0),
    ] {
        let request = Request { host, method: "GET", path: "/", headers: &headers };
        assert_eq!(policies.looked_at(&Facts { request: Some(request), ..nobody(&headers) }), looked_at, "{host}");
    }
}

#[test]
fn who_asks_for_a_server_name_says_so() {
    let asking =
        |attribute| set(&[policy("p", Action::Deny, vec![rule(0, vec![vec![vec![field(attribute, &["x"], &[])]]])])]);
    assert!(asking(Attribute::Sni).needs_sni());
    assert!(!asking(Attribute::Host).needs_sni());
}

#[test]
fn dry_run_and_audit_are_noted_not_enforced() {
    let headers = Listed::default();
    let facts = nobody(&headers);
    let all = || vec![rule(0, vec![])];
    let tried =
        |name: &str, action, rules| Arc::new(Policy { dry_run: true, ..(*policy(name, action, rules)).clone() });
    let (deny, allow) = (tried("d", Action::Deny, all()), tried("a", Action::Allow, all()));
    let nobody = tried("n", Action::Allow, vec![]);
    let (audit, real) = (policy("au", Action::Audit, all()), policy("ra", Action::Allow, all()));
    let (d, a, au) = (key("d"), key("a"), key("au"));
    for (policies, notes, is_audited) in [
        (vec![&deny], vec![DryRun::WouldDeny(Speaker { policy: &d, rule: 0 })], false),
        (vec![&allow, &audit], vec![DryRun::WouldAllow(Speaker { policy: &a, rule: 0 })], true),
        (vec![&nobody], vec![DryRun::WouldAllowNone], false),
        (vec![&nobody, &real], vec![], false),
    ] {
        let policies = set(&policies.into_iter().cloned().collect::<Vec<_>>());
        let verdict = decide(&[&policies], &facts);
        assert!(verdict.is_allowed());
        assert_eq!(verdict.dry_run, notes);
        assert_eq!(verdict.audited, is_audited.then_some(Speaker { policy: &au, rule: 0 }));
    }
}
