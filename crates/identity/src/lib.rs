//! lateen-identity
