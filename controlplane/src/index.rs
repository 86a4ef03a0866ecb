//! Everything the sources have said, and which services that leaves to be looked at again.
//!
//! Three operations — apply, delete, replace all of a kind — and a list of what they touched. An
//! object that is applied again unchanged touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::model::{
    ClusterObject, NodeObject, ObjectKind, ObjectName, ServiceCidrObject, ServiceObject,
    SliceObject,
};

/// The objects of the cluster by name, slices also by service.
#[derive(Debug, Default)]
pub struct Index {
    services: BTreeMap<ObjectName, ServiceObject>,
    slices: BTreeMap<ObjectName, SliceObject>,
    nodes: BTreeMap<ObjectName, NodeObject>,
    service_cidrs: BTreeMap<ObjectName, ServiceCidrObject>,
    slices_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    dirty: Dirty,
    triggers: Vec<SystemTime>,
}

/// Trigger times kept until somebody asks for them; more than one update's worth is no use.
const MOST_TRIGGERS: usize = 4_096;

/// What has changed since it was last asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Services that changed, came or went, themselves or through their slices.
    pub services: BTreeSet<ObjectName>,
    /// Whether any node changed.
    pub nodes: bool,
    /// Whether any network of services changed.
    pub service_cidrs: bool,
}

impl Dirty {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.nodes && !self.service_cidrs
    }
}

impl Index {
    /// An index of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object or takes its new version.
    pub fn apply(&mut self, object: ClusterObject) {
        match object {
            ClusterObject::Service(service) => self.apply_service(service),
            ClusterObject::Slice(slice) => self.apply_slice(slice),
            ClusterObject::Node(node) => {
                if self.nodes.get(&node.name) != Some(&node) {
                    self.nodes.insert(node.name.clone(), node);
                    self.dirty.nodes = true;
                }
            }
            ClusterObject::ServiceCidr(networks) => {
                if self.service_cidrs.get(&networks.name) != Some(&networks) {
                    self.service_cidrs.insert(networks.name.clone(), networks);
                    self.dirty.service_cidrs = true;
                }
            }
        }
    }

    /// Forgets an object; unknown names are fine.
    pub fn delete(&mut self, kind: ObjectKind, name: &ObjectName) {
        match kind {
            ObjectKind::Service => {
                if self.services.remove(name).is_some() {
                    self.dirty.services.insert(name.clone());
                }
            }
            ObjectKind::Slice => {
                if let Some(slice) = self.slices.remove(name) {
                    self.unlink(&slice);
                }
            }
            ObjectKind::Node => self.dirty.nodes |= self.nodes.remove(name).is_some(),
            ObjectKind::ServiceCidr => {
                self.dirty.service_cidrs |= self.service_cidrs.remove(name).is_some();
            }
        }
    }

    /// Takes `objects` for all there is of this kind: applies them and forgets the others.
    /// Objects of another kind are applied and otherwise ignored.
    pub fn replace(&mut self, kind: ObjectKind, objects: Vec<ClusterObject>) {
        let kept: BTreeSet<ObjectName> = objects
            .iter()
            .filter(|object| object.kind() == kind)
            .map(|object| object.name().clone())
            .collect();
        for name in self.names(kind) {
            if !kept.contains(&name) {
                self.delete(kind, &name);
            }
        }
        for object in objects {
            self.apply(object);
        }
    }

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&ServiceObject> {
        self.services.get(name)
    }

    /// Every service, in the order of their names.
    pub fn services(&self) -> impl Iterator<Item = &ServiceObject> {
        self.services.values()
    }

    /// The slices that name this service, in the order of their own names.
    pub fn slices_of<'a>(
        &'a self,
        service: &ObjectName,
    ) -> impl Iterator<Item = &'a SliceObject> + use<'a> {
        self.slices_of
            .get(service)
            .into_iter()
            .flatten()
            .filter_map(|name| self.slices.get(name))
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeObject> {
        self.nodes.get(&ObjectName::new("", name))
    }

    /// Every node, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeObject> {
        self.nodes.values()
    }

    /// Every ServiceCIDR, in the order of their names.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &ServiceCidrObject> {
        self.service_cidrs.values()
    }

    /// Number of objects of a kind.
    #[must_use]
    pub fn count(&self, kind: ObjectKind) -> usize {
        match kind {
            ObjectKind::Service => self.services.len(),
            ObjectKind::Slice => self.slices.len(),
            ObjectKind::Node => self.nodes.len(),
            ObjectKind::ServiceCidr => self.service_cidrs.len(),
        }
    }

    /// Whether something has changed since [`Self::take_dirty`].
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Names of the Services that have changed since [`Self::take_dirty`], themselves or through their slices.
    pub fn dirty_services(&self) -> impl Iterator<Item = &ObjectName> {
        self.dirty.services.iter()
    }

    /// What has changed since this was last called.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// When what led to changes of slices happened, as far as the slices say, since this was last
    /// called.
    pub fn take_triggers(&mut self) -> Vec<SystemTime> {
        std::mem::take(&mut self.triggers)
    }

    fn apply_service(&mut self, service: ServiceObject) {
        if self.services.get(&service.name) != Some(&service) {
            self.dirty.services.insert(service.name.clone());
            self.services.insert(service.name.clone(), service);
        }
    }

    fn apply_slice(&mut self, slice: SliceObject) {
        let before = self.slices.get(&slice.name);
        if before == Some(&slice) {
            return;
        }
        let triggered = slice
            .triggered
            .filter(|_| self.triggers.len() < MOST_TRIGGERS);
        if triggered != before.and_then(|before| before.triggered) {
            self.triggers.extend(triggered);
        }
        if before.is_some_and(|before| before.service == slice.service) {
            self.dirty.services.extend(slice.service.clone());
        } else {
            if let Some(before) = self.slices.remove(&slice.name) {
                self.unlink(&before);
            }
            if let Some(service) = &slice.service {
                let names = self.slices_of.entry(service.clone()).or_default();
                names.insert(slice.name.clone());
                self.dirty.services.insert(service.clone());
            }
        }
        self.slices.insert(slice.name.clone(), slice);
    }

    fn unlink(&mut self, slice: &SliceObject) {
        let Some(service) = &slice.service else {
            return;
        };
        if let Some(names) = self.slices_of.get_mut(service) {
            names.remove(&slice.name);
            if names.is_empty() {
                self.slices_of.remove(service);
            }
        }
        self.dirty.services.insert(service.clone());
    }

    fn names(&self, kind: ObjectKind) -> Vec<ObjectName> {
        match kind {
            ObjectKind::Service => self.services.keys().cloned().collect(),
            ObjectKind::Slice => self.slices.keys().cloned().collect(),
            ObjectKind::Node => self.nodes.keys().cloned().collect(),
            ObjectKind::ServiceCidr => self.service_cidrs.keys().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProxyLabels;

    fn slice(name: &str, service: Option<&str>) -> ClusterObject {
        ClusterObject::Slice(SliceObject {
            name: ObjectName::new("a", name),
            labels: ProxyLabels::default(),
            service: service.map(|service| ObjectName::new("a", service)),
            ports: Vec::new(),
            endpoints: Vec::new(),
            triggered: None,
        })
    }

    fn dirty(index: &mut Index) -> Vec<String> {
        let dirty = index.take_dirty();
        dirty.services.iter().map(ToString::to_string).collect()
    }

    fn slices(index: &Index, service: &str) -> Vec<String> {
        let name = ObjectName::new("a", service);
        let found = index.slices_of(&name);
        found.map(|slice| slice.name.name.clone()).collect()
    }

    #[test]
    fn the_same_object_again_changes_nothing() {
        let mut index = Index::new();
        index.apply(slice("x", Some("web")));
        assert_eq!(dirty(&mut index), ["a/web"]);
        index.apply(slice("x", Some("web")));
        assert!(!index.is_dirty());
    }

    #[test]
    fn a_slice_that_moves_touches_both_services() {
        let mut index = Index::new();
        index.apply(slice("x", Some("web")));
        index.take_dirty();
        index.apply(slice("x", Some("db")));
        assert_eq!(dirty(&mut index), ["a/db", "a/web"]);
        assert!(slices(&index, "web").is_empty());
        assert_eq!(slices(&index, "db"), ["x"]);
        index.apply(slice("x", None));
        assert_eq!(dirty(&mut index), ["a/db"]);
    }

    #[test]
    fn replacing_a_kind_forgets_what_is_not_listed_and_leaves_the_rest_alone() {
        let mut index = Index::new();
        for name in ["x", "y", "z"] {
            index.apply(slice(name, Some(name)));
        }
        index.take_dirty();
        index.replace(
            ObjectKind::Slice,
            vec![slice("x", Some("x")), slice("w", Some("w"))],
        );
        assert_eq!(dirty(&mut index), ["a/w", "a/y", "a/z"]);
        assert_eq!(index.count(ObjectKind::Slice), 2);
        assert_eq!(slices(&index, "x"), ["x"]);
        index.delete(ObjectKind::Slice, &ObjectName::new("a", "never-seen"));
        assert!(!index.is_dirty());
    }
}
