//! The server's HTTP side: connections, requests to operations, answers.

pub mod answer;
pub mod handle;
pub mod pods;
pub mod query;
pub mod reviews;
pub mod route;
pub mod serve;
pub mod stream;
pub mod write;
