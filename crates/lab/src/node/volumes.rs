//! A pod's volumes: directories on the node, filled and kept fresh.
//!
//! In: the pod's volumes. Out: where each lies on the node. Contents that come from the API change in one step, as the
//! kubelet does it: files are links into `..data`, itself a link that is replaced.
//! Absent on purpose: volume claims and anything that needs a driver.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume},
};
use kube::{Api, api::PostParams};
use tokio::time::Instant;

use super::{
    Kubelet,
    environment::{Facts, config_map, secret},
};
use crate::world::rootfs::Bind;

/// Paths below a volume and their contents.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// How long a token lives if the pod does not say.
const TOKEN_SECONDS: i64 = 3600;

/// The volumes of one pod.
#[derive(Debug)]
pub(super) struct Volumes {
    dir: PathBuf,
    tokens: HashMap<PathBuf, Token>,
    written: HashMap<String, Files>,
    versions: u64,
}

/// A token already asked for.
#[derive(Debug, Clone)]
struct Token {
    text: String,
    /// When a new one is asked for: at 80 % of its life, as the kubelet does.
    renew_at: Instant,
}

impl Volumes {
    /// Of the pod whose things lie in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.join("volumes"), tokens: HashMap::new(), written: HashMap::new(), versions: 0 }
    }

    /// Makes every volume, or brings it up to date. May be repeated at any time.
    pub async fn refresh(&mut self, kubelet: &Kubelet, facts: &Facts<'_>) -> anyhow::Result<()> {
        for volume in facts.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            self.make(kubelet, facts, volume).await.with_context(|| format!("volume {:?}", volume.name))?;
        }
        Ok(())
    }

    async fn make(&mut self, kubelet: &Kubelet, facts: &Facts<'_>, volume: &Volume) -> anyhow::Result<()> {
        let dir = self.dir.join(&volume.name);
        if let Some(host) = &volume.host_path {
            return host_path(Path::new(&host.path), host.type_.as_deref().unwrap_or_default());
        }
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        if volume.empty_dir.is_some() {
            return fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).context("opening it to all");
        }
        let files = self.contents(kubelet, facts, volume).await?;
        if self.written.get(&volume.name) == Some(&files) {
            return Ok(());
        }
        self.versions += 1;
        replace(&dir, self.versions, &files)?;
        self.written.insert(volume.name.clone(), files);
        Ok(())
    }

    async fn contents(&mut self, kubelet: &Kubelet, facts: &Facts<'_>, volume: &Volume) -> anyhow::Result<Files> {
        let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(map) = &volume.config_map {
            let data = config_map(kubelet, namespace, &map.name, map.optional.unwrap_or_default()).await?;
            return chosen(data, map.items.as_deref(), map.optional.unwrap_or_default());
        }
        if let Some(from) = &volume.secret {
            let optional = from.optional.unwrap_or_default();
            let name = from.secret_name.as_deref().unwrap_or_default();
            return chosen(secret(kubelet, namespace, name, optional).await?, from.items.as_deref(), optional);
        }
        if let Some(down) = &volume.downward_api {
            return downward(facts, down.items.as_deref().unwrap_or_default());
        }
        let Some(projected) = &volume.projected else { bail!("its kind is not one this lab knows") };
        let mut files = Files::new();
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let optional = map.optional.unwrap_or_default();
                let data = config_map(kubelet, namespace, &map.name, optional).await?;
                files.extend(chosen(data, map.items.as_deref(), optional)?);
            }
            if let Some(from) = &source.secret {
                let optional = from.optional.unwrap_or_default();
                let data = secret(kubelet, namespace, &from.name, optional).await?;
                files.extend(chosen(data, from.items.as_deref(), optional)?);
            }
            if let Some(down) = &source.downward_api {
                files.extend(downward(facts, down.items.as_deref().unwrap_or_default())?);
            }
            if let Some(token) = &source.service_account_token {
                let text = self.token(kubelet, facts.pod, &volume.name, token).await?;
                files.insert(below(&token.path)?, text.into_bytes());
            }
        }
        Ok(files)
    }

    /// The pod's token for an audience: the one it has, or a new one when that grows old.
    async fn token(
        &mut self,
        kubelet: &Kubelet,
        pod: &Pod,
        volume: &str,
        asked: &ServiceAccountTokenProjection,
    ) -> anyhow::Result<String> {
        let key = Path::new(volume).join(&asked.path);
        if let Some(token) = self.tokens.get(&key).filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.text.clone());
        }
        let seconds = asked.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".into());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: asked.audience.clone().into_iter().collect(),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(seconds),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(kubelet.client.clone(), namespace);
        let given = api.create_token_request(&account, &PostParams::default(), &request).await;
        let given = given.with_context(|| format!("asking for a token of service account {namespace}/{account}"))?;
        let text = given.status.context("the token request has no answer")?.token;
        let life = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        self.tokens.insert(key, Token { text: text.clone(), renew_at: Instant::now() + life * 4 / 5 });
        Ok(text)
    }

    /// Where a container's mounts lie.
    pub fn binds(&self, pod: &Pod, mounts: &[k8s_openapi::api::core::v1::VolumeMount]) -> anyhow::Result<Vec<Bind>> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let known: HashMap<&str, &Volume> = volumes.map(|volume| (volume.name.as_str(), volume)).collect();
        let mut binds = Vec::new();
        for each in mounts {
            let volume = known.get(each.name.as_str()).with_context(|| format!("no volume {:?}", each.name))?;
            let root = match &volume.host_path {
                Some(host) => PathBuf::from(&host.path),
                None => self.dir.join(&volume.name),
            };
            let source = match &each.sub_path {
                Some(sub) if !sub.is_empty() => root.join(below(sub)?),
                _ => root,
            };
            let read_only = each.read_only.unwrap_or_default();
            binds.push(Bind { source, target: PathBuf::from(&each.mount_path), read_only });
        }
        Ok(binds)
    }
}

/// The path must be there, or is made where its type says so.
fn host_path(path: &Path, kind: &str) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let made = match kind {
        "" | "DirectoryOrCreate" => fs::create_dir_all(path),
        "FileOrCreate" => fs::write(path, ""),
        _ => bail!("{} does not exist on the node and its type is {kind}", path.display()),
    };
    made.with_context(|| format!("making {}", path.display()))
}

/// The entries asked for, by the paths asked for.
fn chosen(mut data: BTreeMap<String, Vec<u8>>, items: Option<&[KeyToPath]>, optional: bool) -> anyhow::Result<Files> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return data.into_iter().map(|(key, value)| Ok((below(&key)?, value))).collect();
    };
    let mut files = Files::new();
    for item in items {
        match data.remove(&item.key) {
            Some(value) => drop(files.insert(below(&item.path)?, value)),
            None if optional => {}
            None => bail!("there is no key {:?}", item.key),
        }
    }
    Ok(files)
}

fn downward(facts: &Facts<'_>, items: &[DownwardAPIVolumeFile]) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for item in items {
        let field = item.field_ref.as_ref().context("only fieldRef items are offered")?;
        files.insert(below(&item.path)?, facts.field(&field.field_path)?.into_bytes());
    }
    Ok(files)
}

/// A path that stays below its volume.
fn below(path: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && path.file_name().is_some() { Ok(path) } else { bail!("the path {path:?} leaves its volume") }
}

/// Writes `files` as version `number` of the volume in `dir`, switching from the one before in one step.
fn replace(dir: &Path, number: u64, files: &Files) -> anyhow::Result<()> {
    let name = format!("..version-{number}");
    let version = dir.join(&name);
    for (path, contents) in files {
        let path = version.join(path);
        let parent = path.parent().unwrap_or(&version);
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        fs::write(&path, contents).with_context(|| format!("writing {}", path.display()))?;
    }
    fs::create_dir_all(&version).with_context(|| format!("making {}", version.display()))?;
    let (data, next) = (dir.join("..data"), dir.join("..next"));
    let before = fs::read_link(&data).ok();
    symlink(&name, &next).and_then(|()| fs::rename(&next, &data)).context("switching to the new contents")?;
    for path in files.keys() {
        let Some(first) = path.components().next() else { continue };
        let link = dir.join(first);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(first), &link).with_context(|| format!("linking {}", link.display()))?;
        }
    }
    match before {
        Some(before) => fs::remove_dir_all(dir.join(before)).context("removing the contents before"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_change_in_one_step_and_links_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = |text: &str| Files::from([(PathBuf::from("a"), text.into()), (PathBuf::from("d/b"), text.into())]);
        for (number, text) in [(1, "one"), (2, "two")] {
            replace(dir.path(), number, &files(text)).expect("written");
            for path in ["a", "d/b"] {
                assert_eq!(fs::read_to_string(dir.path().join(path)).expect("there"), text);
            }
        }
        assert!(!dir.path().join("..version-1").exists());
        assert_eq!(fs::read_link(dir.path().join("a")).expect("a link"), Path::new("..data/a"));
    }

    #[test]
    fn paths_stay_below() {
        assert!(below("a/b").is_ok());
        for bad in ["../a", "/a", "", "a/../../b", "."] {
            assert!(below(bad).is_err(), "{bad}");
        }
    }
}
