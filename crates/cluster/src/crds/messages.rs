//! What lies inside of the kinds of [`super::later`], message by message.
//!
//! In: the table below. Out: the fields of a message. The names are those of the reference's API, so that whatever its
//! definitions accept, ours do.

/// A message and its fields, `name:type`. Types are words of [`super::later`], or a message as `M`, a list of them as
/// `[M]`, a map to them as `{M}`.
const TABLE: &[(&str, &str)] = &[
    // Shared.
    ("Selector", "matchLabels:map"),
    ("LabelsSelector", "labels:map"),
    ("Target", "group:text kind:text name:text namespace:text"),
    ("Port", "number:integer protocol:text name:text targetPort:integer"),
    ("PortNumber", "number:integer"),
    ("Percent", "value:number"),
    ("Text", "exact:text prefix:text regex:text"),
    // VirtualService.
    (
        "HttpRoute",
        "name:text match:[HttpMatch] route:[HttpTarget] redirect:Redirect directResponse:DirectResponse \
         delegate:Delegate rewrite:Rewrite timeout:text retries:Retries fault:Fault mirror:Destination \
         mirrors:[Mirror] mirrorPercent:integer mirror_percent:integer mirrorPercentage:Percent corsPolicy:Cors \
         headers:Headers",
    ),
    (
        "HttpMatch",
        "name:text uri:Text scheme:Text method:Text authority:Text headers:{Text} port:integer sourceLabels:map \
         gateways:texts queryParams:{Text} ignoreUriCase:flag withoutHeaders:{Text} sourceNamespace:text \
         statPrefix:text",
    ),
    ("HttpTarget", "destination:Destination weight:integer headers:Headers"),
    ("Destination", "host:text subset:text port:PortNumber"),
    ("Headers", "request:HeaderEdits response:HeaderEdits"),
    ("HeaderEdits", "set:map add:map remove:texts"),
    (
        "Redirect",
        "uri:text prefixRewrite:text authority:text port:integer \
         derivePort:one(FROM_PROTOCOL_DEFAULT,FROM_REQUEST_PORT) scheme:text redirectCode:integer",
    ),
    ("DirectResponse", "status:integer body:Body"),
    ("Body", "string:text bytes:text"),
    ("Delegate", "name:text namespace:text"),
    ("Rewrite", "uri:text authority:text uriRegexRewrite:RegexRewrite"),
    ("RegexRewrite", "match:text rewrite:text"),
    (
        "Retries",
        "attempts:integer perTryTimeout:text retryOn:text retryRemoteLocalities:flag retryIgnorePreviousHosts:flag \
         backoff:text",
    ),
    ("Fault", "delay:Delay abort:Abort"),
    ("Delay", "percent:integer fixedDelay:text exponentialDelay:text percentage:Percent"),
    ("Abort", "httpStatus:integer grpcStatus:text http2Error:text percentage:Percent"),
    ("Mirror", "destination:Destination percentage:Percent"),
    (
        "Cors",
        "allowOrigin:texts allowOrigins:[Text] allowMethods:texts allowHeaders:texts exposeHeaders:texts maxAge:text \
         allowCredentials:flag unmatchedPreflights:one(UNSPECIFIED,FORWARD,IGNORE)",
    ),
    ("TlsRoute", "match:[TlsMatch] route:[Target4]"),
    (
        "TlsMatch",
        "sniHosts:texts destinationSubnets:texts port:integer sourceLabels:map gateways:texts sourceNamespace:text",
    ),
    ("TcpRoute", "match:[TcpMatch] route:[Target4]"),
    (
        "TcpMatch",
        "destinationSubnets:texts port:integer sourceSubnet:text sourceLabels:map gateways:texts sourceNamespace:text",
    ),
    ("Target4", "destination:Destination weight:integer"),
    // DestinationRule.
    (
        "TrafficPolicy",
        "loadBalancer:LoadBalancer connectionPool:ConnectionPool outlierDetection:OutlierDetection tls:ClientTls \
         portLevelSettings:[PortPolicy] tunnel:Tunnel proxyProtocol:ProxyProtocol retryBudget:RetryBudget",
    ),
    (
        "PortPolicy",
        "port:PortNumber loadBalancer:LoadBalancer connectionPool:ConnectionPool outlierDetection:OutlierDetection \
         tls:ClientTls",
    ),
    ("Subset", "name:text labels:map trafficPolicy:TrafficPolicy"),
    (
        "LoadBalancer",
        "simple:one(UNSPECIFIED,LEAST_CONN,RANDOM,PASSTHROUGH,ROUND_ROBIN,LEAST_REQUEST) \
         consistentHash:ConsistentHash localityLbSetting:Locality zoneAwareLbSetting:ZoneAware warmup:Warmup \
         warmupDurationSecs:text",
    ),
    (
        "ConsistentHash",
        "httpHeaderName:text httpCookie:Cookie useSourceIp:flag httpQueryParameterName:text ringHash:RingHash \
         maglev:Maglev minimumRingSize:integer",
    ),
    ("Cookie", "name:text path:text ttl:text attributes:[CookieAttribute]"),
    ("CookieAttribute", "name:text value:text"),
    ("RingHash", "minimumRingSize:integer"),
    ("Maglev", "tableSize:integer"),
    ("Locality", "enabled:flag distribute:[Distribute] failover:[Failover] failoverPriority:texts"),
    ("Distribute", "from:text to:{integer}"),
    ("Failover", "from:text to:text"),
    ("ZoneAware", "enabled:flag failover:[Failover] failoverPriority:texts minClusterSize:integer"),
    ("Warmup", "duration:text minimumPercent:number aggression:number"),
    ("ConnectionPool", "tcp:TcpPool http:HttpPool"),
    (
        "TcpPool",
        "maxConnections:integer connectTimeout:text tcpKeepalive:KeepAlive maxConnectionDuration:text idleTimeout:text",
    ),
    ("KeepAlive", "probes:integer time:text interval:text"),
    (
        "HttpPool",
        "http1MaxPendingRequests:integer http2MaxRequests:integer maxRequestsPerConnection:integer \
         maxRetries:integer idleTimeout:text h2UpgradePolicy:one(DEFAULT,DO_NOT_UPGRADE,UPGRADE) \
         useClientProtocol:flag maxConcurrentStreams:integer http2KeepAlive:Pings",
    ),
    ("Pings", "interval:text timeout:text"),
    (
        "OutlierDetection",
        "consecutiveErrors:integer splitExternalLocalOriginErrors:flag consecutiveLocalOriginFailures:integer \
         consecutiveGatewayErrors:integer consecutive5xxErrors:integer interval:text baseEjectionTime:text \
         maxEjectionPercent:integer minHealthPercent:integer outlierDetectionHttpErrorCodes:integers",
    ),
    (
        "ClientTls",
        "mode:one(DISABLE,SIMPLE,MUTUAL,ISTIO_MUTUAL) clientCertificate:text privateKey:text caCertificates:text \
         credentialName:text subjectAltNames:texts sni:text insecureSkipVerify:flag caCrl:text",
    ),
    ("Tunnel", "protocol:text targetHost:text targetPort:integer"),
    ("ProxyProtocol", "version:one(V1,V2)"),
    ("RetryBudget", "percent:number minRetryConcurrency:integer budgetInterval:text"),
    // Gateway, Sidecar.
    ("Server", "port:Port bind:text hosts:texts tls:ServerTls defaultEndpoint:text name:text"),
    (
        "ServerTls",
        "httpsRedirect:flag \
         mode:one(PASSTHROUGH,SIMPLE,MUTUAL,AUTO_PASSTHROUGH,ISTIO_MUTUAL,OPTIONAL_MUTUAL) serverCertificate:text \
         privateKey:text caCertificates:text caCrl:text credentialName:text credentialNames:texts \
         caCertCredentialName:text tlsCertificates:[Certificate] subjectAltNames:texts verifyCertificateSpki:texts \
         verifyCertificateHash:texts minProtocolVersion:one(TLS_AUTO,TLSV1_0,TLSV1_1,TLSV1_2,TLSV1_3) \
         maxProtocolVersion:one(TLS_AUTO,TLSV1_0,TLSV1_1,TLSV1_2,TLSV1_3) cipherSuites:texts insecureSkipVerify:flag",
    ),
    ("Certificate", "serverCertificate:text privateKey:text caCertificates:text"),
    (
        "SidecarIngress",
        "port:Port bind:text captureMode:one(DEFAULT,IPTABLES,NONE) defaultEndpoint:text tls:ServerTls \
         connectionPool:ConnectionPool",
    ),
    ("SidecarEgress", "port:Port bind:text captureMode:one(DEFAULT,IPTABLES,NONE) hosts:texts"),
    ("Outbound", "mode:one(REGISTRY_ONLY,ALLOW_ANY,ALLOW_ANY_DYNAMIC_DNS) egressProxy:Destination"),
    // WorkloadGroup.
    ("GroupMetadata", "labels:map annotations:map"),
    (
        "GroupTemplate",
        "address:text ports:{integer} labels:map network:text locality:text weight:integer serviceAccount:text",
    ),
    (
        "Probe",
        "initialDelaySeconds:integer timeoutSeconds:integer periodSeconds:integer successThreshold:integer \
         failureThreshold:integer httpGet:HttpProbe tcpSocket:TcpProbe exec:ExecProbe grpc:GrpcProbe",
    ),
    ("HttpProbe", "path:text port:integer host:text scheme:text httpHeaders:[ProbeHeader]"),
    ("ProbeHeader", "name:text value:text"),
    ("TcpProbe", "host:text port:integer"),
    ("ExecProbe", "command:texts"),
    ("GrpcProbe", "port:integer service:text"),
    // ProxyConfig.
    ("Image", "imageType:text"),
    // RequestAuthentication.
    (
        "JwtRule",
        "issuer:text audiences:texts jwksUri:text jwks_uri:text jwks:text fromHeaders:[JwtHeader] fromParams:texts \
         fromCookies:texts outputPayloadToHeader:text forwardOriginalToken:flag outputClaimToHeaders:[ClaimHeader] \
         timeout:text spaceDelimitedClaims:texts",
    ),
    ("JwtHeader", "name:text prefix:text"),
    ("ClaimHeader", "header:text claim:text"),
    // Telemetry.
    (
        "Tracing",
        "match:TelemetryMatch providers:[ProviderName] randomSamplingPercentage:number disableSpanReporting:flag \
         disableContextPropagation:flag customTags:{CustomTag} useRequestIdForTraceSampling:flag enableIstioTags:flag",
    ),
    ("TelemetryMatch", "mode:one(CLIENT_AND_SERVER,CLIENT,SERVER)"),
    ("ProviderName", "name:text"),
    ("CustomTag", "literal:LiteralTag environment:NamedTag header:NamedTag formatter:LiteralTag"),
    ("LiteralTag", "value:text"),
    ("NamedTag", "name:text defaultValue:text"),
    ("Metrics", "providers:[ProviderName] overrides:[MetricOverride] reportingInterval:text"),
    ("MetricOverride", "match:MetricMatch disabled:flag tagOverrides:{TagOverride}"),
    (
        "MetricMatch",
        "mode:one(CLIENT_AND_SERVER,CLIENT,SERVER) \
         metric:one(ALL_METRICS,REQUEST_COUNT,REQUEST_DURATION,REQUEST_SIZE,RESPONSE_SIZE,TCP_OPENED_CONNECTIONS,\
         TCP_CLOSED_CONNECTIONS,TCP_SENT_BYTES,TCP_RECEIVED_BYTES,GRPC_REQUEST_MESSAGES,GRPC_RESPONSE_MESSAGES) \
         customMetric:text",
    ),
    ("TagOverride", "operation:one(UPSERT,REMOVE) value:text"),
    ("AccessLogging", "match:TelemetryMatch providers:[ProviderName] disabled:flag filter:LogFilter"),
    ("LogFilter", "expression:text"),
    // Extensions.
    ("TrafficSelector", "mode:one(UNDEFINED,CLIENT,SERVER,CLIENT_AND_SERVER) ports:[PortNumber]"),
    (
        "Wasm",
        "url:text sha256:text imagePullPolicy:one(UNSPECIFIED_POLICY,IfNotPresent,Always) imagePullSecret:text \
         verificationKey:text pluginConfig:object pluginName:text \
         failStrategy:one(FAIL_CLOSE,FAIL_OPEN,FAIL_RELOAD) vmConfig:VmConfig \
         type:one(UNSPECIFIED_PLUGIN_TYPE,HTTP,NETWORK)",
    ),
    ("VmConfig", "env:[VmVariable]"),
    ("VmVariable", "name:text value:text valueFrom:one(INLINE,HOST)"),
    ("Lua", "inlineCode:text"),
    // EnvoyFilter: patches of what does not exist here; only their frame is looked at.
    (
        "EnvoyPatch",
        "applyTo:one(INVALID,LISTENER,FILTER_CHAIN,NETWORK_FILTER,HTTP_FILTER,ROUTE_CONFIGURATION,VIRTUAL_HOST,\
         HTTP_ROUTE,CLUSTER,EXTENSION_CONFIG,BOOTSTRAP,LISTENER_FILTER) match:object patch:EnvoyChange",
    ),
    (
        "EnvoyChange",
        "operation:one(INVALID,MERGE,ADD,REMOVE,INSERT_BEFORE,INSERT_AFTER,INSERT_FIRST,REPLACE,\
         MERGE_AND_REPLACE_LIST) value:object filterClass:one(UNSPECIFIED,AUTHN,AUTHZ,STATS)",
    ),
];

/// The fields of a message.
pub(super) fn fields_of(message: &str) -> Option<&'static str> {
    TABLE.iter().find(|(name, _)| *name == message).map(|(_, fields)| *fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word that is neither a type nor a message would become an object without fields, which refuses everything.
    #[test]
    fn every_message_that_is_named_is_there() {
        let words = ["text", "texts", "integer", "integers", "number", "flag", "map", "object"];
        for (name, fields) in TABLE {
            for field in fields.split_whitespace() {
                let (_, kind) = field.split_once(':').expect("name:type");
                let inner = kind.trim_matches(|c| "[]{}".contains(c));
                let known = words.contains(&inner) || inner.starts_with("one(") || fields_of(inner).is_some();
                assert!(known, "{name}.{field}");
            }
        }
    }
}
