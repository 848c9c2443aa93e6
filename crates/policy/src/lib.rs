//! lateen-policy
