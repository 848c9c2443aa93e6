//! The fields that do not do what they say.

use super::Standing::{self, Ignored, Refused};

/// A field of some kinds, by the end of its path.
pub(super) struct Exception {
    pub(super) kinds: &'static [&'static str],
    pub(super) path: &'static str,
    pub(super) standing: Standing,
}

const fn field(kinds: &'static [&'static str], path: &'static str, standing: Standing) -> Exception {
    Exception { kinds, path, standing }
}

const ROUTES: &[&str] = &["VirtualService"];
const RULES: &[&str] = &["DestinationRule"];
const OF_REQUESTS: &[&str] = &["HTTPRoute", "GRPCRoute"];
const OF_CONNECTIONS: &[&str] = &["TLSRoute", "TCPRoute"];
const GATEWAYS: &[&str] = &["Gateway"];

const CLIENT: Standing = Ignored(
    "a waypoint decides routes for all clients alike, so a match that asks who the client is never holds there, unless \
     gateways stands beside it",
);
const FILE: Standing =
    Refused("proxies hold no files of yours, and requests are answered with 503; name a Secret in credentialName");
const SERVER_FILE: Standing =
    Refused("gateways hold no files of yours, and the server is not listened on; name a Secret in credentialName");
pub(super) const EXCEPTIONS: &[Exception] = &[
    field(ROUTES, "match[].sourceLabels", CLIENT),
    field(
        ROUTES,
        "match[].sourceNamespace",
        Ignored("it is compared with the waypoint's own namespace, as in the reference; use an AuthorizationPolicy"),
    ),
    field(ROUTES, "match[].sourceSubnet", CLIENT),
    field(ROUTES, "match[].statPrefix", Ignored("it names metrics of a proxy that this mesh does not have")),
    field(ROUTES, "fault.delay.exponentialDelay", Refused("write fixedDelay")),
    field(ROUTES, "fault.abort.http2Error", Refused("write httpStatus or grpcStatus")),
    field(RULES, "tls.clientCertificate", FILE),
    field(RULES, "tls.privateKey", FILE),
    field(RULES, "tls.caCertificates", FILE),
    field(RULES, "tls.caCrl", FILE),
    field(
        RULES,
        "loadBalancer.zoneAwareLbSetting",
        Ignored(
            "a waypoint prefers what is near where endpoints are ejected, and does not weigh zones, as in the reference",
        ),
    ),
    field(
        RULES,
        "outlierDetection.consecutiveErrors",
        Ignored("the reference has taken it away; write consecutive5xxErrors or consecutiveGatewayErrors"),
    ),
    field(RULES, "retryBudget.budgetInterval", Ignored("what is under way at the moment counts")),
    field(
        OF_REQUESTS,
        "rules[].sessionPersistence.idleTimeout",
        Refused("the route is not accepted, since a session would outlast it; write absoluteTimeout"),
    ),
    field(
        OF_REQUESTS,
        "filters[].extensionRef",
        Refused("the route is not accepted, since nothing extends proxies yet"),
    ),
    field(&["HTTPRoute"], "filters[].externalAuth", Refused("the route is not accepted; use an AuthorizationPolicy")),
    field(
        &["HTTPRoute"],
        "backendRefs[].filters[].requestMirror",
        Refused("the route is not accepted; write the filter on the rule"),
    ),
    field(&["HTTPRoute"], "backendRefs[].filters[].cors", Refused("the route is not accepted; write it on the rule")),
    field(&["HTTPRoute"], "rules[].retry.budget", Ignored("use retryBudget of a DestinationRule")),
    field(
        GATEWAYS,
        "servers[].bind",
        Refused("the server is not listened on; a gateway listens on every address of its pod"),
    ),
    field(GATEWAYS, "servers[].defaultEndpoint", Ignored("what is listened on is routed by VirtualServices")),
    field(GATEWAYS, "servers[].tls.serverCertificate", SERVER_FILE),
    field(GATEWAYS, "servers[].tls.privateKey", SERVER_FILE),
    field(GATEWAYS, "servers[].tls.caCertificates", SERVER_FILE),
    field(GATEWAYS, "servers[].tls.caCrl", SERVER_FILE),
    field(GATEWAYS, "servers[].tls.tlsCertificates", SERVER_FILE),
    field(
        GATEWAYS,
        "allowedListeners",
        Refused("ListenerSets are not read, and nothing is listened on by them; write their listeners here"),
    ),
    field(GATEWAYS, "defaultScope", Refused("routes name the Gateways they are attached to")),
    field(
        OF_CONNECTIONS,
        "rules[].backendRefs[].filters",
        Ignored("connections are carried as they are; there is nothing to change in them"),
    ),
];
