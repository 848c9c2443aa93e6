//! Service-account tokens: issued, and recognised.
//!
//! In: who a token is for; or a token and the audiences it must name. Out: a signed JWT; or the user it proves.
//! A token bound to a pod ends with that pod.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    object,
    store::{GroupResource, ObjectKey, Store},
};

/// The audience of tokens for this server, and their issuer.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Shortest lifetime, the reference's number.
pub const SECONDS_MIN: i64 = 600;
/// Longest lifetime.
pub const SECONDS_MAX: i64 = 1 << 32;

/// Who sent a request, or whom a token proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Such as `system:serviceaccount:ns:name`.
    pub username: String,
    /// The account's uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Where a token is bound to: pod and node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The holder of the admin token.
    pub fn admin() -> Self {
        let groups = ["system:masters", "system:authenticated"].map(str::to_owned).to_vec();
        Self { username: "kubernetes-admin".to_owned(), uid: String::new(), groups, extra: BTreeMap::new() }
    }
}

/// What a token is for.
#[derive(Debug)]
pub struct Grant<'a> {
    /// The ServiceAccount object.
    pub account: &'a Value,
    /// Whom it is meant for.
    pub audiences: Vec<String>,
    /// Lifetime.
    pub seconds: i64,
    /// The pod it is bound to.
    pub pod: Option<&'a Value>,
    /// The node that pod runs on.
    pub node: Option<&'a Value>,
}

/// A signed token and its end.
#[derive(Debug)]
pub struct Issued {
    /// The JWT.
    pub token: String,
    /// Seconds since 1970.
    pub expires: i64,
}

/// Why no token could be made or no key used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key could not be made.
    #[error("the signing key for service-account tokens could not be made: {0}")]
    Key(String),
    /// Signing failed.
    #[error("a service-account token could not be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Signs and checks tokens with a key of its own, which lives as long as the server.
pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    public: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: i64,
    iss: String,
    jti: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Value,
}

impl Tokens {
    /// With a fresh key.
    pub fn new() -> Result<Self, TokenError> {
        let key = KeyPair::generate().map_err(|error| TokenError::Key(error.to_string()))?;
        Ok(Self {
            signing: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes())?,
            checking: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes())?,
            public: key.public_key_raw().to_vec(),
        })
    }

    /// The public key as a JSON web key set.
    pub fn key_set(&self) -> Value {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        // An uncompressed P-256 point: 0x04, then x and y of 32 bytes each.
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(self.public.get(range).unwrap_or(&[]));
        json!({ "keys": [{ "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": KEY_ID, "x": part(1..33), "y": part(33..65) }] })
    }

    /// Signs a token.
    pub fn issue(&self, grant: &Grant<'_>) -> Result<Issued, TokenError> {
        let now = jiff::Timestamp::now().as_second();
        let expires = now + grant.seconds;
        let (namespace, name) = (object::namespace(grant.account), object::name(grant.account));
        let mut bound =
            json!({ "namespace": namespace, "serviceaccount": { "name": name, "uid": object::uid(grant.account) } });
        for (key, to) in [("pod", grant.pod), ("node", grant.node)] {
            if let Some(to) = to {
                bound[key] = json!({ "name": object::name(to), "uid": object::uid(to) });
            }
        }
        let claims = Claims {
            aud: grant.audiences.clone(),
            exp: expires,
            iat: now,
            nbf: now,
            iss: ISSUER.to_owned(),
            jti: object::new_uid(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            kubernetes: bound,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KEY_ID.to_owned());
        Ok(Issued { token: jsonwebtoken::encode(&header, &claims, &self.signing)?, expires })
    }

    /// Whom `token` proves to one of `audiences`, and which of them it names; or why it proves nothing.
    pub fn check(&self, store: &Store, token: &str, audiences: &[String]) -> Result<Proof, String> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(audiences);
        rules.validate_nbf = true;
        rules.leeway = 1;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.checking, &rules)
            .map_err(|error| format!("invalid bearer token: {error}"))?
            .claims;
        let named = audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        Ok(Proof { user: user_of(store, &claims)?, audiences: named })
    }
}

const KEY_ID: &str = "lateen-embedded-api";

/// A token that holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whom it proves.
    pub user: User,
    /// To whom, of those that asked.
    pub audiences: Vec<String>,
}

fn user_of(store: &Store, claims: &Claims) -> Result<User, String> {
    let bound = &claims.kubernetes;
    let namespace = object::text(bound, "/namespace");
    let name = object::text(bound, "/serviceaccount/name");
    let account = find(store, "serviceaccounts", namespace, name)
        .ok_or_else(|| format!("service account {namespace}/{name} has been deleted"))?;
    let uid = object::text(bound, "/serviceaccount/uid");
    if object::uid(&account) != uid {
        return Err(format!("the service account UID ({}) does not match the claim ({uid})", object::uid(&account)));
    }
    let mut extra = BTreeMap::new();
    let mut add =
        |key: &str, value: &str| extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    add("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = bound.get("pod") {
        let (pod_name, pod_uid) = (object::text(pod, "/name"), object::text(pod, "/uid"));
        let present = find(store, "pods", namespace, pod_name);
        if present.is_none_or(|present| object::uid(&present) != pod_uid) {
            return Err(format!("pod {namespace}/{pod_name} (uid {pod_uid}) the token is bound to has been deleted"));
        }
        add("pod-name", pod_name);
        add("pod-uid", pod_uid);
    }
    if let Some(node) = bound.get("node") {
        add("node-name", object::text(node, "/name"));
        add("node-uid", object::text(node, "/uid"));
    }
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    Ok(User { username: claims.sub.clone(), uid: uid.to_owned(), groups, extra })
}

fn find(store: &Store, resource: &str, namespace: &str, name: &str) -> Option<std::sync::Arc<Value>> {
    store.get(&GroupResource::new("", resource), &ObjectKey::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, resource: &str, name: &str, uid: &str) -> std::sync::Arc<Value> {
        let object = json!({"metadata": {"name": name, "namespace": "n", "uid": uid}});
        store.put(&GroupResource::new("", resource), object)
    }

    #[test]
    fn a_token_proves_its_account_to_its_audience_while_its_pod_lives() {
        let (store, tokens) = (Store::default(), Tokens::new().expect("a key"));
        let account = put(&store, "serviceaccounts", "sa", "u1");
        let pod = put(&store, "pods", "p", "u2");
        let node = json!({"metadata": {"name": "node-1", "uid": "u3"}});
        let audiences = vec!["istio-ca".to_owned()];
        let grant =
            Grant { account: &account, audiences: audiences.clone(), seconds: 600, pod: Some(&pod), node: Some(&node) };
        let token = tokens.issue(&grant).expect("signed").token;
        let proof = tokens.check(&store, &token, &["other".to_owned(), "istio-ca".to_owned()]).expect("it holds");
        assert_eq!(proof.audiences, audiences);
        assert_eq!(proof.user.username, "system:serviceaccount:n:sa");
        assert_eq!(proof.user.extra["authentication.kubernetes.io/node-name"], ["node-1"]);
        assert_eq!(proof.user.extra["authentication.kubernetes.io/pod-uid"], ["u2"]);
        assert!(tokens.check(&store, &token, &["other".to_owned()]).is_err());
        assert!(tokens.check(&store, "x.y.z", &audiences).is_err());
        let stranger = Tokens::new().expect("a key");
        assert!(stranger.check(&store, &token, &audiences).is_err());
        store.remove(&GroupResource::new("", "pods"), &ObjectKey::new("n", "p"));
        assert!(tokens.check(&store, &token, &audiences).expect_err("gone").contains("has been deleted"));
        let grant = Grant { account: &account, audiences: audiences.clone(), seconds: -60, pod: None, node: None };
        let late = tokens.issue(&grant).expect("signed").token;
        assert!(tokens.check(&store, &late, &audiences).expect_err("late").contains("ExpiredSignature"));
    }
}
