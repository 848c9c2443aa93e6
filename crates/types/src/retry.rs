//! When a request is tried again, in the reference's words.
//!
//! In: the words of a route or of a client. Out: conditions. Absent on purpose: what became of a request.

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one word of the user's list")]
pub struct RetryOn {
    /// `5xx`: such an answer, or none.
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504, or no answer.
    pub gateway_error: bool,
    /// `reset`: no answer.
    pub reset: bool,
    /// `reset-before-request`: no answer, and nothing of the request was sent.
    pub reset_before_request: bool,
    /// `connect-failure`: no connection came about.
    pub connect_failure: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `refused-stream`: HTTP/2 says that nothing was done.
    pub refused_stream: bool,
    /// `retriable-status-codes`.
    pub status_codes: bool,
    /// `retriable-headers`.
    pub headers: bool,
    /// `envoy-ratelimited`.
    pub rate_limited: bool,
}

/// gRPC's statuses that may be tried again.
pub mod grpc {
    /// `cancelled`.
    pub const CANCELLED: u32 = 1;
    /// `deadline-exceeded`.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// `resource-exhausted`.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// `internal`.
    pub const INTERNAL: u32 = 13;
    /// `unavailable`.
    pub const UNAVAILABLE: u32 = 14;
}

impl RetryOn {
    /// Takes up one word; those that speak of gRPC's statuses are added to `statuses`. Whether it is such a word at all.
    pub fn ask(&mut self, word: &str, statuses: &mut Vec<u32>) -> bool {
        match word {
            "5xx" => self.server_error = true,
            "gateway-error" => self.gateway_error = true,
            "reset" => self.reset = true,
            "reset-before-request" => self.reset_before_request = true,
            "connect-failure" => self.connect_failure = true,
            "retriable-4xx" => self.retriable_4xx = true,
            "refused-stream" => self.refused_stream = true,
            "retriable-status-codes" => self.status_codes = true,
            "retriable-headers" => self.headers = true,
            "envoy-ratelimited" => self.rate_limited = true,
            "cancelled" => statuses.push(grpc::CANCELLED),
            "deadline-exceeded" => statuses.push(grpc::DEADLINE_EXCEEDED),
            "resource-exhausted" => statuses.push(grpc::RESOURCE_EXHAUSTED),
            "internal" => statuses.push(grpc::INTERNAL),
            "unavailable" => statuses.push(grpc::UNAVAILABLE),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_up_once() {
        let (mut on, mut statuses) = (RetryOn::default(), Vec::new());
        assert!(on.ask("5xx", &mut statuses) && on.ask("unavailable", &mut statuses));
        assert!(!on.ask("503", &mut statuses) && !on.ask("", &mut statuses));
        assert_eq!((on, statuses), (RetryOn { server_error: true, ..RetryOn::default() }, vec![grpc::UNAVAILABLE]));
    }
}
