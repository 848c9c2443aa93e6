//! lateen-lab
