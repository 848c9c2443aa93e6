//! lateen-net
