//! Regular expressions, by the rules of [`lateen_policy::patterns`], which the controller refuses by.

pub use lateen_policy::patterns::{PatternError, searching, whole, whole_set};
