//! lateen-embedded-api
