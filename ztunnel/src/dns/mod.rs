//! DNS for pods: names of the mesh are answered here, everything else goes to the node's own resolvers.
//!
//! In: queries on 15053 in a pod's namespace. Out: answers, forwarded queries, metrics.
//! Absent on purpose: recursion, zones, record types other than A, AAAA and CNAME.

pub mod answer;
pub mod forward;
pub mod message;
mod names;
mod report;
pub mod serve;
#[cfg(test)]
mod tests;
