//! lateen-state
