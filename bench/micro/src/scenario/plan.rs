//! Where an outbound connection goes.

use std::{
    hint::black_box,
    net::{IpAddr, SocketAddr},
};

use lateen_types::name::NetworkId;
use lateen_ztunnel::{
    near::neighbours::Nobody,
    outbound::plan::{Ask, Route, To, plan},
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::{Operation, lookup::ADDRESSES};
use crate::world;

pub(super) fn unknown() -> Operation {
    planning(|at| IpAddr::from([192, 0, 2, u8::try_from(at).expect("few")]), |route| matches!(route, Route::Plain(_)))
}

pub(super) fn address() -> Operation {
    planning(|at| world::pod(at * 100 + 7), |route| matches!(route, Route::Tunnel(_)))
}

pub(super) fn service() -> Operation {
    planning(|at| world::vip(at * 10 + 7), |route| matches!(route, Route::Tunnel(_)))
}

pub(super) fn service_big() -> Operation {
    planning(|_| world::big(), |route| matches!(route, Route::Tunnel(_)))
}

pub(super) fn waypoint() -> Operation {
    let is_right = |route: &Route| match route {
        Route::Tunnel(hop) => matches!(hop.to, To::Addr(to) if to.ip() == world::pod(1)),
        _ => false,
    };
    planning(|_| world::behind_a_waypoint(), is_right)
}

fn planning(ip: fn(u16) -> IpAddr, is_right: fn(&Route) -> bool) -> Operation {
    let (world, network) = (world::the(), NetworkId::default());
    let source = world.local_workload(&world::local()).expect("in the world").clone();
    let dialled: Vec<SocketAddr> = (0..ADDRESSES).map(|at| SocketAddr::new(ip(at), world::SERVICE_PORT)).collect();
    // The generator that connections use too; seeded, so that the same endpoints are drawn in every run.
    let mut random = StdRng::seed_from_u64(7);
    let mut plan_for = move |dialled| {
        let ask = Ask {
            world: &world,
            own_network: &network,
            source: &source,
            client: world::pod(0),
            dialled,
            illegal_ports: &[15001, 15006, 15008],
            neighbours: &Nobody,
        };
        plan(black_box(&ask), &mut random)
    };
    let first = plan_for(dialled[0]).expect("a plan");
    assert!(is_right(&first.route), "not the plan that is to be counted: {first:?}");
    let mut at = 0;
    Box::new(move || {
        at = (at + 1) % dialled.len();
        black_box(plan_for(dialled[at])).ok();
    })
}
