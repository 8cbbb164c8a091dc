//! The table of data connections: at most one per neighbour.

use crate::{limits::CONNECTIONS_MAX, link::Link};
use branchmesh_wire::NodeId;
use libp2p::PeerId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All links, from the moment on at which one was chosen for a pair of nodes.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<HashMap<NodeId, Arc<Link>>>);

/// A link did not get the place of its neighbour.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// Another one has it.
    Taken(Arc<Link>),
    /// There are [`CONNECTIONS_MAX`] links.
    Full,
}

impl Links {
    /// Makes `link` the one of its neighbour.
    pub(crate) fn claim(&self, link: &Arc<Link>) -> Result<(), ClaimError> {
        let mut links = self.lock();
        let node = link.member().identity.node;
        if let Some(existing) = links.get(&node) {
            return Err(ClaimError::Taken(existing.clone()));
        }
        if links.len() >= CONNECTIONS_MAX as usize {
            return Err(ClaimError::Full);
        }
        links.insert(node, link.clone());
        Ok(())
    }

    /// Gives the place back, if `link` has it.
    pub(crate) fn release(&self, link: &Arc<Link>) {
        let mut links = self.lock();
        let node = link.member().identity.node;
        if links.get(&node).is_some_and(|existing| Arc::ptr_eq(existing, link)) {
            links.remove(&node);
        }
    }

    /// The link to a node, if it is usable.
    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Link>> {
        self.lock().get(&node).filter(|link| link.is_up()).cloned()
    }

    /// The link to the node with this key.
    pub(crate) fn of_peer(&self, peer: &PeerId) -> Option<Arc<Link>> {
        self.lock().values().find(|link| link.member().peer == *peer).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
