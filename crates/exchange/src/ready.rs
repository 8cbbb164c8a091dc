//! For whom requests are to be planned: the neighbours that have got room or blocks since they were planned last. With
//! hundreds of neighbours, to look at the others after each event costs more than it finds.

use crate::{neighbours::Neighbours, time::Time};
use branchmesh_wire::NodeId;

#[derive(Debug)]
pub(crate) enum Ready {
    /// Something may be asked of any neighbour.
    Anybody,
    /// Only of these.
    Only(Vec<NodeId>),
}

impl Ready {
    /// Nobody, until something happens.
    pub(crate) const NOBODY: Self = Self::Only(Vec::new());

    /// `node` has got room or blocks.
    pub(crate) fn add(&mut self, node: NodeId) {
        if let Self::Only(nodes) = self
            && !nodes.contains(&node)
        {
            nodes.push(node);
        }
    }

    /// Leaves those out that are named and of no use. Most events bring nothing that could be asked for.
    pub(crate) fn retain(&mut self, is_of_use: impl Fn(&NodeId) -> bool) {
        if let Self::Only(nodes) = self {
            nodes.retain(is_of_use);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Only(nodes) if nodes.is_empty())
    }

    /// Of them, those with room for a request, the one that would deliver first at the front.
    pub(crate) fn with_room(self, now: Time, neighbours: &Neighbours) -> Vec<NodeId> {
        match self {
            Self::Anybody => neighbours.with_room(now),
            Self::Only(nodes) => neighbours.with_room_among(now, nodes),
        }
    }
}
