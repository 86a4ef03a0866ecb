//! Changes → messages, in an order in which nothing refers to what is not there yet.
//!
//! An update is staged until its Commit, so the order is no matter of correctness to a data plane
//! that works; it lets one that is being debugged be checked record by record.

use hugepages::object::{Kind, Object, ObjectId};
use hugepages::{Digest, Message};

use crate::policy::Changes;

/// What identifies an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Boot id of this control plane.
    pub boot: u64,
    /// Generation that the update leads to.
    pub generation: u64,
    /// Whether the changes are the whole state.
    pub full: bool,
    /// Digest of the state that must result.
    pub digest: Digest,
}

/// The messages of an update: Begin, Puts of what others refer to before those others, Deletes the
/// other way round, Commit.
#[must_use]
pub fn messages(update: Update, changes: Changes) -> Vec<Message> {
    let Changes {
        mut puts,
        mut deletes,
    } = changes;
    let count = puts.len() + deletes.len();
    puts.sort_by_key(|object| layer(object.id().kind));
    deletes.sort_by_key(|id: &ObjectId| std::cmp::Reverse(layer(id.kind)));
    let mut messages = Vec::with_capacity(count + 2);
    messages.push(Message::Begin {
        boot: update.boot,
        generation: update.generation,
        full: update.full,
    });
    messages.extend(puts.into_iter().map(|object: Object| Message::Put(object)));
    messages.extend(deletes.into_iter().map(Message::Delete));
    messages.push(Message::Commit {
        boot: update.boot,
        generation: update.generation,
        changes: count as u64,
        digest: update.digest,
    });
    messages
}

/// An object refers only to objects of lower layers.
const fn layer(kind: Kind) -> u8 {
    match kind {
        Kind::BackendSet | Kind::Ranges | Kind::Network | Kind::Route => 0,
        Kind::Service => 1,
        Kind::Frontend => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::object::{
        Action, Backend, BackendSet, Frontend, FrontendKind, NO_KEY, OnEndpointGone, Protocol,
        Service, service_key,
    };

    const UPDATE: Update = Update {
        boot: 7,
        generation: 3,
        full: false,
        digest: Digest::from_words([1, 2]),
    };

    fn objects() -> [Object; 3] {
        let backend = Backend {
            address: "10.0.0.1".parse().unwrap(),
            port: 80,
        };
        let set = BackendSet::new(vec![backend]);
        let service = Service {
            key: service_key("a/b", "", Protocol::Tcp),
            name: "a/b".into(),
            port_name: String::new(),
            protocol: Protocol::Tcp,
            serving: set.key,
            on_endpoint_gone: OnEndpointGone::Keep,
        };
        let action = Action::Translate {
            set: set.key,
            masquerade: false,
        };
        let frontend = Frontend {
            address: "10.96.0.1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
            service: service.key,
            kind: FrontendKind::ClusterIp,
            affinity_timeout: 0,
            ranges: NO_KEY,
            actions: [action; 3],
        };
        [
            Object::Frontend(frontend),
            Object::Service(service),
            Object::BackendSet(set),
        ]
    }

    #[test]
    fn what_is_referred_to_is_put_first_and_deleted_last() {
        let [frontend, service, set] = objects();
        let changes = Changes {
            puts: vec![frontend.clone(), service.clone(), set.clone()],
            deletes: vec![set.id(), service.id(), frontend.id()],
        };
        let sent = messages(UPDATE, changes);
        assert_eq!(
            sent[1..7],
            [
                Message::Put(set.clone()),
                Message::Put(service.clone()),
                Message::Put(frontend.clone()),
                Message::Delete(frontend.id()),
                Message::Delete(service.id()),
                Message::Delete(set.id()),
            ]
        );
    }

    #[test]
    fn an_update_is_framed_by_begin_and_a_commit_that_counts() {
        let [frontend, ..] = objects();
        let changes = Changes {
            puts: vec![frontend.clone()],
            deletes: vec![frontend.id()],
        };
        let sent = messages(UPDATE, changes);
        let begin = Message::Begin {
            boot: 7,
            generation: 3,
            full: false,
        };
        assert_eq!(sent.first(), Some(&begin));
        let commit = Message::Commit {
            boot: 7,
            generation: 3,
            changes: 2,
            digest: UPDATE.digest,
        };
        assert_eq!(sent.last(), Some(&commit));
    }
}
