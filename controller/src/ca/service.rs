//! The CA's gRPC end.
//!
//! In: signing requests with a bearer token. Out: certificate chains. A caller that is refused learns only that; the
//! log and the counters know why.

use std::{sync::Arc, time::Duration};

use lateen_cluster::store::Key;
use lateen_types::id::{SpiffeId, TrustDomain};
use lateen_wire::ca::{
    IstioCertificateRequest, IstioCertificateResponse, istio_certificate_service_server::IstioCertificateService,
};
use prost_types::value::Kind;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{
    authn::{Caller, Reviewer},
    authority::{Authority, IssueError, Lifetimes, Wish},
    residents::{Residents, Rules},
};
use crate::{names, settings::Settings, wall_clock};

/// What answering needs.
#[derive(Debug, Clone)]
pub struct Service {
    /// Proves callers.
    pub reviewer: Reviewer,
    /// Signs.
    pub authority: watch::Receiver<Arc<Authority>>,
    /// Who lives where.
    pub residents: Residents,
    /// Accounts of node proxies.
    pub trusted: Vec<Key>,
    /// What holds for the mesh: its trust domain.
    pub settings: watch::Receiver<Option<Arc<Settings>>>,
    /// For how long.
    pub lifetimes: Lifetimes,
}

const IMPERSONATED: &str = "ImpersonatedIdentity";

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        metrics::counter!(names::CSR_COUNT).increment(1);
        let caller = self.reviewer.caller(request.metadata()).await.map_err(|error| {
            metrics::counter!(names::CA_AUTHENTICATION_FAILURES).increment(1);
            tracing::warn!(reason = error.reason(), %error, "a caller of the CA was refused");
            if error.is_ours() { Status::unavailable("try again") } else { unauthenticated() }
        })?;
        let message = request.into_inner();
        let identity = self.identity_for(&caller, &message).map_err(|reason| {
            metrics::counter!(names::CA_AUTHENTICATION_FAILURES).increment(1);
            tracing::warn!(account = %caller.account, reason, "a caller may not have the identity it asked for");
            unauthenticated()
        })?;
        let lifetime = u64::try_from(message.validity_duration).ok().filter(|seconds| *seconds > 0);
        let wish = Wish { csr: &message.csr, identity: &identity, lifetime: lifetime.map(Duration::from_secs) };
        let authority = self.authority.borrow().clone();
        let chain = authority.issue(wish, self.lifetimes, wall_clock());
        let cert_chain = chain.map_err(|error| refused(&caller, &identity, &error))?;
        metrics::counter!(names::CERTIFICATES_ISSUED).increment(1);
        tracing::info!(account = %caller.account, %identity, "issued a certificate");
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl Service {
    /// The identity a request is about: the caller's own, or the one it may ask for on behalf of.
    fn identity_for(&self, caller: &Caller, message: &IstioCertificateRequest) -> Result<SpiffeId, String> {
        let rules = self.rules().ok_or("the settings of the mesh are not known yet")?;
        let Some(wanted) = impersonated(message) else {
            let account = &caller.account;
            let (namespace, name) = ((&*account.namespace).into(), (&*account.name).into());
            return SpiffeId::new(rules.trust_domain, namespace, name).map_err(|error| error.to_string());
        };
        let identity: SpiffeId = wanted.parse().map_err(|error: lateen_types::WordError| error.to_string())?;
        self.residents.may_have(caller, &identity, &rules).map_err(|refusal| refusal.to_string())?;
        Ok(identity)
    }

    fn rules(&self) -> Option<Rules> {
        let settings = self.settings.borrow().clone()?;
        let trust_domain = TrustDomain::from(settings.mesh.trust_domain.as_str());
        Some(Rules { trusted: self.trusted.clone(), trust_domain })
    }
}

/// The identity named in the metadata. One that is no text is an empty one, which parses as nothing and is refused.
fn impersonated(message: &IstioCertificateRequest) -> Option<&str> {
    let value = message.metadata.as_ref()?.fields.get(IMPERSONATED)?;
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        Some(_) | None => Some(""),
    }
}

fn unauthenticated() -> Status {
    Status::unauthenticated("request authentication failure")
}

fn refused(caller: &Caller, identity: &SpiffeId, error: &IssueError) -> Status {
    tracing::warn!(account = %caller.account, %identity, %error, "a certificate could not be issued");
    match error {
        IssueError::Request(_) => {
            metrics::counter!(names::CSR_PARSE_ERRORS).increment(1);
            Status::invalid_argument("the signing request cannot be used")
        }
        IssueError::Lifetime { max, .. } => {
            metrics::counter!(names::CSR_SIGN_ERRORS).increment(1);
            Status::invalid_argument(format!("the requested lifetime is longer than {} seconds", max.as_secs()))
        }
        IssueError::Expired | IssueError::Sign(_) => {
            metrics::counter!(names::CSR_SIGN_ERRORS).increment(1);
            Status::internal("signing failed")
        }
    }
}
