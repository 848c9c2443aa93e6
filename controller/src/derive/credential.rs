//! What a proxy is given for TLS: keys, certificates, authorities; and what it seals sessions with.
//!
//! Sessions of a route of the Gateway API name an endpoint, sealed so that clients can neither read nor make one. Each
//! Gateway has a key of its own, derived from one secret of the control plane's namespace: all its replicas have the same
//! without writing anything into namespaces of others, and who takes one proxy's key opens no other's tokens.
//!
//! In: what is wanted, what was found of it. Out: `lateen.proxy.Credential`, or nothing while any of it is missing, so that
//! what depends on it refuses. Absent on purpose: who may have it (see `graph::credentials`).

use std::fmt;

use aws_lc_rs::hkdf;
use lateen_cluster::store::Key;
use lateen_wire::proxy as wire;

use crate::facts::{Lookup, SessionSecret, Source};

/// What a proxy needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// All that an object holds.
    All(Source),
    /// The authorities that these hold together, and nothing else of them.
    Authorities(Vec<Source>),
    /// What it seals sessions with, derived from this.
    Sessions(Source),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |source: &Source| match source {
            Source::Secret(key) => format!("secret/{key}"),
            Source::ConfigMap(key) => format!("configmap/{key}"),
        };
        match self {
            Self::All(source) => f.write_str(&part(source)),
            Self::Authorities(sources) => {
                let all: Vec<String> = sources.iter().map(part).collect();
                write!(f, "authorities/{}", all.join("+"))
            }
            Self::Sessions(_) => f.write_str("sessions"),
        }
    }
}

impl Wanted {
    /// The objects it is in.
    pub fn sources(&self) -> &[Source] {
        match self {
            Self::All(source) | Self::Sessions(source) => std::slice::from_ref(source),
            Self::Authorities(sources) => sources,
        }
    }

    /// The name of the Credential resource a proxy is sent it under. No other proxy's has it.
    pub fn name_at(&self, gateway: &Key) -> String {
        format!("{gateway}/{self}")
    }
}

/// The message for the proxies of `gateway`; nothing where something of it is not to be had.
pub fn derive(gateway: &Key, wanted: &Wanted, look: &dyn Fn(&Source) -> Lookup) -> Option<wire::Credential> {
    let mut made = wire::Credential::default();
    if let Wanted::Sessions(source) = wanted {
        let Lookup::Found(found) = look(source) else { return None };
        made.secret = session_key(gateway, found.sessions.as_ref()?.as_ref().ok()?)?;
        return Some(made);
    }
    for source in wanted.sources() {
        let Lookup::Found(found) = look(source) else { return None };
        if matches!(wanted, Wanted::All(_)) && found.pair.is_some() {
            let pair = found.shown()?;
            made.pairs.push(wire::KeyPair { chain_pem: pair.chain.clone(), key_pem: pair.key.clone() });
        }
        match &found.authorities {
            Some(Ok(text)) => append(&mut made.ca_pem, text),
            Some(Err(_)) => return None,
            None if matches!(wanted, Wanted::Authorities(_)) => return None,
            None => {}
        }
        append(&mut made.crl_pem, &found.revoked);
    }
    Some(made)
}

/// RFC 5869, with SHA-256.
fn session_key(gateway: &Key, secret: &SessionSecret) -> Option<Vec<u8>> {
    let whole = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lateen sessions").extract(secret.reveal());
    let mut key = vec![0; SessionSecret::BYTES];
    let name = gateway.to_string();
    whole.expand(&[name.as_bytes()], hkdf::HKDF_SHA256).ok()?.fill(&mut key).ok()?;
    Some(key)
}

fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(more);
}

/// Where the authorities beside a Secret are, which may be in a Secret of their own.
const BESIDE: &str = "-cacert";

/// What vouches for peers, where a Secret is named: it, or the one of its name with `-cacert`.
pub fn authorities_of(secret: &Key, look: &dyn Fn(&Source) -> Lookup) -> Source {
    let own = Source::Secret(secret.clone());
    if matches!(look(&own), Lookup::Found(found) if found.has_authorities()) {
        return own;
    }
    Source::Secret(Key::new(&secret.namespace, &format!("{}{BESIDE}", secret.name)))
}

/// What keeps a source from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It has not been looked at yet.
    Pending,
    /// It cannot be used, and what was there before still is: why.
    Kept(String),
    /// It cannot be used: why.
    Unusable(String),
}

/// Whether a certificate with its key is there.
pub fn pair_in(source: &Source, look: &dyn Fn(&Source) -> Lookup) -> Result<(), Trouble> {
    let unusable = |why: String| Err(Trouble::Unusable(format!("{source}: {why}")));
    match look(source) {
        Lookup::Pending => Err(Trouble::Pending),
        Lookup::Absent => Err(Trouble::Unusable(format!("there is no {source}"))),
        Lookup::Denied(why) => unusable(why),
        Lookup::Found(found) => match (&found.pair, &found.authorities) {
            (Some(Err(why)), Some(Ok(_)) | None) if found.shown().is_some() => {
                Err(Trouble::Kept(format!("{source}: {why}; the certificate from before is still shown")))
            }
            (Some(Err(why)), _) | (_, Some(Err(why))) => unusable(why.clone()),
            (Some(Ok(_)), _) => Ok(()),
            (None, _) => unusable("it holds no tls.crt and tls.key".to_owned()),
        },
    }
}

/// Whether what session keys are derived from is there.
pub fn sessions_in(source: &Source, look: &dyn Fn(&Source) -> Lookup) -> Result<(), Trouble> {
    let unusable = |why: String| Err(Trouble::Unusable(format!("{source}: {why}")));
    match look(source) {
        Lookup::Pending => Err(Trouble::Pending),
        Lookup::Absent => Err(Trouble::Unusable(format!("there is no {source}"))),
        Lookup::Denied(why) => unusable(why),
        Lookup::Found(found) => match &found.sessions {
            Some(Ok(_)) => Ok(()),
            Some(Err(why)) => unusable(why.clone()),
            None => unusable(format!("it holds no {}", SessionSecret::FIELD)),
        },
    }
}

/// Whether certificates of authorities are there.
pub fn authorities_in(source: &Source, look: &dyn Fn(&Source) -> Lookup) -> Result<(), Trouble> {
    let unusable = |why: String| Err(Trouble::Unusable(format!("{source}: {why}")));
    match look(source) {
        Lookup::Pending => Err(Trouble::Pending),
        Lookup::Absent => Err(Trouble::Unusable(format!("there is no {source}"))),
        Lookup::Denied(why) => unusable(why),
        Lookup::Found(found) => match &found.authorities {
            Some(Ok(_)) => Ok(()),
            Some(Err(why)) => unusable(why.clone()),
            None => unusable("it holds no ca.crt".to_owned()),
        },
    }
}
