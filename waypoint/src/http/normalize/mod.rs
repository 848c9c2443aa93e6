//! A request is made unambiguous once, before anything looks at it.
//!
//! In: the target and the headers as they came, the proxy's options. Out: what is matched, judged and sent on; or why the
//! request is refused. Absent on purpose: framing and the authority (which other rooms of `http` see to).

pub mod client;
pub mod headers;
pub mod outside;
pub mod path;

pub use client::remote_address;
pub use headers::{BadHeader, drop_underscores, forwarded_client};
pub use outside::from_outside;
pub use path::{BadPath, Cleaned, PathRules, clean_path};
