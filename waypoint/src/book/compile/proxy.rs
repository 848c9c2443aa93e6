//! `lateen.proxy.Proxy`.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lateen_wire::proxy as wire;

use super::{
    error::{DecodeError, Within as _, bad_text, each, known, port, required, some_text, time},
    route::shared_routes,
    service::{host_pattern, tcp_routes},
};
use crate::{
    book::{
        names::service_of,
        proxy::{
            ClientCertificate, EscapedSlashes, Inside, Listener, ListenerKind, Options, PathNormalization, Pin,
            ProxyBook, Role, Terminate, Terms, TlsHost, TlsVersion, Underscores, VirtualHost,
        },
    },
    report::format::Format,
    route::HostMap,
};

pub(super) fn proxy(from: wire::Proxy) -> Result<ProxyBook, DecodeError> {
    let role = match known("role", from.role)? {
        wire::Role::Waypoint => Role::Waypoint,
        wire::Role::Gateway => Role::Gateway,
        wire::Role::Unspecified => return Err(bad_text("role", "ROLE_UNSPECIFIED", "a role of this proxy")),
    };
    let service = |name: String| {
        service_of(&name).ok_or_else(|| bad_text("", &name, "<gateway namespace>/<gateway>/<namespace>/<hostname>"))
    };
    Ok(ProxyBook {
        namespace: from.namespace.into(),
        name: from.name.into(),
        role,
        options: options(from.options.unwrap_or_default()).within("options")?,
        listeners: each("listeners", from.listeners, |one| listener(one).map(Arc::new))?.into(),
        services: each("services", from.services, service)?.into_iter().collect(),
        policies: from.policies.into_iter().map(Into::into).collect(),
        serves_services: from.serves_services,
        serves_workloads: from.serves_workloads,
        workloads: from.workloads.into_iter().map(|workload| workload.uid.into()).collect(),
    })
}

/// What the `server` header says where nobody says otherwise.
const SERVER: &str = "istio-envoy";
/// The mesh's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

fn options(from: wire::Options) -> Result<Options, DecodeError> {
    let detection = time("protocol_detection_timeout", from.protocol_detection_timeout)?;
    let idle = time("stream_idle_timeout", from.stream_idle_timeout)?;
    Ok(Options {
        path_normalization: match known("path_normalization", from.path_normalization)? {
            wire::PathNormalization::Base => PathNormalization::Base,
            wire::PathNormalization::None => PathNormalization::None,
            wire::PathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
            wire::PathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        },
        server_name: match from.server_name {
            None => Some(SERVER.into()),
            Some(name) => some_text(&name),
        },
        xfcc_client_identity: from.xfcc_client_identity,
        trusted_proxies: from.trusted_proxies,
        proxy_protocol: from.proxy_protocol,
        protocol_detection_timeout: detection.filter(|timeout| !timeout.is_zero()),
        stream_idle_timeout: idle.filter(|timeout| !timeout.is_zero()),
        request_timeout: time("request_timeout", from.request_timeout)?.filter(|timeout| !timeout.is_zero()),
        http10: from.http10,
        mirror_shadow_suffix: from.mirror_shadow_suffix,
        preserve_header_case: from.preserve_header_case,
        suppress_debug_headers: from.suppress_debug_headers,
        access_log: access_log(&from.access_log.unwrap_or_default())?,
        connect_timeout: time("connect_timeout", from.connect_timeout)?.unwrap_or(CONNECT_TIMEOUT),
        merge_slashes: from.merge_slashes,
        escaped_slashes: match known("escaped_slashes", from.escaped_slashes)? {
            wire::EscapedSlashes::Keep => EscapedSlashes::Keep,
            wire::EscapedSlashes::Reject => EscapedSlashes::Reject,
            wire::EscapedSlashes::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            wire::EscapedSlashes::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
        underscores: match known("underscores", from.underscores)? {
            wire::Underscores::Allow => Underscores::Allow,
            wire::Underscores::Reject => Underscores::Reject,
            wire::Underscores::Drop => Underscores::Drop,
        },
        labels: from.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
    })
}

/// `None`: no records are written.
fn access_log(from: &wire::AccessLog) -> Result<Option<Arc<Format>>, DecodeError> {
    let format = match known("access_log.encoding", from.encoding)? {
        wire::access_log::Encoding::Off => return Ok(None),
        wire::access_log::Encoding::Text => Format::text(&from.format),
        wire::access_log::Encoding::Json => Format::json(&from.format),
    };
    format.map(|format| Some(Arc::new(format))).map_err(|error| DecodeError::new("access_log.format", error))
}

fn listener(from: wire::Listener) -> Result<Listener, DecodeError> {
    use wire::listener::Kind;
    Ok(Listener {
        bind_port: port("bind_port", from.bind_port)?,
        port: port("port", from.port)?,
        kind: match required("kind", from.kind)? {
            Kind::Http(hosts) => ListenerKind::Http(virtual_hosts(hosts).within("http")?),
            Kind::Tls(hosts) => ListenerKind::Tls(tls_hosts(hosts).within("tls")?),
            Kind::Tcp(routes) => ListenerKind::Tcp(tcp_routes(routes).within("tcp")?),
        },
    })
}

fn virtual_hosts(from: wire::VirtualHosts) -> Result<HostMap<VirtualHost>, DecodeError> {
    let one = |host: wire::VirtualHost| {
        let pattern = host_pattern("host", &host.host)?;
        let routes = shared_routes(&host.host, host.routes);
        Ok((pattern, VirtualHost { routes, https_redirect: host.https_redirect }))
    };
    each("hosts", from.hosts, one).map(HostMap::new)
}

fn tls_hosts(from: wire::TlsHosts) -> Result<HostMap<TlsHost>, DecodeError> {
    use wire::tls_host::Then;
    let one = |host: wire::TlsHost| {
        let then = match required("then", host.then)? {
            Then::Terminate(given) => TlsHost::Terminate(Box::new(terminate(given).within("terminate")?)),
            Then::Passthrough(routes) => TlsHost::Passthrough(tcp_routes(routes).within("passthrough")?),
        };
        Ok((host_pattern("host", &host.host)?, then))
    };
    each("hosts", from.hosts, one).map(HostMap::new)
}

fn terminate(from: wire::Terminate) -> Result<Terminate, DecodeError> {
    use wire::terminate::Then;
    let then = match required("then", from.then)? {
        Then::Http(hosts) => Inside::Http(virtual_hosts(hosts).within("http")?),
        Then::Tcp(routes) => Inside::Tcp(tcp_routes(routes).within("tcp")?),
    };
    let terms = Terms {
        credentials: from.credentials.into_iter().map(Into::into).collect(),
        client_certificate: match known("client_certificate", from.client_certificate)? {
            wire::ClientCertificate::Ignored => ClientCertificate::Ignored,
            wire::ClientCertificate::Required => ClientCertificate::Required,
            wire::ClientCertificate::Optional => ClientCertificate::Optional,
            wire::ClientCertificate::OptionalUnverified => ClientCertificate::OptionalUnverified,
            wire::ClientCertificate::Mesh => ClientCertificate::Mesh,
        },
        client_ca: some_text(&from.client_ca),
        client_subject_alt_names: from.client_subject_alt_names.into_iter().map(Into::into).collect(),
        client_key_pins: from.client_spki_pins.iter().map(|pin| key_pin(pin)).collect(),
        client_certificate_pins: from.client_certificate_pins.iter().map(|pin| certificate_pin(pin)).collect(),
        min_version: version("min_version", from.min_version)?,
        max_version: version("max_version", from.max_version)?,
        cipher_suites: from.cipher_suites.into_iter().map(Into::into).collect(),
        is_http: matches!(then, Inside::Http(_)),
    };
    Ok(Terminate { terms: Arc::new(terms), then })
}

/// A pin that cannot be read is nobody's: to refuse the resource would take all other hosts of the proxy along, and to leave
/// the pin out could let everybody in.
fn key_pin(text: &str) -> Pin {
    let read = STANDARD.decode(text).ok().and_then(|bytes| Pin::new(&bytes));
    read.unwrap_or_else(|| {
        tracing::warn!(pin = text, "no client can have this pin of a key; it must be a SHA-256 in base64");
        Pin::NOBODY
    })
}

/// See [`key_pin`]. There may be colons between the bytes, as some tools print them.
fn certificate_pin(text: &str) -> Pin {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |two: &[u8]| Some(value(two[0])? << 4 | value(*two.get(1)?)?);
    let read = digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>().and_then(|bytes| Pin::new(&bytes));
    read.unwrap_or_else(|| {
        tracing::warn!(pin = text, "no client can have this pin of a certificate; it must be a SHA-256 in hexadecimal");
        Pin::NOBODY
    })
}

fn version(field: &str, from: i32) -> Result<TlsVersion, DecodeError> {
    Ok(match known(field, from)? {
        wire::TlsVersion::TlsAuto => TlsVersion::Auto,
        wire::TlsVersion::Tls12 => TlsVersion::V12,
        wire::TlsVersion::Tls13 => TlsVersion::V13,
    })
}
