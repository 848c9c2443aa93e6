//! Response flags: what was unusual about an answer.
//!
//! In: the short words that the rooms give. Out: the long words, and a number for each set of them.

/// Short and long.
const ALL: [(&str, &str); 28] = [
    ("UH", "NoHealthyUpstream"),
    ("UF", "UpstreamConnectionFailure"),
    ("UO", "UpstreamOverflow"),
    ("NR", "NoRouteFound"),
    ("NC", "NoClusterFound"),
    ("URX", "UpstreamRetryLimitExceeded"),
    ("DT", "DurationTimeout"),
    ("DC", "DownstreamConnectionTermination"),
    ("LH", "FailedLocalHealthCheck"),
    ("UT", "UpstreamRequestTimeout"),
    ("LR", "LocalReset"),
    ("UR", "UpstreamRemoteReset"),
    ("UC", "UpstreamConnectionTermination"),
    ("DI", "DelayInjected"),
    ("FI", "FaultInjected"),
    ("RL", "RateLimited"),
    ("UAEX", "UnauthorizedExternalService"),
    ("RLSE", "RateLimitServiceError"),
    ("IH", "InvalidEnvoyRequestHeaders"),
    ("SI", "StreamIdleTimeout"),
    ("DPE", "DownstreamProtocolError"),
    ("UPE", "UpstreamProtocolError"),
    ("UMSDR", "UpstreamMaxStreamDurationReached"),
    ("OM", "OverloadManagerTerminated"),
    ("DF", "DnsResolutionFailed"),
    ("DR", "DownstreamRemoteReset"),
    ("DO", "DropOverload"),
    ("NFCF", "NoFilterConfigFound"),
];

/// The long word; a word that is none of ours is its own.
pub(super) fn long(short: &'static str) -> &'static str {
    ALL.iter().find(|(one, _)| *one == short).map_or(short, |(_, long)| long)
}

/// A number for a set of flags, whatever their order.
pub(super) fn bits(flags: &[&str]) -> u32 {
    flags.iter().filter_map(|flag| ALL.iter().position(|(short, _)| short == flag)).fold(0, |all, at| all | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_long_words_and_numbers() {
        assert_eq!(long("UF"), "UpstreamConnectionFailure");
        assert_eq!(bits(&[]), 0);
        assert_eq!(bits(&["UF", "URX"]), bits(&["URX", "UF"]));
        assert_ne!(bits(&["UF"]), bits(&["UH"]));
        let all: Vec<&str> = ALL.iter().map(|(short, _)| *short).collect();
        assert_eq!(bits(&all).count_ones() as usize, ALL.len());
    }
}
