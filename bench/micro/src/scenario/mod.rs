//! What is counted. Each scenario is one operation as the data path does it, on values that are always the same.
//!
//! In: nothing. Out: [`ALL`]. Every scenario makes sure, before it is counted, that the operation does what its name says.

mod connect;
mod decide;
mod lookup;
mod plan;
mod record;
mod tls;
mod tunnel;

pub(crate) use decide::from;

/// An operation, to be done again and again.
pub type Operation = Box<dyn FnMut()>;

/// One thing that is counted.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name in tables and budgets.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Makes everything that the operation needs.
    pub prepare: fn() -> Operation,
}

const fn scenario(name: &'static str, what: &'static str, prepare: fn() -> Operation) -> Scenario {
    Scenario { name, what, prepare }
}

/// All of them, in the order they are done.
pub const ALL: &[Scenario] = &[
    scenario(
        "decide.allow.few",
        "verdict: a DENY that misses, an ALLOW whose last of 3 rules admits",
        decide::allow_few,
    ),
    scenario("decide.allow.many", "verdict: the last of 500 rules in 20 ALLOW policies admits", decide::allow_many),
    scenario("decide.deny.few", "verdict: a DENY matches", decide::deny_few),
    scenario("decide.none.many", "verdict: none of 500 rules admits", decide::none_many),
    scenario("verdict.world", "policies of a local workload found in the world, and the verdict", decide::of_the_world),
    scenario("lookup.address", "a workload by address, in a world of 10,000", lookup::address),
    scenario("lookup.vip", "a service by address, among 1,000", lookup::vip),
    scenario("lookup.unknown", "an address that nobody has", lookup::unknown),
    scenario("lookup.pod", "a local workload by the agent's words", lookup::pod),
    scenario("plan.unknown", "outbound plan: an address outside the mesh", plan::unknown),
    scenario("plan.address", "outbound plan: a tunnel to a pod by its address", plan::address),
    scenario("plan.service", "outbound plan: a service with 10 endpoints", plan::service),
    scenario("plan.service.big", "outbound plan: a service with 200 endpoints", plan::service_big),
    scenario("plan.waypoint", "outbound plan: a service behind a waypoint", plan::waypoint),
    scenario("connect.encode", "a CONNECT's values made into a request", connect::encode),
    scenario("connect.decode", "a CONNECT's request read", connect::decode),
    scenario(
        "tunnel.connect",
        "a CONNECT over HTTP/2 in memory, both ends, with its answer and its end",
        tunnel::connect,
    ),
    scenario("tunnel.echo", "128 bytes through an open tunnel and back, both ends", tunnel::echo),
    scenario("record.plain", "an access record made, and made into a plain line", record::plain),
    scenario("record.json", "an access record made, and made into a JSON line", record::json),
    scenario("report", "a connection counted as opened and closed, its record not wanted", record::report),
    scenario("tls.seal", "16 KB sealed into a record and handed to the socket", tls::seal),
    scenario("tls.open", "a record of 16 KB opened and handed on", tls::open),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each proves by itself that it does what its name says.
    #[test]
    fn every_scenario_works() {
        for scenario in ALL {
            let mut operation = (scenario.prepare)();
            (0..3).for_each(|_| operation());
        }
    }
}
