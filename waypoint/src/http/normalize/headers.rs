//! Headers that would be believed although the client wrote them.
//!
//! In: headers as they came. Out: headers that mean what they say.

use http::{HeaderMap, HeaderName, HeaderValue};
use lateen_identity::{
    facts::Facts,
    presented::{Name, Presented},
};
use lateen_types::id::SpiffeId;
use rustls::pki_types::CertificateDer;

use crate::book::proxy::Underscores;

static XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// A header refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Its name has an underscore: many servers read it as the same name with a hyphen.
    #[error("unexpected_underscore")]
    Underscore,
}

/// Treats headers whose names have underscores as asked.
pub fn drop_underscores(headers: &mut HeaderMap, underscores: Underscores) -> Result<(), BadHeader> {
    let has_one = |headers: &HeaderMap| headers.keys().find(|name| name.as_str().contains('_')).cloned();
    match underscores {
        Underscores::Allow => Ok(()),
        Underscores::Reject if has_one(headers).is_some() => Err(BadHeader::Underscore),
        Underscores::Reject => Ok(()),
        Underscores::Drop => {
            while let Some(name) = has_one(headers) {
                headers.remove(name);
            }
            Ok(())
        }
    }
}

/// Who speaks to whom, as `x-forwarded-client-cert` tells it.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// This proxy.
    pub by: &'a SpiffeId,
    /// The client; one without identity is not told of.
    pub client: Option<&'a SpiffeId>,
}

/// Removes what the client wrote of its own certificate, and writes who it is, where that is asked for.
pub fn forwarded_client(headers: &mut HeaderMap, told: Option<Told<'_>>) {
    headers.remove(&XFCC);
    let Some(Told { by, client: Some(client) }) = told else { return };
    let text = format!("By={};URI={}", quoted(&by.to_string()), quoted(&client.to_string()));
    // An identity that no header can carry is not told of.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(&XFCC, value);
    }
}

/// What is told of a verified certificate: who holds it, and the certificate itself. `by` is who we are to the client.
pub fn of_certificate(by: Option<&SpiffeId>, presented: &Presented, der: &CertificateDer<'_>) -> Option<HeaderValue> {
    let mut parts: Vec<String> = by.iter().map(|by| format!("By={}", quoted(&by.to_string()))).collect();
    parts.push(format!("Hash={}", presented.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    parts.extend(Facts::of(der).map(|facts| format!("Cert=\"{}\"", url_encoded(&facts.pem))));
    // Its quotation marks and backslashes are escaped as RFC 2253 has it, which is the header's way as well.
    parts.push(format!("Subject=\"{}\"", presented.subject));
    let named = |key: &str, of: fn(&Name) -> Option<&str>| {
        let all = presented.names.iter().filter_map(of);
        all.map(|name| format!("{key}={}", quoted(name))).collect::<Vec<_>>()
    };
    let uris = named("URI", |name| if let Name::Uri(uri) = name { Some(uri) } else { None });
    parts.extend(if uris.is_empty() { vec!["URI=".to_owned()] } else { uris });
    parts.extend(named("DNS", |name| if let Name::Dns(host) = name { Some(host) } else { None }));
    HeaderValue::try_from(parts.join(";")).ok()
}

/// What PEM has beside letters and digits.
fn url_encoded(pem: &str) -> String {
    let mut out = String::with_capacity(pem.len() * 5 / 4);
    for letter in pem.chars() {
        match letter {
            '\n' => out.push_str("%0A"),
            ' ' => out.push_str("%20"),
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out
}

/// Quoted where it must be, so that nothing in it is taken for a further element.
fn quoted(value: &str) -> String {
    if value.contains([',', ';', '=', '"', '\\']) {
        return format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (name.parse().expect("a name"), value.parse().expect("a value"))
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn underscores_are_treated_as_asked() {
        let given = || headers(&[("x_user", "root"), ("x-user", "me"), ("a_b_c", "1")]);
        let mut all = given();
        assert_eq!(drop_underscores(&mut all, Underscores::Allow), Ok(()));
        assert_eq!(all, given());
        assert_eq!(drop_underscores(&mut all, Underscores::Reject), Err(BadHeader::Underscore));
        assert_eq!(drop_underscores(&mut all, Underscores::Drop), Ok(()));
        assert_eq!(all, headers(&[("x-user", "me")]));
        assert_eq!(drop_underscores(&mut all, Underscores::Reject), Ok(()));
    }

    #[test]
    fn what_the_client_says_of_its_certificate_is_gone() {
        let id = |text: &str| -> SpiffeId { text.parse().expect("an identity") };
        let (by, client) = (id("spiffe://td/ns/a/sa/waypoint"), id("spiffe://td/ns/b/sa/x;URI=y"));
        let given = || headers(&[("x-forwarded-client-cert", "URI=spiffe://td/ns/a/sa/admin")]);
        let after = |told| {
            let mut all = given();
            forwarded_client(&mut all, told);
            all.get(&XFCC).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(after(None), None);
        assert_eq!(after(Some(Told { by: &by, client: None })), None);
        let expected = r#"By=spiffe://td/ns/a/sa/waypoint;URI="spiffe://td/ns/b/sa/x;URI=y""#;
        assert_eq!(after(Some(Told { by: &by, client: Some(&client) })).as_deref(), Some(expected));
    }

    #[test]
    fn a_certificate_is_told_of_as_the_reference_does() {
        let by: SpiffeId = "spiffe://td/ns/a/sa/gateway".parse().expect("an identity");
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).expect("params");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "A \"B\"; C");
        params.distinguished_name.push(rcgen::DnType::CommonName, "me");
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/ns/b/sa/x".try_into().expect("a URI")));
        let made = params.self_signed(&key).expect("a certificate");
        let presented = Presented::read(made.der()).expect("read");
        let value = of_certificate(Some(&by), &presented, made.der()).expect("a value");
        let text = value.to_str().expect("text");
        assert!(text.starts_with("By=spiffe://td/ns/a/sa/gateway;Hash="), "{text}");
        assert!(text.contains(";Cert=\"-----BEGIN%20CERTIFICATE-----%0AMII"), "{text}");
        assert!(text.contains("-----END%20CERTIFICATE-----%0A\";"), "{text}");
        let end = r#";Subject="CN=me,O=A \"B\"\; C";URI=spiffe://td/ns/b/sa/x;DNS=a.example.com"#;
        assert!(text.ends_with(end), "{text}");
        let nobody = Presented { names: Vec::new(), ..presented };
        let value = of_certificate(None, &nobody, made.der()).expect("a value");
        let text = value.to_str().expect("text");
        assert!(text.starts_with("Hash=") && text.ends_with(";URI="), "{text}");
    }
}
