//! The mesh's certificate authority.
//!
//! In: signing requests of proven callers. Out: certificates, and the trust anchors every namespace gets.
//! Absent on purpose: discovery. `material` is files, `authority` signs, `residents` says who may ask for whom, `authn`
//! proves callers, `keep` finds or makes the signing key, `anchors` hands out the roots, `service` is the gRPC end.

pub mod anchors;
pub mod authn;
pub mod authority;
pub mod keep;
pub mod material;
pub mod residents;
pub mod service;
