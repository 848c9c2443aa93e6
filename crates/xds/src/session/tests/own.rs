//! Types of which each proxy is sent its own part and nothing else.

use lateen_wire::type_url::{CREDENTIAL, DESTINATION, POLICY, PROXY, SERVICE};

use super::*;

const ALL: [(&str, Mode); 5] = [
    (PROXY, Mode::Wildcard),
    (SERVICE, Mode::Wildcard),
    (DESTINATION, Mode::Wildcard),
    (POLICY, Mode::Wildcard),
    (CREDENTIAL, Mode::Wildcard),
];

fn of(type_url: &'static str, name: &str, groups: &[&str]) -> Publish {
    let entry = Entry::new(type_url, name, &name.to_owned());
    Publish::Put(type_url, entry.with_groups(groups.iter().map(|group| (*group).into()).collect()))
}

fn pair_of(group: &str) -> Pair {
    let mut pair = Pair::new(&ALL);
    pair.connect_as(group);
    pair
}

#[test]
fn a_wildcard_yields_only_what_is_the_peers_own() {
    for type_url in [CREDENTIAL, POLICY, DESTINATION, SERVICE, PROXY] {
        for (group, expected) in [("gateway/shop/w", vec!["a", "ab"]), ("gateway/web/w", vec!["ab", "b"])] {
            let mut pair = pair_of(group);
            pair.table.publish([
                of(type_url, "a", &["gateway/shop/w"]),
                of(type_url, "b", &["gateway/web/w"]),
                of(type_url, "ab", &["gateway/shop/w", "gateway/web/w"]),
                of(type_url, "nobody", &[]),
            ]);
            pair.settle();
            assert_eq!(pair.names(type_url), expected, "{type_url} {group}");
        }
        let mut ztunnel = pair_of("node/n1");
        ztunnel.table.publish([of(type_url, "a", &["gateway/shop/w"])]);
        ztunnel.settle();
        assert!(ztunnel.names(type_url).is_empty() && ztunnel.client.is_synced(), "{type_url}");
    }
}

/// Asking by name, claiming to hold it, or naming the group does not help either.
#[test]
fn nothing_of_others_is_to_be_had_by_any_request() {
    let table = Table::new();
    table.publish([of(CREDENTIAL, "shop/key", &["gateway/shop/w"])]);
    for asked in ["shop/key", "gateway/shop/w", "*"] {
        for at_once in [true, false] {
            let mut server = ServerSession::new(Peer { id: String::new(), groups: vec!["gateway/web/w".into()] });
            let first = DeltaDiscoveryRequest {
                type_url: CREDENTIAL.to_owned(),
                resource_names_subscribe: if at_once { vec![asked.to_owned()] } else { Vec::new() },
                initial_resource_versions: [(asked.to_owned(), "0".to_owned())].into(),
                ..DeltaDiscoveryRequest::default()
            };
            let second = DeltaDiscoveryRequest { resource_names_subscribe: vec![asked.to_owned()], ..first.clone() };
            for request in [first, second] {
                table.with(|view| server.request(&request, view)).expect("within limits");
                while let Some(response) = table.with(|view| server.next_response(view)).expect("in the log") {
                    let response = response.decoded().expect("the same message");
                    assert!(response.resources.is_empty(), "{asked}");
                    assert!(response.removed_resources.contains(&asked.to_owned()), "{asked} is told as gone");
                }
            }
        }
    }
}

#[test]
fn what_stops_being_the_peers_own_is_taken_back() {
    let mut pair = pair_of("gateway/shop/w");
    pair.table.publish([of(CREDENTIAL, "key", &["gateway/shop/w"]), of(CREDENTIAL, "other", &["gateway/shop/w"])]);
    pair.settle();
    assert_eq!(pair.names(CREDENTIAL), ["key", "other"]);
    let changed = Entry::new(CREDENTIAL, "key", &"2".to_owned()).with_groups(vec!["gateway/web/w".into()]);
    pair.table.publish([Publish::Put(CREDENTIAL, changed)]);
    pair.settle();
    assert_eq!(pair.names(CREDENTIAL), ["other"]);
    // Also where it happens while the proxy is away.
    let changed = Entry::new(CREDENTIAL, "other", &"2".to_owned()).with_groups(vec!["gateway/web/w".into()]);
    pair.table.publish([Publish::Put(CREDENTIAL, changed)]);
    pair.connect_as("gateway/shop/w");
    pair.settle();
    assert!(pair.names(CREDENTIAL).is_empty());
}

#[test]
fn what_is_named_comes_first_and_leaves_last() {
    let order = |seen: Vec<DeltaDiscoveryResponse>| -> Vec<String> {
        seen.into_iter().map(|response| response.type_url).collect()
    };
    let mut pair = pair_of("g");
    pair.settle();
    let named = [CREDENTIAL, POLICY, DESTINATION, SERVICE, PROXY];
    pair.table.publish(named.iter().rev().map(|type_url| of(type_url, "x", &["g"])));
    assert_eq!(order(pair.settle()), named);
    pair.table.publish(named.iter().map(|type_url| Publish::Remove(type_url, "x".into())));
    let backwards: Vec<&str> = named.into_iter().rev().collect();
    assert_eq!(order(pair.settle()), backwards);
}
