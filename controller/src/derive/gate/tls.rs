//! How TLS ends at a listener of a Gateway: certificates, and what clients have to show.
//!
//! In: the listener, what the Gateway says of clients, a look at Secrets. Out: the terms, what they need of Secrets, and
//! what is wrong. A listener of which not one certificate can be used is not opened; neither is one that is to verify
//! clients and knows no authority.

use lateen_cluster::{
    api::{ClientValidation, GatewayTls, ListenerTls, ObjectRef},
    store::Key,
};
use lateen_wire::proxy::{self as wire, ClientCertificate};

use super::{Secrets, problem};
use crate::{
    derive::{
        attached::Problem,
        credential::{self, Trouble, Wanted},
    },
    facts::{GatewayListener, Source},
};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ended {
    /// The terms, without what lies inside; nothing where it cannot be opened.
    pub terms: Option<wire::Terminate>,
    /// What they need.
    pub wanted: Vec<Wanted>,
    /// A reference that cannot be used.
    pub unresolved: Option<Problem>,
    /// Why the listener is not accepted.
    pub refused: Option<Problem>,
    /// Whether something has not been looked at yet.
    pub is_pending: bool,
}

/// How clients' certificates are verified on a port; not at all where nothing says so.
pub fn validation(tls: &GatewayTls, port: u16) -> Option<&ClientValidation> {
    let frontend = tls.frontend.as_ref()?;
    let own = frontend.per_port.iter().find(|one| one.port == port).map(|one| &one.tls);
    own.or(frontend.default.as_ref()).and_then(|one| one.validation.as_ref())
}

/// Whether clients without a valid certificate are let in somewhere.
pub fn falls_back(tls: &GatewayTls) -> bool {
    let frontend = tls.frontend.iter();
    let all = frontend.flat_map(|all| all.default.iter().chain(all.per_port.iter().map(|one| &one.tls)));
    let mut modes = all.filter_map(|one| one.validation.as_ref()?.mode.as_deref());
    modes.any(|mode| mode == INSECURE)
}

const INSECURE: &str = "AllowInsecureFallback";

/// How TLS ends at a listener of the Gateway `gateway`.
pub fn derive(
    gateway: &Key,
    listener: &GatewayListener,
    validation: Option<&ClientValidation>,
    secrets: &dyn Secrets,
) -> Ended {
    let empty = ListenerTls::default();
    let written = listener.tls.as_ref().unwrap_or(&empty);
    let asking = Asking { gateway, secrets };
    let mut made = Ended::default();
    let mut terms = wire::Terminate::default();
    let mode = match options(written, &mut terms) {
        Ok(mode) => mode,
        Err(refused) => return Ended { refused: Some(refused), ..made },
    };
    if validation.is_some() && mode != Mode::Simple {
        let message = format!(
            "tls.options: {TERMINATE_MODE} and the Gateway's tls.frontend both say how clients are verified; remove one"
        );
        return Ended { refused: Some(problem("UnsupportedValue", message)), ..made };
    }
    let certificates = asking.certificates(&written.certificate_refs, &mut made);
    if certificates.is_empty() && mode != Mode::Mesh {
        let none = || problem("InvalidCertificateRef", "tls.certificateRefs names no certificate");
        made.unresolved.get_or_insert_with(none);
        return made;
    }
    terms.credentials = certificates.iter().map(|one| Wanted::All(one.clone()).name_at(gateway)).collect();
    made.wanted.extend(certificates.iter().cloned().map(Wanted::All));
    let is_open = match (mode, validation) {
        (Mode::Mesh, _) => {
            terms.client_certificate = ClientCertificate::Mesh.into();
            true
        }
        (Mode::Simple, Some(validation)) => asking.clients(validation, &mut terms, &mut made),
        (Mode::Simple, None) => true,
        (Mode::Mutual | Mode::OptionalMutual, _) => {
            let kind = if mode == Mode::Mutual { ClientCertificate::Required } else { ClientCertificate::Optional };
            terms.client_certificate = kind.into();
            certificates.first().is_some_and(|first| asking.beside(first, &mut terms, &mut made))
        }
    };
    made.terms = is_open.then_some(terms);
    made
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Simple,
    Mutual,
    OptionalMutual,
    /// The mesh's own certificates on both sides.
    Mesh,
}

const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";
const CIPHER_SUITES: &str = "gateway.istio.io/tls-cipher-suites";

/// What nobody knows might have closed something.
fn options(written: &ListenerTls, terms: &mut wire::Terminate) -> Result<Mode, Problem> {
    let mut mode = Mode::Simple;
    for (name, value) in &written.options {
        match (name.as_str(), value.as_str()) {
            (TERMINATE_MODE, "SIMPLE") => mode = Mode::Simple,
            (TERMINATE_MODE, "MUTUAL") => mode = Mode::Mutual,
            (TERMINATE_MODE, "OPTIONAL_MUTUAL") => mode = Mode::OptionalMutual,
            (TERMINATE_MODE, "ISTIO_MUTUAL") => mode = Mode::Mesh,
            (CIPHER_SUITES, all) => {
                let all = all.split(',').map(str::trim).filter(|one| !one.is_empty());
                terms.cipher_suites = all.map(str::to_owned).collect();
            }
            (name, value) => {
                let message = format!("tls.options: {name}: {value:?} is not supported; remove it");
                return Err(problem("UnsupportedValue", message));
            }
        }
    }
    Ok(mode)
}

struct Asking<'a> {
    gateway: &'a Key,
    secrets: &'a dyn Secrets,
}

/// The reasons of references to certificates, or of those to authorities.
struct Reasons {
    kind: &'static str,
    content: &'static str,
}

const OF_CERTIFICATES: Reasons = Reasons { kind: "InvalidCertificateRef", content: "InvalidCertificateRef" };
const OF_AUTHORITIES: Reasons = Reasons { kind: "InvalidCACertificateKind", content: "InvalidCACertificateRef" };

impl Asking<'_> {
    /// The object a reference names, if it is of one of these kinds and may be named.
    fn source(&self, reference: &ObjectRef, default: &str, reasons: &Reasons) -> Result<Source, Problem> {
        let key = Key::new(reference.namespace.as_deref().unwrap_or(&self.gateway.namespace), &reference.name);
        let kind = reference.kind.as_deref().unwrap_or(default);
        let is_authority = reasons.kind == OF_AUTHORITIES.kind;
        let source = match (reference.group.as_deref().unwrap_or_default(), kind) {
            ("" | "core", "Secret") => Source::Secret(key.clone()),
            ("" | "core", "ConfigMap") if is_authority => Source::ConfigMap(key.clone()),
            (group, kind) => {
                let message = format!("{group}/{kind} {key} is no kind that holds certificates; use {default}");
                return Err(problem(reasons.kind, message));
            }
        };
        let is_elsewhere = key.namespace != self.gateway.namespace;
        if is_elsewhere && !self.secrets.lets(&self.gateway.namespace, &source) {
            let message = format!("{source} is of another namespace, in which no ReferenceGrant allows it");
            return Err(problem("RefNotPermitted", message));
        }
        Ok(source)
    }

    /// The certificates that can be used.
    fn certificates(&self, references: &[ObjectRef], made: &mut Ended) -> Vec<Source> {
        let mut usable = Vec::new();
        for reference in references {
            let found =
                self.source(reference, "Secret", &OF_CERTIFICATES).and_then(|source| {
                    match credential::pair_in(&source, &|source| self.secrets.look(source)) {
                        Ok(()) => Ok((source, false)),
                        Err(Trouble::Pending) => Ok((source, true)),
                        Err(Trouble::Kept(why)) => {
                            made.unresolved.get_or_insert(problem(OF_CERTIFICATES.content, why));
                            Ok((source, false))
                        }
                        Err(Trouble::Unusable(why)) => Err(problem(OF_CERTIFICATES.content, why)),
                    }
                });
            match found {
                Ok((source, is_pending)) => {
                    made.is_pending |= is_pending;
                    usable.push(source);
                }
                Err(problem) => _ = made.unresolved.get_or_insert(problem),
            }
        }
        usable
    }

    /// Whether clients can be verified as the Gateway says.
    fn clients(&self, written: &ClientValidation, terms: &mut wire::Terminate, made: &mut Ended) -> bool {
        let kind = match written.mode.as_deref() {
            Some(INSECURE) => ClientCertificate::OptionalUnverified,
            Some("AllowValidOnly") | None => ClientCertificate::Required,
            Some(other) => {
                let message = format!("tls.frontend: validation.mode {other:?} is not supported");
                made.refused = Some(problem("UnsupportedValue", message));
                return false;
            }
        };
        terms.client_certificate = kind.into();
        let mut usable = Vec::new();
        for reference in &written.ca_certificate_refs {
            let found =
                self.source(reference, "ConfigMap", &OF_AUTHORITIES).and_then(
                    |source| match credential::authorities_in(&source, &|source| self.secrets.look(source)) {
                        Ok(()) => Ok(source),
                        Err(Trouble::Pending) => {
                            made.is_pending = true;
                            Ok(source)
                        }
                        Err(Trouble::Kept(why) | Trouble::Unusable(why)) => Err(problem(OF_AUTHORITIES.content, why)),
                    },
                );
            match found {
                Ok(source) => usable.push(source),
                Err(problem) => _ = made.unresolved.get_or_insert(problem),
            }
        }
        if usable.is_empty() {
            let message = "tls.frontend names no authority that clients can be verified with";
            made.refused = Some(problem("NoValidCACertificate", message));
            return false;
        }
        let wanted = Wanted::Authorities(usable);
        terms.client_ca = wanted.name_at(self.gateway);
        made.wanted.push(wanted);
        true
    }

    /// Whether clients can be verified with what is in, or beside, the Secret of the certificate.
    fn beside(&self, certificate: &Source, terms: &mut wire::Terminate, made: &mut Ended) -> bool {
        let (Source::Secret(key) | Source::ConfigMap(key)) = certificate;
        let look = |source: &Source| self.secrets.look(source);
        let authority = credential::authorities_of(key, &look);
        match credential::authorities_in(&authority, &look) {
            Ok(()) => {}
            Err(Trouble::Pending) => made.is_pending = true,
            Err(Trouble::Kept(why) | Trouble::Unusable(why)) => {
                made.unresolved = Some(problem("InvalidCertificateRef", why));
                return false;
            }
        }
        let wanted = Wanted::Authorities(vec![authority]);
        terms.client_ca = wanted.name_at(self.gateway);
        made.wanted.push(wanted);
        true
    }
}
