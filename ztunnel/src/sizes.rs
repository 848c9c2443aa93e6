//! How much memory a connection's task takes while its bytes flow, or nothing does.
//!
//! A future keeps room for the largest of everything it may wait for, all its life. What beginning a connection needs is
//! therefore in boxes that are given back; these bounds find it when some of it slips back in.

#![allow(clippy::print_stdout, reason = "the sizes are worth reading, not only bounding")]

use crate::{inbound, near, outbound};

fn of_three<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

fn of_four<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

/// One of these for each tunnelled connection and side. Half of what a connection may take is the most.
#[test]
fn a_tunnelled_connection_is_small() {
    for (what, size, most) in
        [("outbound", of_three(outbound::handle::handle), 1536), ("inbound", of_three(inbound::handle::handle), 2048)]
    {
        println!("{what}: {size} bytes");
        assert!(size <= most, "{what}: {size} bytes");
    }
}

#[test]
#[allow(clippy::redundant_closure, reason = "the function itself is for any lifetime, a pointer to it for one")]
fn the_others_are_not_large() {
    let near = of_four(|call, plan, there, stream| near::handle::carry(call, plan, there, stream));
    for (what, size, most) in [
        ("same node, both ends", near, 1536),
        ("plain inbound", of_four(inbound::passthrough::handle), 1536),
        ("a tunnel's connection, inbound", of_four(inbound::admit::handle), 6400),
    ] {
        println!("{what}: {size} bytes");
        assert!(size <= most, "{what}: {size} bytes");
    }
}
