//! lateen-xds
