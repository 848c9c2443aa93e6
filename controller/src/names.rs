//! Every metric of the controller. The only labels are `xds_type`, `reason` and `outcome`, and those are closed sets.

use lateen_telemetry::metrics::{Description, Kind};

/// Signing requests received.
pub const CSR_COUNT: &str = "citadel_server_csr_count";
/// Certificates given out.
pub const CERTIFICATES_ISSUED: &str = "citadel_server_success_cert_issuance_count";
/// Signing requests that could not be read.
pub const CSR_PARSE_ERRORS: &str = "citadel_server_csr_parsing_err_count";
/// Signing requests that could not be signed.
pub const CSR_SIGN_ERRORS: &str = "citadel_server_csr_sign_err_count";
/// Callers of the CA that were refused.
pub const CA_AUTHENTICATION_FAILURES: &str = "citadel_server_authentication_failure_count";
/// When the way to the root ends, seconds since 1970.
pub const ROOT_EXPIRY: &str = "citadel_server_root_cert_expiry_timestamp";
/// Discovery streams refused, by `reason`.
pub const XDS_REFUSED: &str = "lateen_xds_refused_streams";
/// Proxies connected.
pub const XDS_CONNECTED: &str = "pilot_xds";
/// Batches of changes published.
pub const PUSHES: &str = "pilot_xds_pushes";
/// Answers that proxies rejected, by `xds_type`.
pub const REJECTS: &str = "pilot_total_xds_rejects";
/// From the first change of a batch until it is published.
pub const DEBOUNCE: &str = "pilot_debounce_time";
/// From taking a batch until it is published.
pub const DERIVE: &str = "lateen_controller_derive_seconds";
/// Policies whose status could not be written.
pub const STATUS_ERRORS: &str = "lateen_controller_status_write_errors";
/// Objects judged for the API server, by `outcome`: allowed, refused, unreadable.
pub const ADMISSION: &str = "lateen_admission_reviews";

const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0];

/// The table given to the registry.
pub const TABLE: [Description; 14] = [
    counter(CSR_COUNT, "Signing requests received"),
    counter(CERTIFICATES_ISSUED, "Certificates given out"),
    counter(CSR_PARSE_ERRORS, "Signing requests that could not be read"),
    counter(CSR_SIGN_ERRORS, "Signing requests that could not be signed"),
    counter(CA_AUTHENTICATION_FAILURES, "Callers of the CA that were refused"),
    gauge(ROOT_EXPIRY, "When the way from the signing certificate to its root ends, in seconds since 1970"),
    counter(XDS_REFUSED, "Discovery streams refused, by reason"),
    gauge(XDS_CONNECTED, "Proxies connected"),
    counter(PUSHES, "Batches of changes published"),
    counter(REJECTS, "Answers that proxies rejected, by xds_type"),
    histogram(DEBOUNCE, "From the first change of a batch until it is published, in seconds"),
    histogram(DERIVE, "From taking a batch of changes until it is published, in seconds"),
    counter(STATUS_ERRORS, "Status conditions that could not be written"),
    counter(ADMISSION, "Objects judged for the API server, by outcome"),
];

const fn counter(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: None, help, buckets: &[] }
}

const fn gauge(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit: None, help, buckets: &[] }
}

const fn histogram(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Histogram, unit: None, help, buckets: SECONDS }
}

/// The short name of a type, so that a client cannot make label values up.
pub fn xds_type(type_url: &str) -> &'static str {
    match type_url {
        lateen_wire::type_url::ADDRESS => "address",
        lateen_wire::type_url::WORKLOAD => "workload",
        lateen_wire::type_url::AUTHORIZATION => "authorization",
        _ => "other",
    }
}
