//! lateen-tests
