//! lateen-telemetry
