//! What is used of Secrets and ConfigMaps that hold what TLS needs.
//!
//! In: the object. Out: the texts, judged once. Nothing of them can be printed, and no error says what is in them.

use std::{fmt, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1 as core};
use lateen_cluster::store::Key;
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _};

/// An object that holds such texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A Secret.
    Secret(Key),
    /// A ConfigMap.
    ConfigMap(Key),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(key) => write!(f, "Secret {key}"),
            Self::ConfigMap(key) => write!(f, "ConfigMap {key}"),
        }
    }
}

/// What a source holds.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credential {
    /// A certificate with its key, where it holds any; or why they cannot be used.
    pub pair: Option<Result<Pair, String>>,
    /// The pair that was there before, while what is there now cannot be used.
    pub kept: Option<Pair>,
    /// Certificates of authorities, where it holds any; or why they cannot be used.
    pub authorities: Option<Result<String, String>>,
    /// Lists of what was revoked.
    pub revoked: String,
    /// What session keys are derived from, where it holds that; or why it cannot be used.
    pub sessions: Option<Result<SessionSecret, String>>,
}

/// What session keys are derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(Vec<u8>);

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret")
    }
}

impl SessionSecret {
    /// As many bytes as are drawn; fewer could be guessed.
    pub const BYTES: usize = 32;
    /// The Secret's field.
    pub const FIELD: &str = "session-secret";

    fn judged(bytes: &[u8]) -> Result<Self, String> {
        match bytes.len() >= Self::BYTES {
            true => Ok(Self(bytes.to_vec())),
            false => Err(format!("{}: it holds less than {} bytes", Self::FIELD, Self::BYTES)),
        }
    }

    /// The bytes, for nobody to see.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The leaf, and what leads to an authority.
    pub chain: String,
    /// Its key.
    pub key: String,
}

/// What was found where a source was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nobody has looked yet.
    Pending,
    /// It is not there.
    Absent,
    /// It may not be read: why.
    Denied(String),
    /// This.
    Found(Arc<Credential>),
}

impl Lookup {
    /// This, after `before`. A pair that is changed in two steps, or for the worse, does not take away the one in use; what
    /// is removed is gone.
    #[must_use]
    pub fn after(self, before: Option<&Self>) -> Self {
        match (self, before) {
            (Self::Found(now), Some(Self::Found(before))) if matches!(now.pair, Some(Err(_))) => {
                Self::Found(Arc::new(Credential { kept: before.shown().cloned(), ..(*now).clone() }))
            }
            (now, _) => now,
        }
    }
}

/// The names that certificates, keys, authorities and revocations have: of Kubernetes first.
const CHAIN: [&str; 2] = ["tls.crt", "cert"];
const KEY: [&str; 2] = ["tls.key", "key"];
const AUTHORITIES: [&str; 2] = ["ca.crt", "cacert"];
const REVOKED: [&str; 2] = ["ca.crl", "crl"];

impl Credential {
    /// Of a Secret.
    pub fn of_secret(secret: &core::Secret) -> Self {
        let data = secret.data.as_ref();
        let text = |names: [&str; 2]| {
            let found = names.into_iter().find_map(|name| data.and_then(|data| data.get(name)));
            found.map(|ByteString(bytes)| String::from_utf8_lossy(bytes).into_owned())
        };
        let sessions = data.and_then(|data| data.get(SessionSecret::FIELD));
        Self {
            sessions: sessions.map(|ByteString(bytes)| SessionSecret::judged(bytes)),
            ..Self::judged((text(CHAIN), text(KEY)), text(AUTHORITIES), text(REVOKED))
        }
    }

    /// Of a ConfigMap, which holds authorities only.
    pub fn of_config_map(map: &core::ConfigMap) -> Self {
        let text = |names: [&str; 2]| {
            names.into_iter().find_map(|name| map.data.as_ref().and_then(|data| data.get(name))).cloned()
        };
        Self::judged((None, None), text(AUTHORITIES), text(REVOKED))
    }

    fn judged(
        (chain, key): (Option<String>, Option<String>),
        authorities: Option<String>,
        revoked: Option<String>,
    ) -> Self {
        let pair = match (chain, key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some(pair(chain, key)),
            (Some(_), None) => Some(Err("it holds a certificate without its key (tls.key)".to_owned())),
            (None, Some(_)) => Some(Err("it holds a key without its certificate (tls.crt)".to_owned())),
        };
        let authorities = authorities.map(|text| match certificates(&text) {
            Ok(_) => Ok(text),
            Err(why) => Err(format!("ca.crt: {why}")),
        });
        // A list nobody can read would let in what it names: it takes the authorities with it.
        match revoked.filter(|text| !text.trim().is_empty()) {
            Some(text) if !are_revocations(&text) => {
                let why = "ca.crl: it is no PEM text of revoked certificates (BEGIN X509 CRL)".to_owned();
                Self { pair, authorities: Some(Err(why)), ..Self::default() }
            }
            revoked => Self { pair, authorities, revoked: revoked.unwrap_or_default(), ..Self::default() },
        }
    }

    /// The certificate with its key that is shown: of now, or that of before where now's cannot be used.
    pub fn shown(&self) -> Option<&Pair> {
        match &self.pair {
            Some(Ok(pair)) => Some(pair),
            Some(Err(_)) => self.kept.as_ref(),
            None => None,
        }
    }

    /// Whether it holds authorities.
    pub fn has_authorities(&self) -> bool {
        self.authorities.is_some()
    }
}

/// Whether all of a text is lists of what was revoked, and there is one.
fn are_revocations(text: &str) -> bool {
    use x509_parser::prelude::{CertificateRevocationList, FromDer as _};
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect();
    all.is_ok_and(|all| !all.is_empty() && all.iter().all(|one| CertificateRevocationList::from_der(one).is_ok()))
}

fn pair(chain: String, key: String) -> Result<Pair, String> {
    let provider: CryptoProvider = rustls::crypto::aws_lc_rs::default_provider();
    let parsed = certificates(&chain).map_err(|why| format!("tls.crt: {why}"))?;
    let private =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "tls.key: it is no PEM text of a key".to_owned())?;
    // The words of the library name kinds and lengths, never contents.
    let both = CertifiedKey::from_der(parsed, private, &provider);
    both.map_err(|error| format!("tls.key and tls.crt cannot be used together: {error}"))?;
    Ok(Pair { chain, key })
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|_| "it is no PEM text".to_owned())?;
    if all.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    let readable = |one: &CertificateDer<'_>| {
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        X509Certificate::from_der(one).is_ok()
    };
    if all.iter().all(readable) { Ok(all) } else { Err("a certificate in it cannot be read".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn secret(data: &[(&str, &str)]) -> Credential {
        let data: BTreeMap<String, ByteString> =
            data.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
        Credential::of_secret(&core::Secret { data: Some(data), ..core::Secret::default() })
    }

    #[test]
    fn both_spellings_are_read() {
        let (chain, key) = made();
        for (names, authority) in [(["tls.crt", "tls.key"], "ca.crt"), (["cert", "key"], "cacert")] {
            let found = secret(&[(names[0], &chain), (names[1], &key), (authority, &chain)]);
            assert!(matches!(&found.pair, Some(Ok(pair)) if pair.chain == chain && pair.key == key));
            assert_eq!(found.authorities, Some(Ok(chain.clone())));
            assert_eq!(format!("{found:?}"), "Credential");
        }
        assert!(secret(&[]).pair.is_none());
    }

    #[test]
    fn a_pair_that_cannot_be_used_does_not_take_away_the_one_in_use() {
        let (chain, key) = made();
        let look = |data: &[(&str, &str)]| Lookup::Found(Arc::new(secret(data)));
        let good = look(&[("tls.crt", &chain), ("tls.key", &key)]);
        let broken = look(&[("tls.crt", &chain), ("tls.key", "typo")]);
        let Lookup::Found(first) = broken.clone().after(None) else { panic!("it is there") };
        assert!(first.shown().is_none(), "nothing was in use");
        let Lookup::Found(once) = broken.clone().after(Some(&good)) else { panic!("it is there") };
        assert!(once.shown().is_some_and(|pair| pair.key == key) && matches!(once.pair, Some(Err(_))));
        let Lookup::Found(twice) = broken.after(Some(&Lookup::Found(once))) else { panic!("it is there") };
        assert!(twice.shown().is_some_and(|pair| pair.key == key));
        let Lookup::Found(removed) = look(&[]).after(Some(&good)) else { panic!("it is there") };
        assert!(removed.shown().is_none() && Lookup::Absent.after(Some(&good)) == Lookup::Absent);
    }

    #[test]
    fn what_cannot_be_used_is_said_without_its_content() {
        let (chain, key) = made();
        let (_, other) = made();
        let why = |data: &[(&str, &str)]| match secret(data).pair {
            Some(Err(why)) => why,
            _ => panic!("it can be used"),
        };
        assert!(why(&[("tls.crt", &chain)]).contains("without its key"));
        assert!(why(&[("tls.crt", "secret words"), ("tls.key", &key)]).starts_with("tls.crt: it holds no certificate"));
        for words in
            [why(&[("tls.crt", &chain), ("tls.key", "secret words")]), why(&[("tls.crt", &chain), ("tls.key", &other)])]
        {
            assert!(words.starts_with("tls.key") && !words.contains("secret words"), "{words}");
        }
        let not_read = "-----BEGIN X509 CRL-----\nx\n-----END X509 CRL-----";
        let no_list = "-----BEGIN X509 CRL-----\nTUlJ\n-----END X509 CRL-----";
        for crl in [not_read, no_list, "\u{30}\u{82} as DER", &chain] {
            let found = secret(&[("ca.crt", &chain), ("ca.crl", crl)]);
            assert!(matches!(found.authorities, Some(Err(_))), "an unreadable list closes: {crl}");
        }
        assert!(matches!(secret(&[("ca.crt", &chain), ("ca.crl", " ")]).authorities, Some(Ok(_))), "none is none");
    }
}
