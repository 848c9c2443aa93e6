//! The L7 proxy: what comes through its doors is routed, judged, and sent to endpoints it chooses itself.
//!
//! In: tunnels and connections, the control plane's routes and policies, identities. Out: requests and connections, one access
//! record and metrics for each. Absent on purpose: pods' traffic that nobody sent here (see ztunnel).

#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod arrival;
pub mod authorize;
pub mod balance;
pub mod book;
pub mod catalogue;
pub mod config;
pub mod door;
pub mod feed;
pub mod filter;
pub mod greeting;
pub mod http;
pub mod lane;
pub mod listen;
pub mod news;
pub mod pick;
pub mod report;
pub mod request;
pub mod retry;
pub mod rewound;
pub mod route;
pub mod serve;
pub mod tcp;
pub mod told;
pub mod upkeep;
pub mod upstream;
