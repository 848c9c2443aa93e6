//! The validating webhook: nonsense is refused when it is applied, in the words of `lateen validate`.
//!
//! In: the API server's questions over HTTPS. Out: allowed or not, with every field, reason and mend.
//! `review` judges and is pure; `serve` speaks; `register` makes the API server ask, and fail closed once that works.

pub mod register;
mod review;
pub mod serve;
