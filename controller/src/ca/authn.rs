//! Proves who calls: a service account's token, reviewed by the API server.
//!
//! In: a bearer token. Out: the [`Caller`], or why not. The caller itself is told one thing only: that it was refused.
//! Tokens are reviewed anew each time, so that one that was revoked stops working at once.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use lateen_cluster::store::Key;
use lateen_rt::deadline::{Elapsed, within};
use tonic::metadata::MetadataMap;

/// A proven caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its service account.
    pub account: Key,
    /// The pod its token is bound to.
    pub pod: Option<CallerPod>,
}

/// The pod a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerPod {
    /// Its place.
    pub key: Key,
    /// Its uid.
    pub uid: String,
}

/// Why a caller is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    /// It gave nothing to believe.
    #[error("there is no `authorization: Bearer <token>` in the request")]
    NoToken,
    /// It is of a cluster we know nothing of.
    #[error("the request names cluster {0:?}, which is not ours")]
    OtherCluster(String),
    /// The API server gave no answer.
    #[error("reviewing the token failed: {0}")]
    Review(#[source] Box<kube::Error>),
    /// The API server gave no answer in time.
    #[error(transparent)]
    Late(#[from] Elapsed),
    /// The API server does not believe it.
    #[error("the token was not accepted: {0}")]
    Rejected(String),
    /// It is for somebody else.
    #[error("the token is for the audiences {found:?}, not for {wanted:?}")]
    Audience {
        /// What the server found in it.
        found: Vec<String>,
        /// What we accept.
        wanted: Vec<String>,
    },
    /// It is no service account.
    #[error("{0:?} is no service account")]
    NoServiceAccount(String),
}

impl AuthnError {
    /// A word for metrics and the log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::OtherCluster(_) => "cluster",
            Self::Review(_) => "review",
            Self::Late(_) => "deadline",
            Self::Rejected(_) => "rejected",
            Self::Audience { .. } => "audience",
            Self::NoServiceAccount(_) => "no_service_account",
        }
    }

    /// Whether the fault is ours, so that the caller should simply try again.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Review(_) | Self::Late(_))
    }
}

/// Reviews tokens.
#[derive(Clone)]
pub struct Reviewer {
    api: Api<TokenReview>,
    audiences: Vec<String>,
    cluster: String,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

impl Reviewer {
    /// Accepts tokens for any of `audiences`, of callers that name `cluster` or no cluster.
    pub fn new(client: Client, audiences: Vec<String>, cluster: String) -> Self {
        Self { api: Api::all(client), audiences, cluster }
    }

    /// Who sent a request with this metadata.
    pub async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, AuthnError> {
        let token = bearer(metadata).ok_or(AuthnError::NoToken)?;
        if let Some(cluster) = metadata.get("clusterid").and_then(|value| value.to_str().ok())
            && !cluster.is_empty()
            && cluster != self.cluster
        {
            return Err(AuthnError::OtherCluster(cluster.to_owned()));
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(self.audiences.clone()) };
        let review = TokenReview { metadata: ObjectMeta::default(), spec, status: None };
        let params = PostParams::default();
        let reviewed = within("reviewing a token", REVIEW_TIMEOUT, self.api.create(&params, &review)).await?;
        let reviewed = reviewed.map_err(|error| AuthnError::Review(Box::new(error)))?;
        caller_of(reviewed.status.unwrap_or_default(), &self.audiences)
    }
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

const ACCOUNTS_GROUP: &str = "system:serviceaccounts";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The caller a review proves.
fn caller_of(status: TokenReviewStatus, wanted: &[String]) -> Result<Caller, AuthnError> {
    let error = status.error.unwrap_or_default();
    if status.authenticated != Some(true) || !error.is_empty() {
        return Err(AuthnError::Rejected(error));
    }
    // A server that knows nothing of audiences answers with none, and would accept a token meant for itself.
    let found = status.audiences.unwrap_or_default();
    if !found.iter().any(|audience| wanted.contains(audience)) {
        return Err(AuthnError::Audience { found, wanted: wanted.to_vec() });
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let in_group = user.groups.iter().flatten().any(|group| group == ACCOUNTS_GROUP);
    let Some(account) = account_of(&name).filter(|_| in_group) else {
        return Err(AuthnError::NoServiceAccount(name));
    };
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
    let pod = one(POD_NAME).zip(one(POD_UID));
    let pod = pod.map(|(pod, uid)| CallerPod { key: Key::new(&account.namespace, &pod), uid });
    Ok(Caller { account, pod })
}

/// `system:serviceaccount:<namespace>:<name>`, exactly.
fn account_of(username: &str) -> Option<Key> {
    let (namespace, name) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let plain = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    plain.then(|| Key::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review(patch: Value) -> Result<Caller, AuthnError> {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["istio-ca"],
            "user": {
                "username": "system:serviceaccount:istio-system:ztunnel",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": {POD_NAME: ["ztunnel-1"], POD_UID: ["u1"]}
            }
        });
        for (key, value) in patch.as_object().expect("an object") {
            match (status.get_mut(key), value) {
                (Some(Value::Object(base)), Value::Object(patch)) => base.extend(patch.clone()),
                _ => status[key] = value.clone(),
            }
        }
        caller_of(serde_json::from_value(status).expect("a status"), &["istio-ca".to_owned()])
    }

    #[test]
    fn a_good_token_names_account_and_pod() {
        let caller = review(json!({})).expect("accepted");
        assert_eq!(caller.account, Key::new("istio-system", "ztunnel"));
        let pod = CallerPod { key: Key::new("istio-system", "ztunnel-1"), uid: "u1".to_owned() };
        assert_eq!(caller.pod, Some(pod));
        assert_eq!(review(json!({"user": {"extra": {}}})).expect("accepted").pod, None);
    }

    #[test]
    fn anything_less_is_refused() {
        let check = |patch: Value, reason: &str| {
            let error = review(patch.clone()).expect_err("refused");
            assert_eq!(error.reason(), reason, "{patch}: {error}");
        };
        check(json!({"authenticated": false}), "rejected");
        check(json!({"authenticated": null}), "rejected");
        check(json!({"error": "expired"}), "rejected");
        check(json!({"audiences": ["https://kubernetes.default.svc"]}), "audience");
        check(json!({"audiences": []}), "audience");
        check(json!({"user": {"groups": ["system:authenticated"]}}), "no_service_account");
        for name in ["admin", "system:serviceaccount:a", "system:serviceaccount::b", "system:serviceaccount:a:b:c"] {
            check(json!({"user": {"username": name}}), "no_service_account");
        }
    }

    #[test]
    fn the_token_is_the_second_word() {
        let found = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().expect("ascii"));
            bearer(&metadata).map(str::to_owned)
        };
        assert_eq!(found("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(found("bearer abc"), Some("abc".to_owned()));
        assert_eq!(found("Basic abc"), None);
        assert_eq!(found("Bearer"), None);
        assert_eq!(bearer(&MetadataMap::new()), None);
    }
}
