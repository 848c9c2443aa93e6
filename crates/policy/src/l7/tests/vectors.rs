//! The vectors of the L7 security spec that are about matching, by their numbers there. Those of whole requests (paths as
//! sent, answers) are with the waypoint, those of what is written in YAML with the controller.

use super::{
    Action, Attribute, Facts, Field, Listed, Policies, Policy, Request, decide, field, id, nobody, policy, rule, set,
};
use std::sync::Arc;

const P1: &str = "cluster.local/ns/a/sa/x";
const P2: &str = "cluster.local/ns/b/sa/y";

/// One request.
struct Ask {
    who: Option<&'static str>,
    method: &'static str,
    path: &'static str,
    host: &'static str,
    headers: &'static [(&'static str, &'static str)],
    is_tcp: bool,
}

const ASK: Ask = Ask { who: Some(P1), method: "GET", path: "/", host: "s.a", headers: &[], is_tcp: false };

impl Ask {
    fn passes(&self, sets: &[&Policies]) -> bool {
        self.details(sets).is_none()
    }

    fn details(&self, sets: &[&Policies]) -> Option<String> {
        let headers = Listed(self.headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let identity = self.who.map(id);
        let request = Request { host: self.host, method: self.method, path: self.path, headers: &headers };
        let request = (!self.is_tcp).then_some(request);
        let facts = Facts { identity: identity.as_ref(), request, ..nobody(&headers) };
        decide(sets, &facts).refusal().map(|refusal| refusal.to_string())
    }
}

fn asking(action: Action, only: Field) -> Policies {
    set(&[policy("p", action, vec![rule(0, vec![vec![vec![only]]])])])
}

fn allow(attribute: Attribute, any: &[&str]) -> Policies {
    asking(Action::Allow, field(attribute, any, &[]))
}

fn deny(attribute: Attribute, any: &[&str]) -> Policies {
    asking(Action::Deny, field(attribute, any, &[]))
}

#[test]
fn v1_to_v4_policies_with_little_in_them() {
    let empty = policy("none", Action::Allow, vec![]);
    let (all, deny_all) =
        (policy("all", Action::Allow, vec![rule(0, vec![])]), policy("deny", Action::Deny, vec![rule(0, vec![])]));
    assert!(ASK.passes(&[]));
    assert!(ASK.passes(&[&set(&[])]));
    assert_eq!(ASK.details(&[&set(&[empty])]).as_deref(), Some("rbac_access_denied_matched_policy[none]"));
    assert!(ASK.passes(&[&set(std::slice::from_ref(&all))]));
    assert!(!ASK.passes(&[&set(&[all, deny_all])]));
}

#[test]
fn v5_to_v11_who_calls() {
    let callers = [Some(P1), Some(P2), None];
    let check = |name: &str, policies: &Policies, expected: [bool; 3]| {
        let found = callers.map(|who| Ask { who, ..ASK }.passes(&[policies]));
        assert_eq!(found, expected, "{name}");
    };
    check("5", &allow(Attribute::Principal, &[P1]), [true, false, false]);
    check("6", &allow(Attribute::Principal, &["cluster.local/ns/a/*"]), [true, false, false]);
    check("7", &allow(Attribute::Principal, &["*/sa/x"]), [true, false, false]);
    check("8", &allow(Attribute::Principal, &["*"]), [true, true, false]);
    check("9", &asking(Action::Allow, field(Attribute::Principal, &[], &[P1])), [false, true, true]);
    check("10", &allow(Attribute::SourceNamespace, &["a"]), [true, false, false]);
    check("11", &allow(Attribute::ServiceAccount, &["a/x"]), [true, false, false]);
    check("11", &allow(Attribute::ServiceAccount, &["b/y"]), [false, true, false]);
    let of_prod = allow(Attribute::SourceNamespace, &["pr*d"]);
    for (namespace, expected) in [("prod", true), ("preprod", true), ("xprod", false), ("prody", false)] {
        let identity = id(&format!("cluster.local/ns/{namespace}/sa/a"));
        let headers = Listed::default();
        let facts = Facts { identity: Some(&identity), ..nobody(&headers) };
        assert_eq!(decide(&[&of_prod], &facts).is_allowed(), expected, "10: {namespace}");
    }
}

#[test]
fn v12_to_v17_what_is_called() {
    let (posts, infos) = (deny(Attribute::Method, &["POST"]), allow(Attribute::Path, &["/info*"]));
    assert!(ASK.passes(&[&posts]) && !Ask { method: "POST", ..ASK }.passes(&[&posts]));
    for (policies, path, expected) in [
        (&infos, "/info", true),
        (&infos, "/info/a", true),
        (&infos, "/Info", false),
        (&infos, "/x", false),
        (&allow(Attribute::Path, &["*.html"]), "/a/b.html", true),
        (&allow(Attribute::Path, &["/v/{*}"]), "/v/a", true),
        (&allow(Attribute::Path, &["/v/{*}"]), "/v/a/b", false),
        (&allow(Attribute::Path, &["/v/{*}"]), "/v/", false),
        (&allow(Attribute::Path, &["/v/{**}"]), "/v/", true),
        (&allow(Attribute::Path, &["/v/{**}"]), "/v", false),
        (&allow(Attribute::Path, &["/store/{**}/cart"]), "/store//cart", true),
        (&allow(Attribute::Path, &["/store/{**}/cart"]), "/store/cart", false),
    ] {
        assert_eq!(Ask { path, ..ASK }.passes(&[policies]), expected, "{path}");
    }
}

#[test]
fn v24_to_v28_hosts_ports_headers_addresses() {
    for (values, host, expected) in [
        (["EXAMPLE.com"], "example.COM", true),
        (["EXAMPLE.com"], "example.com:8080", false),
        (["example.com*"], "example.COM", true),
        (["example.com*"], "example.com:8080", true),
    ] {
        assert_eq!(Ask { host, ..ASK }.passes(&[&allow(Attribute::Host, &values)]), expected, "24: {host}");
    }
    assert!(ASK.passes(&[&allow(Attribute::DestinationPort, &["80"])]), "25: the service's port");
    assert!(!ASK.passes(&[&allow(Attribute::DestinationPort, &["8080"])]), "25: not the pod's");
    let header = || Attribute::Header("X-T".into());
    let with = |headers| Ask { headers, ..ASK };
    assert!(with(&[("x-t", "v1")]).passes(&[&allow(header(), &["v*"])]), "26");
    assert!(!ASK.passes(&[&allow(header(), &["v*"])]), "26: absent");
    assert!(ASK.passes(&[&asking(Action::Allow, field(header(), &[], &["v1"]))]), "26: absent is not v1");
    assert!(!with(&[("x-t", "v1")]).passes(&[&asking(Action::Allow, field(header(), &[], &["v1"]))]), "26");
    assert!(with(&[("x-t", "")]).passes(&[&allow(header(), &["*"])]), "a header that is there");
    let joined = with(&[("x-t", "v1"), ("x-t", "v2")]);
    assert!(joined.passes(&[&allow(header(), &["v1,v2"])]) && !joined.passes(&[&allow(header(), &["v1"])]));
    assert!(ASK.passes(&[&allow(Attribute::SourceIp, &["10.0.0.0/8"])]), "27");
    assert!(!ASK.passes(&[&allow(Attribute::SourceIp, &["192.168.0.0/16"])]), "27");
    let headers = Listed::default();
    for (remote, expected) in [("203.0.113.7", true), ("10.9.9.9", false)] {
        let facts = Facts { remote_ip: remote.parse().expect("an address"), ..nobody(&headers) };
        let policies = allow(Attribute::RemoteIp, &["203.0.113.0/24"]);
        assert_eq!(decide(&[&policies], &facts).is_allowed(), expected, "28: {remote}");
    }
}

#[test]
fn v40_and_v44_who_speaks() {
    let all = policy("all", Action::Allow, vec![rule(0, vec![])]);
    let deny = policy("bar", Action::Deny, vec![rule(0, vec![vec![]]), rule(1, vec![])]);
    let expected = "rbac_access_denied_matched_policy[ns[a]-policy[bar]-rule[0]]";
    assert_eq!(ASK.details(&[&set(&[all, deny.clone()])]).as_deref(), Some(expected));
    let tried = Arc::new(Policy { dry_run: true, ..(*deny).clone() });
    assert!(ASK.passes(&[&set(&[tried])]));
}

#[test]
fn v41_what_asks_for_http_on_tcp() {
    let tcp = Ask { is_tcp: true, ..ASK };
    assert!(!tcp.passes(&[&allow(Attribute::Method, &["GET"])]), "the rule never matches, so nobody is allowed");
    assert!(!tcp.passes(&[&deny(Attribute::Method, &["POST"])]), "denies all TCP");
    let both = |action| {
        let fields = || vec![field(Attribute::Principal, &[P1], &[]), field(Attribute::Path, &["/x"], &[])];
        set(&[policy(
            "p",
            action,
            vec![rule(0, vec![vec![fields()], vec![vec![field(Attribute::Method, &["POST"], &[])]]])],
        )])
    };
    assert!(!tcp.passes(&[&both(Action::Deny)]), "the rest of a DENY still asks for the caller");
    assert!(Ask { who: Some(P2), is_tcp: true, ..ASK }.passes(&[&both(Action::Deny)]));
    assert!(!tcp.passes(&[&both(Action::Allow)]));
    assert!(tcp.passes(&[&allow(Attribute::Principal, &[P1])]), "what asks for no HTTP holds as ever");
}
