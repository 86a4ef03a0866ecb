//! The Services in DNS, kept up to date one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use settings::DnsPrefer;

use crate::index::Index;
use crate::model::ObjectName;

use super::service::{DnsService, label};

/// What is known of all Services, shared by the main loop, which writes, and by those who answer.
#[derive(Debug, Clone)]
pub struct Names {
    prefer: DnsPrefer,
    inner: Arc<RwLock<Known>>,
}

/// See [`Names`].
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Everything was listed once: before that, a name that is not here may exist all the same.
    pub(super) is_complete: bool,
    /// By namespace and name, both labels.
    services: BTreeMap<ObjectName, Arc<DnsService>>,
    /// Names of addresses: Services, and hosts of headless ones.
    addresses: BTreeMap<IpAddr, BTreeSet<(ObjectName, Option<String>)>>,
    /// Seconds since 1970 of the last change.
    pub(super) serial: u32,
}

impl Names {
    /// No names yet.
    #[must_use]
    pub fn new(prefer: DnsPrefer) -> Self {
        Self {
            prefer,
            inner: Arc::default(),
        }
    }

    /// Takes what is dirty in the index. After the first time the names are complete.
    pub fn refresh(&self, index: &Index) {
        let changes = index.dirty_services().filter_map(|name| {
            let known = ObjectName::new(label(&name.namespace)?, label(&name.name)?);
            let found = index
                .service(name)
                .and_then(|service| DnsService::of(service, index.slices_of(name), self.prefer));
            Some((known, found))
        });
        // Worked out before the lock is taken.
        let changes: Vec<_> = changes.collect();
        let mut known = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for (name, service) in changes {
            known.replace(name, service);
        }
        known.is_complete = true;
    }

    pub(super) fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The Service of this namespace and name.
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&DnsService> {
        let name = ObjectName::new(namespace, name);
        self.services.get(&name).map(Arc::as_ref)
    }

    /// Whether anything in this namespace is in DNS.
    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        let first = ObjectName::new(namespace, "");
        let next = self.services.range(first..).next();
        next.is_some_and(|(name, _)| name.namespace == namespace)
    }

    /// Services, and hosts below them, that have this address.
    pub(super) fn at(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = &(ObjectName, Option<String>)> {
        self.addresses.get(&address).into_iter().flatten()
    }

    fn replace(&mut self, name: ObjectName, service: Option<DnsService>) {
        let before = self.services.get(&name).map(Arc::as_ref);
        if before == service.as_ref() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.serial = now.unwrap_or_default().as_secs() as u32;
        if let Some(before) = self.services.remove(&name) {
            for (address, host) in reverse(&before) {
                if let Some(names) = self.addresses.get_mut(&address) {
                    names.remove(&(name.clone(), host));
                    if names.is_empty() {
                        self.addresses.remove(&address);
                    }
                }
            }
        }
        if let Some(service) = service {
            for (address, host) in reverse(&service) {
                let names = self.addresses.entry(address).or_default();
                names.insert((name.clone(), host));
            }
            self.services.insert(name, Arc::new(service));
        }
    }
}

/// Addresses of a Service, each with the host name that it has if the Service is headless.
fn reverse(service: &DnsService) -> Vec<(IpAddr, Option<String>)> {
    if service.hosts.is_empty() {
        let own = service.addresses.iter();
        return own.map(|address| (*address, None)).collect();
    }
    let hosts = service.hosts.iter();
    let each = hosts.flat_map(|(host, addresses)| {
        addresses
            .iter()
            .map(|address| (*address, Some(host.clone())))
    });
    each.collect()
}
