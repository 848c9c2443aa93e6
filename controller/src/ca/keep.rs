//! Finds or makes what the CA signs with, and notices when it changes.
//!
//! In: a directory, Secrets. Out: the current [`Authority`], and word of each new one.
//! Order: a mounted directory, the Secret `cacerts`, and last our own root in `istio-ca-secret`, which is made where
//! there is none. Several controllers may start at once: the first to create the Secret wins, all others take it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use lateen_rt::{
    backoff::Backoff,
    deadline::{Elapsed, within},
};
use tokio::sync::watch;

use super::{
    authority::Authority,
    material::{Material, MaterialError},
};
use crate::{leader::Leading, wall_clock};

/// Our own root.
const OWN_SECRET: &str = "istio-ca-secret";
const OWN_SECRET_TYPE: &str = "istio.io/ca-root";
/// A root of the user's.
const PLUGGED_SECRET: &str = "cacerts";
const API_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a changed Secret or directory is noticed.
const CHECK_INTERVAL: Duration = Duration::from_secs(20);

/// Where to look.
#[derive(Clone)]
pub struct Sources {
    /// The API.
    pub client: Client,
    /// The namespace of the Secrets.
    pub namespace: String,
    /// A directory that may hold plugged-in files.
    pub directory: PathBuf,
    /// The name of a root we make.
    pub trust_domain: String,
}

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Something is there, but unusable.
    #[error("the CA in {place} cannot be used: {source}")]
    Unusable {
        /// Where.
        place: String,
        /// What is wrong.
        source: MaterialError,
    },
    /// Something is there, but not all of it.
    #[error("the CA in {place} is incomplete: {missing} is missing")]
    Incomplete {
        /// Where.
        place: String,
        /// The first missing file.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("{}: {source}; make it readable or remove it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The API server refused.
    #[error("Secret {name}: {source}")]
    Api {
        /// The Secret.
        name: &'static str,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The API server gave no answer.
    #[error(transparent)]
    Late(#[from] Elapsed),
}

/// The current CA. Ends only when it has one.
pub async fn first(sources: &Sources) -> watch::Sender<Arc<Authority>> {
    let mut pace = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).with_jitter(0.2);
    loop {
        match sources.find().await {
            Ok((authority, _)) => return watch::Sender::new(Arc::new(authority)),
            Err(error) => tracing::error!(%error, "there is no CA yet; trying again"),
        }
        tokio::time::sleep(pace.next_wait()).await;
    }
}

/// Keeps `current` what the sources hold, for ever. The leader makes the next root of our own in time.
pub async fn follow(sources: Sources, current: watch::Sender<Arc<Authority>>, leading: Leading) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let leads = *leading.borrow();
        match sources.check(leads, wall_clock()).await {
            Ok(found) => replace(&current, found),
            Err(error) => tracing::error!(%error, "checking the CA failed; the one in use stays"),
        }
    }
}

fn replace(current: &watch::Sender<Arc<Authority>>, found: Authority) {
    let used = current.borrow().clone();
    if used.material() == found.material() {
        return;
    }
    if !shares_trust(used.roots(), found.roots()) {
        tracing::error!(
            "the CA's roots were replaced at once, which would cut running workloads off; the CA in use stays. First \
             add the new root beside the old one, then switch the signing certificate, then remove the old root"
        );
        return;
    }
    tracing::info!("the CA has changed");
    current.send_replace(Arc::new(found));
}

/// Whether one set of roots holds the other, so that certificates of both are trusted by somebody's roots meanwhile.
fn shares_trust(old: &str, new: &str) -> bool {
    let blocks = |pem: &str| -> Vec<String> {
        let all = pem.split("-----END CERTIFICATE-----").map(|block| block.split_whitespace().collect::<String>());
        all.filter(|block| !block.is_empty()).collect()
    };
    let (old, new) = (blocks(old), blocks(new));
    old.iter().all(|one| new.contains(one)) || new.iter().all(|one| old.contains(one))
}

/// Whose CA it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Plugged,
    Own,
}

impl Sources {
    /// What is there now; our own root is replaced first where that is due and ours to do.
    async fn check(&self, leads: bool, now: SystemTime) -> Result<Authority, KeepError> {
        let (found, origin) = self.find().await?;
        let place = || format!("Secret {}/{OWN_SECRET}", self.namespace);
        let unusable = |source| KeepError::Unusable { place: place(), source };
        if !leads || origin == Origin::Plugged || !found.material().is_due(now).map_err(unusable)? {
            return Ok(found);
        }
        let next = found.material().renewed(now).map_err(unusable)?;
        self.update(found.material(), &next).await?;
        Ok(self.find().await?.0)
    }

    async fn find(&self) -> Result<(Authority, Origin), KeepError> {
        if let Some(files) = self.directory_files().await? {
            return usable(&self.directory.display().to_string(), &files).map(|found| (found, Origin::Plugged));
        }
        if let Some(files) = self.secret(PLUGGED_SECRET).await? {
            let place = format!("Secret {}/{PLUGGED_SECRET}", self.namespace);
            return usable(&place, &files).map(|found| (found, Origin::Plugged));
        }
        let place = format!("Secret {}/{OWN_SECRET}", self.namespace);
        loop {
            if let Some(files) = self.secret(OWN_SECRET).await? {
                return usable(&place, &files).map(|found| (found, Origin::Own));
            }
            let made = Material::self_signed(&self.trust_domain, wall_clock())
                .map_err(|source| KeepError::Unusable { place: place.clone(), source })?;
            // Somebody else may have been quicker; then theirs is read above.
            self.create(&made).await?;
        }
    }

    async fn directory_files(&self) -> Result<Option<Files>, KeepError> {
        let mut files = Files::new();
        for name in ALL_FILES {
            let path = self.directory.join(name);
            match tokio::fs::read(&path).await {
                Ok(bytes) => {
                    files.insert(name.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(KeepError::File { path, source }),
            }
        }
        let plugged = files.contains_key("ca-key.pem") || files.contains_key("tls.key");
        Ok(plugged.then_some(files))
    }

    async fn secret(&self, name: &'static str) -> Result<Option<Files>, KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = within("reading the CA's Secret", API_TIMEOUT, api.get_opt(name)).await?;
        let found = found.map_err(|error| KeepError::Api { name, source: Box::new(error) })?;
        let text = |bytes: ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
        Ok(found.map(|secret| {
            secret.data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, text(bytes))).collect()
        }))
    }

    /// Replaces our own root, unless somebody was quicker.
    async fn update(&self, old: &Material, new: &Material) -> Result<(), KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |error| KeepError::Api { name: OWN_SECRET, source: Box::new(error) };
        let mut secret = within("reading the CA's Secret", API_TIMEOUT, api.get(OWN_SECRET)).await?.map_err(failed)?;
        let data = secret.data.get_or_insert_default();
        if data.get("ca-cert.pem").is_none_or(|held| held.0 != old.certificate.as_bytes()) {
            return Ok(());
        }
        data.extend(files_of(new));
        // The version that was read goes along, so that of two writers one fails.
        let params = PostParams::default();
        match within("updating the CA's Secret", API_TIMEOUT, api.replace(OWN_SECRET, &params, &secret)).await? {
            Ok(_) => {
                tracing::info!(secret = OWN_SECRET, "made the next root certificate for the mesh");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn create(&self, made: &Material) -> Result<(), KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let metadata = ObjectMeta {
            name: Some(OWN_SECRET.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        };
        let secret = Secret {
            metadata,
            type_: Some(OWN_SECRET_TYPE.to_owned()),
            data: Some(files_of(made)),
            ..Secret::default()
        };
        let params = PostParams::default();
        match within("creating the CA's Secret", API_TIMEOUT, api.create(&params, &secret)).await? {
            Ok(_) => {
                tracing::info!(secret = OWN_SECRET, "made a root certificate for the mesh");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(KeepError::Api { name: OWN_SECRET, source: Box::new(error) }),
        }
    }
}

/// What our own Secret holds.
fn files_of(made: &Material) -> BTreeMap<String, ByteString> {
    let all = [
        ("ca-cert.pem", made.certificate.as_str()),
        ("ca-key.pem", made.key.as_str()),
        ("cert-chain.pem", made.chain.as_str()),
        ("key.pem", ""),
        ("root-cert.pem", made.roots.as_str()),
    ];
    all.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec()))).into()
}

/// File names and texts.
type Files = BTreeMap<String, String>;

const ALL_FILES: [&str; 7] =
    ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "tls.crt", "tls.key", "ca.crt"];

fn usable(place: &str, files: &Files) -> Result<Authority, KeepError> {
    let material = material_of(place, files)?;
    Authority::new(material, wall_clock()).map_err(|source| KeepError::Unusable { place: place.to_owned(), source })
}

/// Our own file names, or those of a `kubernetes.io/tls` Secret.
fn material_of(place: &str, files: &Files) -> Result<Material, KeepError> {
    let need = |name: &'static str| {
        let found = files.get(name).filter(|text| !text.is_empty()).cloned();
        found.ok_or_else(|| KeepError::Incomplete { place: place.to_owned(), missing: name })
    };
    if files.contains_key("tls.key") && !files.contains_key("ca-key.pem") {
        let certificate = need("tls.crt")?;
        return Ok(Material { chain: certificate.clone(), certificate, key: need("tls.key")?, roots: need("ca.crt")? });
    }
    Ok(Material {
        certificate: need("ca-cert.pem")?,
        key: need("ca-key.pem")?,
        chain: files.get("cert-chain.pem").cloned().unwrap_or_default(),
        roots: need("root-cert.pem")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(material: &Material, names: [&str; 4]) -> Files {
        let texts = [&material.certificate, &material.key, &material.chain, &material.roots];
        names.iter().map(|name| (*name).to_owned()).zip(texts.into_iter().cloned()).collect()
    }

    #[test]
    fn both_layouts_are_read_and_gaps_are_named() {
        let made = Material::self_signed("cluster.local", wall_clock()).expect("a root");
        let ours = files(&made, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);
        assert_eq!(usable("here", &ours).expect("complete").material(), &made);
        let tls = files(&made, ["tls.crt", "tls.key", "unused", "ca.crt"]);
        assert_eq!(usable("here", &tls).expect("complete").roots(), made.roots);
        for missing in ["ca-cert.pem", "ca-key.pem", "root-cert.pem"] {
            let mut part = ours.clone();
            part.remove(missing);
            let error = usable("here", &part).expect_err("incomplete").to_string();
            assert!(error.contains(missing) && error.contains("here"), "{error}");
        }
    }

    #[test]
    fn roots_may_be_added_and_removed_but_not_replaced() {
        let root = || Material::self_signed("cluster.local", wall_clock()).expect("a root").roots;
        let (one, other) = (root(), root());
        let both = format!("{one}{other}");
        assert!(shares_trust(&one, &both) && shares_trust(&both, &other) && shares_trust(&one, &one));
        assert!(!shares_trust(&one, &other));
    }
}
