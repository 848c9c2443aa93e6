//! Which resources are served right now.
//!
//! In: built-in resources and those of CRDs. Out: a snapshot to look them up in.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::resource::{Origin, Resource, built_in};

/// The live set; readers take a snapshot.
#[derive(Debug)]
pub struct Registry {
    resources: RwLock<Arc<Vec<Arc<Resource>>>>,
}

impl Registry {
    /// The built-in resources.
    pub fn new() -> Self {
        Self { resources: RwLock::new(Arc::new(built_in().into_iter().map(Arc::new).collect())) }
    }

    /// All resources at this moment.
    pub fn all(&self) -> Arc<Vec<Arc<Resource>>> {
        self.resources.read().clone()
    }

    /// The resource of a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let all = self.all();
        let served = |resource: &&Arc<Resource>| {
            resource.group == group && resource.plural == plural && resource.version(version).is_some()
        };
        all.iter().find(served).cloned()
    }

    /// Replaces the resources that CRDs define.
    pub fn set_custom(&self, custom: Vec<Resource>) {
        let mut resources = self.resources.write();
        let kept = resources.iter().filter(|resource| resource.origin != Origin::Custom).cloned();
        *resources = Arc::new(kept.chain(custom.into_iter().map(Arc::new)).collect());
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
