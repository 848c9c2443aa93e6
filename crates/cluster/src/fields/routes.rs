//! The fields of the Gateway API's kinds, whose definitions are not ours.

pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// Kind, and the paths of its fields.
pub(super) const PATHS: &[(&str, &str)] = &[
    (
        "HTTPRoute",
        "parentRefs[].group parentRefs[].kind parentRefs[].namespace parentRefs[].name parentRefs[].sectionName \
         parentRefs[].port hostnames rules[].name rules[].matches[].path rules[].matches[].headers \
         rules[].matches[].queryParams rules[].matches[].method rules[].filters[].requestHeaderModifier \
         rules[].filters[].responseHeaderModifier rules[].filters[].requestRedirect rules[].filters[].urlRewrite \
         rules[].filters[].requestMirror rules[].filters[].cors rules[].filters[].externalAuth \
         rules[].filters[].extensionRef rules[].backendRefs[].group rules[].backendRefs[].kind \
         rules[].backendRefs[].namespace rules[].backendRefs[].name rules[].backendRefs[].port \
         rules[].backendRefs[].weight rules[].backendRefs[].filters[].requestHeaderModifier \
         rules[].backendRefs[].filters[].responseHeaderModifier rules[].backendRefs[].filters[].requestRedirect \
         rules[].backendRefs[].filters[].urlRewrite rules[].backendRefs[].filters[].requestMirror \
         rules[].backendRefs[].filters[].cors rules[].timeouts.request rules[].timeouts.backendRequest \
         rules[].retry.codes rules[].retry.attempts rules[].retry.backoff rules[].retry.budget \
         rules[].sessionPersistence.type rules[].sessionPersistence.sessionName \
         rules[].sessionPersistence.absoluteTimeout rules[].sessionPersistence.idleTimeout \
         rules[].sessionPersistence.cookieConfig.lifetimeType rules[].sessionPersistence.cookie.name \
         rules[].sessionPersistence.cookie.path rules[].sessionPersistence.cookie.lifetimeType \
         rules[].sessionPersistence.header.name",
    ),
    (
        "GRPCRoute",
        "parentRefs[].group parentRefs[].kind parentRefs[].namespace parentRefs[].name parentRefs[].sectionName \
         parentRefs[].port hostnames rules[].name rules[].matches[].method rules[].matches[].headers \
         rules[].filters[].requestHeaderModifier rules[].filters[].responseHeaderModifier \
         rules[].filters[].requestMirror rules[].filters[].extensionRef rules[].backendRefs[].group \
         rules[].backendRefs[].kind rules[].backendRefs[].namespace rules[].backendRefs[].name \
         rules[].backendRefs[].port rules[].backendRefs[].weight rules[].backendRefs[].filters \
         rules[].sessionPersistence.type rules[].sessionPersistence.sessionName \
         rules[].sessionPersistence.absoluteTimeout rules[].sessionPersistence.idleTimeout \
         rules[].sessionPersistence.cookieConfig.lifetimeType rules[].sessionPersistence.cookie.name \
         rules[].sessionPersistence.cookie.path rules[].sessionPersistence.cookie.lifetimeType \
         rules[].sessionPersistence.header.name",
    ),
    (
        "TLSRoute",
        "parentRefs[].group parentRefs[].kind parentRefs[].namespace parentRefs[].name parentRefs[].sectionName \
         parentRefs[].port hostnames rules[].name rules[].backendRefs[].group rules[].backendRefs[].kind \
         rules[].backendRefs[].namespace rules[].backendRefs[].name rules[].backendRefs[].port \
         rules[].backendRefs[].weight rules[].backendRefs[].filters",
    ),
    (
        "TCPRoute",
        "parentRefs[].group parentRefs[].kind parentRefs[].namespace parentRefs[].name parentRefs[].sectionName \
         parentRefs[].port rules[].name rules[].backendRefs[].group rules[].backendRefs[].kind \
         rules[].backendRefs[].namespace rules[].backendRefs[].name rules[].backendRefs[].port \
         rules[].backendRefs[].weight rules[].backendRefs[].filters",
    ),
    (
        "Gateway",
        "gatewayClassName listeners[].name listeners[].hostname listeners[].port listeners[].protocol \
         listeners[].tls.mode listeners[].tls.certificateRefs[].group listeners[].tls.certificateRefs[].kind \
         listeners[].tls.certificateRefs[].name listeners[].tls.certificateRefs[].namespace listeners[].tls.options \
         listeners[].allowedRoutes.namespaces.from listeners[].allowedRoutes.namespaces.selector \
         listeners[].allowedRoutes.kinds[].group listeners[].allowedRoutes.kinds[].kind addresses[].type \
         addresses[].value infrastructure.labels infrastructure.annotations infrastructure.parametersRef \
         allowedListeners tls.frontend.default.validation.caCertificateRefs tls.frontend.default.validation.mode \
         tls.frontend.perPort[].port tls.frontend.perPort[].tls.validation.caCertificateRefs \
         tls.frontend.perPort[].tls.validation.mode \
         tls.backend.clientCertificateRef.group tls.backend.clientCertificateRef.kind \
         tls.backend.clientCertificateRef.name tls.backend.clientCertificateRef.namespace defaultScope",
    ),
    (
        "BackendTLSPolicy",
        "targetRefs[].group targetRefs[].kind targetRefs[].name targetRefs[].sectionName \
         validation.caCertificateRefs[].group validation.caCertificateRefs[].kind validation.caCertificateRefs[].name \
         validation.wellKnownCACertificates validation.hostname validation.subjectAltNames[].type \
         validation.subjectAltNames[].hostname validation.subjectAltNames[].uri options",
    ),
    ("ReferenceGrant", "from[].group from[].kind from[].namespace to[].group to[].kind to[].name"),
];
