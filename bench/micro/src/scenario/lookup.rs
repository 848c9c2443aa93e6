//! Questions to the world.

use std::{hint::black_box, net::IpAddr};

use lateen_state::lookup::Known;
use lateen_types::{addr::NetworkAddress, name::NetworkId};

use super::Operation;
use crate::world;

/// So many addresses are asked for in turn, so that no single place in a table decides.
pub(super) const ADDRESSES: u16 = 64;

pub(super) fn address() -> Operation {
    looking(|at| world::pod(at * 100 + 7), |known| matches!(known, Some(Known::Workload(_))))
}

pub(super) fn vip() -> Operation {
    looking(|at| world::vip(at * 10 + 7), |known| matches!(known, Some(Known::Service(_))))
}

pub(super) fn unknown() -> Operation {
    looking(|at| IpAddr::from([192, 0, 2, u8::try_from(at).expect("few")]), |known| known.is_none())
}

pub(super) fn pod() -> Operation {
    let (world, local) = (world::the(), world::local());
    assert!(world.local_workload(&local).is_some(), "the pod is known");
    Box::new(move || {
        black_box(world.local_workload(black_box(&local)));
    })
}

fn looking(ip: fn(u16) -> IpAddr, is_right: fn(&Option<Known>) -> bool) -> Operation {
    let (world, caller) = (world::the(), "shop".into());
    let of = |at| NetworkAddress { network: NetworkId::default(), ip: ip(at) };
    let addresses: Vec<NetworkAddress> = (0..ADDRESSES).map(of).collect();
    assert!(addresses.iter().all(|address| is_right(&world.known_at(address, &caller))), "not what is to be counted");
    let mut at = 0;
    Box::new(move || {
        at = (at + 1) % addresses.len();
        black_box(world.known_at(black_box(&addresses[at]), &caller));
    })
}
