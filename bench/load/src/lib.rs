//! The load of the bench: a server and clients that cost little, each one thread on one epoll.
//!
//! In: a job on the command line, then lines on standard input (`report`; its end is ours). Out: `ready` once the job
//! runs, then one JSON [`report::Report`] per asked line. Whoever measures decides when a window begins and ends; counts
//! only grow, so that any two reports bound a window.
//! A proxy of connections sees bytes, so requests and replies are so many bytes each; for a proxy of requests they are HTTP/1.1
//! ([`talk`]). A server's port says how it behaves ([`server::Door`]). Absent on purpose: other protocols.

// The reports are the product.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};

mod control;
mod handshakes;
pub mod histogram;
mod open;
mod reactor;
pub mod report;
mod request;
mod schedule;
pub mod server;
mod socket;
mod stream;
mod talk;
mod tunnels;

/// Bytes of one request.
pub const REQUEST: usize = 128;
/// Bytes of one reply.
pub const REPLY: usize = 256;

#[derive(Debug, Parser)]
#[command(name = "lateen-load", version)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Serve on PORT (reads), +1 (writes), +2 (replies), +3 (replies once and closes), +4 (HTTP/1.1)
    Serve {
        /// The first port
        port: u16,
    },
    /// Bulk data over some connections
    Stream {
        /// The server's address and first port
        to: SocketAddr,
        /// How many connections
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// Which way the bytes go
        #[arg(long, value_enum, default_value = "up")]
        direction: stream::Direction,
    },
    /// Requests on connections that stay
    Request {
        /// The server's address and first port
        to: SocketAddr,
        /// How many connections
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Requests a second, all connections together; without it as many as possible
        #[arg(long)]
        rate: Option<f64>,
        #[command(flatten)]
        speech: talk::Speech,
    },
    /// A new connection for every request
    Connect {
        /// The server's address and first port
        to: SocketAddr,
        /// How many at once, where no rate is given
        #[arg(long, default_value_t = 32)]
        connections: usize,
        /// Connections a second; without it as many as possible
        #[arg(long)]
        rate: Option<f64>,
    },
    /// TLS handshakes in memory, mutual as between two of our ztunnels: what the post-quantum key exchange costs
    Handshakes {
        /// How many of each kind
        #[arg(long, default_value_t = 300)]
        count: u32,
    },
    /// Connections that are opened, used once, and then held
    Hold {
        /// The server's address and first port
        to: SocketAddr,
        /// How many
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        #[command(flatten)]
        speech: talk::Speech,
    },
    /// What stands in for ztunnels around a proxy: plain connections into tunnels, tunnels into plain connections
    Tunnels(tunnels::Ends),
}

/// Parses argv and does the job until standard input ends.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let done = socket::prepare().and_then(|()| match arguments.job {
        Job::Serve { port } => server::run(port),
        Job::Stream { to, connections, direction } => stream::run(to, connections, direction),
        Job::Request { to, connections, rate, speech } => {
            talk::Talk::of(&speech).and_then(|talk| request::run((to, &talk), connections, rate))
        }
        Job::Connect { to, connections, rate } => {
            open::run((to, &talk::Talk::Bytes), open::Pace::renewing(connections, rate))
        }
        Job::Handshakes { count } => handshakes::run(count),
        Job::Hold { to, connections, speech } => {
            talk::Talk::of(&speech).and_then(|talk| open::run((to, &talk), open::Pace::holding(connections)))
        }
        Job::Tunnels(ends) => tunnels::run(&ends),
    });
    done.map_or_else(
        |error| {
            eprintln!("lateen-load: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
