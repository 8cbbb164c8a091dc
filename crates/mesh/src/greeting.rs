//! From a finished TLS handshake to a link: who is there, does it belong here, and is this *the* connection?
//!
//! Two nodes may dial each other at the same moment. The node with the lower id decides: it greets on the first
//! connection that it sees, and closes any other while that one lives. The higher one greets on every connection
//! and counts as connected only when it has been greeted. So both agree on one connection without a round trip,
//! and no note is ever sent into one that is about to be dropped.

use crate::{
    carrier::Carrier,
    certificate::Member,
    frame,
    goodbye::{self, Goodbye, refused_with_alert},
    limits::{GREETINGS_PER_PEER_MAX, HANDSHAKE_TIMEOUT},
    link::{Link, LinkEnds},
    links::ClaimError,
    trust::{Distrust, alert_words},
};
use branchmesh_wire::{Hello, NodeId, limits::WIRE_VERSION};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::timeout;

/// How a connection turned out.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is the link to this node now.
    Joined(NodeId),
    /// This node is connected otherwise.
    Duplicate(NodeId),
    /// It led back to this node.
    Myself,
    /// One of the two does not want the other.
    Refused(Distrust),
    /// The network or the protocol failed.
    Failed(String),
}

/// Who is being greeted: a member may have some connections in this state, not all that there can be.
#[derive(Debug, Default)]
pub(crate) struct Greeters(Mutex<HashMap<NodeId, usize>>);

/// A greeting in progress.
struct Turn<'a> {
    greeters: &'a Greeters,
    node: NodeId,
}

impl Greeters {
    fn enter(&self, node: NodeId) -> Option<Turn<'_>> {
        let mut greeters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = greeters.entry(node).or_default();
        if *turns >= GREETINGS_PER_PEER_MAX {
            return None;
        }
        *turns += 1;
        Some(Turn { greeters: self, node })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut greeters = self.greeters.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = greeters.get_mut(&self.node) {
            *turns -= 1;
            if *turns == 0 {
                greeters.remove(&self.node);
            }
        }
    }
}

/// Greets the node at the other end of `connection`, and starts the link's task if both agree.
pub(crate) async fn greet(carrier: &Arc<Carrier>, connection: Connection, dialled: bool) -> Outcome {
    let member = match peer_of(&connection) {
        Ok(member) => member,
        Err(reason) => return refuse(&connection, Goodbye::NoIdentity, reason),
    };
    let node = member.identity.node;
    if node == carrier.me().node {
        connection.close(Goodbye::Duplicate.code(), &[]);
        return Outcome::Myself;
    }
    if member.identity.site != carrier.me().site {
        return refuse(&connection, Goodbye::OtherSite, Distrust::OtherSite(member.identity.site));
    }

    let Some(_turn) = carrier.greeters().enter(node) else {
        connection.close(Goodbye::Full.code(), &[]);
        return Outcome::Failed(Goodbye::Full.words().into());
    };
    let (link, notes) = Link::new(member, connection, dialled);
    let outcome = match timeout(HANDSHAKE_TIMEOUT, agree(carrier, &link)).await {
        Ok(Ok((send, receive))) => {
            carrier.dialler().joined(link.member(), link.address());
            let ends = LinkEnds { notes, send, receive };
            tokio::spawn(link.run(carrier.clone(), ends));
            return Outcome::Joined(node);
        }
        Ok(Err(outcome)) => outcome,
        Err(_) => {
            link.close(Goodbye::TooSlow);
            Outcome::Failed("no greeting came".into())
        }
    };
    carrier.links().release(&link);
    link.forget();
    outcome
}

/// The node that the verified certificate of a connection names.
fn peer_of(connection: &Connection) -> Result<Member, Distrust> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(Distrust::NoCertificate)?;
    let leaf = chain.first().ok_or(Distrust::NoCertificate)?;
    Ok(Member::of(leaf)?)
}

fn refuse(connection: &Connection, goodbye: Goodbye, reason: Distrust) -> Outcome {
    connection.close(goodbye.code(), &[]);
    Outcome::Refused(reason)
}

/// Exchanges greetings and claims the neighbour's place for `link`.
async fn agree(carrier: &Arc<Carrier>, link: &Arc<Link>) -> Result<(SendStream, RecvStream), Outcome> {
    let decides = carrier.me().node < link.member().identity.node;
    if decides {
        choose(carrier, link).await?;
    }
    let connection = link.connection();
    let mut send = connection.open_uni().await.map_err(|error| closed(link, &error))?;
    let hello = frame::framed(&Hello::new(concat!("branchmesh ", env!("CARGO_PKG_VERSION"))));
    send.write_all(&hello).await.map_err(|error| broken(link, &error))?;
    let mut receive = connection.accept_uni().await.map_err(|error| closed(link, &error))?;
    let hello: Hello = match frame::read(&mut receive).await {
        Ok(hello) => hello,
        Err(error) if error.is_fault() => {
            link.close(Goodbye::ProtocolFault);
            return Err(Outcome::Failed(error.to_string()));
        }
        Err(error) => return Err(broken(link, &error)),
    };
    if hello.version != WIRE_VERSION {
        link.close(Goodbye::OtherVersion);
        let reason = Distrust::OtherVersion { theirs: hello.version, ours: WIRE_VERSION };
        return Err(Outcome::Refused(reason));
    }
    if !decides {
        follow(carrier, link).await?;
    }
    Ok((send, receive))
}

/// This node decides: the first connection is kept as long as it lives.
async fn choose(carrier: &Carrier, link: &Arc<Link>) -> Result<(), Outcome> {
    loop {
        match carrier.links().claim(link) {
            Ok(()) => return Ok(()),
            Err(ClaimError::Taken(existing)) if existing.is_up() => {
                link.close(Goodbye::Duplicate);
                return Err(Outcome::Duplicate(link.member().identity.node));
            }
            // Its task is telling the owner that it is gone.
            Err(ClaimError::Taken(existing)) => existing.gone().await,
            Err(ClaimError::Full) => return Err(full(link)),
        }
    }
}

/// The other node has decided for this connection: whatever stood in its place is dead to it.
async fn follow(carrier: &Carrier, link: &Arc<Link>) -> Result<(), Outcome> {
    loop {
        match carrier.links().claim(link) {
            Ok(()) => return Ok(()),
            Err(ClaimError::Taken(existing)) => {
                existing.close(Goodbye::Replaced);
                existing.gone().await;
            }
            Err(ClaimError::Full) => return Err(full(link)),
        }
    }
}

fn full(link: &Link) -> Outcome {
    link.close(Goodbye::Full);
    Outcome::Failed(Goodbye::Full.words().into())
}

/// A stream failed: most often because the connection was closed, and then that reason counts.
fn broken(link: &Link, error: &dyn std::fmt::Display) -> Outcome {
    match link.connection().close_reason() {
        Some(reason) => closed(link, &reason),
        None => {
            link.close(Goodbye::ProtocolFault);
            Outcome::Failed(error.to_string())
        }
    }
}

/// The other side closed the connection instead of greeting.
fn closed(link: &Link, error: &ConnectionError) -> Outcome {
    if let Some(alert) = refused_with_alert(error) {
        return Outcome::Refused(Distrust::RefusedUs(alert_words(alert)));
    }
    let ConnectionError::ApplicationClosed(close) = error else {
        return Outcome::Failed(goodbye::words(error));
    };
    match Goodbye::from_code(close.error_code) {
        Some(Goodbye::Duplicate) => Outcome::Duplicate(link.member().identity.node),
        Some(goodbye @ (Goodbye::OtherSite | Goodbye::OtherVersion | Goodbye::NoIdentity)) => {
            Outcome::Refused(Distrust::RefusedUs(goodbye.words().into()))
        }
        _ => Outcome::Failed(goodbye::words(error)),
    }
}
