//! Sending to endpoints. `health` is pure: who is ejected, and what limits allow.

pub mod health;
