//! A channel as the environment describes it, the same for every program of ours.
//!
//! In: variables (`XDS_ROOT_CA`, `CA_HEADER_…`, `AUTH_TOKEN`, …). Out: [`ChannelConfig`]. Absent on purpose: which address.

use lateen_rt::vars::{ConfigError, Vars};
use lateen_types::name::ClusterId;

use super::{ChannelConfig, Roots, Token};

const DEFAULT_ROOT: &str = "./var/run/secrets/istio/root-cert.pem";
const DEFAULT_TOKEN: &str = "./var/run/secrets/tokens/istio-token";

/// Where the control plane is when nothing says so.
pub fn default_address(vars: &Vars) -> String {
    match vars.raw("KUBERNETES_SERVICE_HOST") {
        Some(_) => "https://istiod.istio-system.svc:15012".to_owned(),
        None => "https://localhost:15012".to_owned(),
    }
}

/// The channel to `address`. `kind` is `XDS` or `CA`, as in the variables' names.
pub fn channel(vars: &Vars, (address, kind): (&str, &str), cluster: &ClusterId) -> Result<ChannelConfig, ConfigError> {
    let address = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let is_server = address.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| !host.is_empty()) && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if !is_server && !address.starts_with("unix:///") {
        return Err(ConfigError::Variable {
            name: format!("{kind}_ADDRESS"),
            reason: "it must be <host>:<port>, https://<host>:<port> or unix:///<path>".to_owned(),
        });
    }
    let headers = format!("{kind}_HEADER_");
    let headers = vars.with_prefix(&headers).map(|(name, value)| header(kind, name, value));
    Ok(ChannelConfig {
        address,
        roots: roots(vars, &format!("{kind}_ROOT_CA"))?,
        alternative_host: vars.text(&format!("ALT_{kind}_HOSTNAME")),
        token: token(vars),
        cluster: cluster.clone(),
        headers: headers.collect::<Result<_, _>>()?,
    })
}

fn header(kind: &str, name: &str, value: &str) -> Result<(String, String), ConfigError> {
    let valid = name.parse::<http::HeaderName>().is_ok() && value.parse::<http::HeaderValue>().is_ok();
    if !valid {
        return Err(ConfigError::Variable {
            name: format!("{kind}_HEADER_{name}"),
            reason: "name and value must be an HTTP header".to_owned(),
        });
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// Where distributions keep the system's roots as one PEM file.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

fn roots(vars: &Vars, name: &str) -> Result<Roots, ConfigError> {
    Ok(match vars.text(name) {
        None => Roots::File(DEFAULT_ROOT.into()),
        Some(given) if given.eq_ignore_ascii_case("SYSTEM") => {
            let found = SYSTEM_ROOTS.iter().find(|path| std::path::Path::new(path).exists());
            let missing = || ConfigError::Variable {
                name: name.to_owned(),
                reason: format!("none of {} exists; name a PEM file", SYSTEM_ROOTS.join(", ")),
            };
            Roots::File(found.ok_or_else(missing)?.into())
        }
        Some(given) if given.contains("-----BEGIN") => Roots::Pem(given),
        Some(given) => Roots::File(given.into()),
    })
}

fn token(vars: &Vars) -> Token {
    match vars.text("AUTH_TOKEN") {
        Some(given) if std::path::Path::new(&given).exists() => Token::File(given.into()),
        Some(given) => Token::Inline(given),
        None if std::path::Path::new(DEFAULT_TOKEN).exists() => Token::File(DEFAULT_TOKEN.into()),
        None => Token::None,
    }
}
