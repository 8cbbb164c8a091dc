//! One neighbour: its data connection, the ordered notes in both directions, and its requests.
//!
//! A link lives in one task. The events of a neighbour come in order because that task sends `Connected` before it
//! reads anything and `Disconnected` after it has stopped reading.

use crate::{
    carrier::Carrier,
    certificate::Member,
    control::Command,
    event::Event,
    frame::{self, FrameError},
    goodbye::{self, Goodbye},
    limits::{
        EXPIRY_CHECK, EXPIRY_CHECK_MIN, HANDSHAKE_TIMEOUT, NOTES_QUEUED_BYTES_MAX, NOTES_QUEUED_MAX,
        REQUESTS_PER_PEER_MAX,
    },
    reply::Reply,
};
use branchmesh_wire::{Note, Refusal, Request};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};

/// A note was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// There is no connection to this node.
    #[error("the node is not connected")]
    NotConnected,
    /// The neighbour does not read its notes; the connection has been closed for that.
    #[error("the neighbour does not read its notes")]
    QueueFull,
}

/// A data connection to a neighbour.
#[derive(Debug)]
pub(crate) struct Link {
    member: Member,
    connection: Connection,
    address: SocketAddr,
    since: Instant,
    /// Whether this side dialled.
    dialled: bool,
    notes: mpsc::Sender<Vec<u8>>,
    notes_bytes: AtomicUsize,
    /// Why this side closed it.
    farewell: OnceLock<Goodbye>,
    gone: watch::Sender<bool>,
}

/// What only the task of a link holds.
pub(crate) struct LinkEnds {
    /// Notes to send.
    pub(crate) notes: mpsc::Receiver<Vec<u8>>,
    /// Where they go; the greeting has been written.
    pub(crate) send: SendStream,
    /// Where the neighbour's come from; its greeting has been read.
    pub(crate) receive: RecvStream,
}

impl Link {
    /// A link over `connection`, and the notes that its task will have to send.
    pub(crate) fn new(
        member: Member,
        connection: Connection,
        dialled: bool,
    ) -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (notes, queue) = mpsc::channel(NOTES_QUEUED_MAX);
        let address = connection.remote_address();
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let link = Self {
            member,
            connection,
            address,
            since: Instant::now(),
            dialled,
            notes,
            notes_bytes: AtomicUsize::new(0),
            farewell: OnceLock::new(),
            gone: watch::channel(false).0,
        };
        (Arc::new(link), queue)
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn is_up(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Queues a note.
    pub(crate) fn note(&self, note: &Note) -> Result<(), NoteError> {
        if !self.is_up() {
            return Err(NoteError::NotConnected);
        }
        let bytes = frame::framed(note);
        let length = bytes.len();
        let queued = self.notes_bytes.fetch_add(length, Ordering::Relaxed) + length;
        if queued <= NOTES_QUEUED_BYTES_MAX && self.notes.try_send(bytes).is_ok() {
            return Ok(());
        }
        self.close(Goodbye::NotReading);
        Err(NoteError::QueueFull)
    }

    /// Closes the connection; the task of the link does the rest.
    pub(crate) fn close(&self, goodbye: Goodbye) {
        if self.is_up() {
            let _ = self.farewell.set(goodbye);
        }
        self.connection.close(goodbye.code(), &[]);
    }

    /// Waits until the owner has been told that the neighbour is gone.
    pub(crate) async fn gone(&self) {
        let mut gone = self.gone.subscribe();
        // An error would mean that the link itself was dropped, which `&self` rules out.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Marks a link that nobody was told about as gone.
    pub(crate) fn forget(&self) {
        self.gone.send_replace(true);
    }

    /// Lives until the connection ends.
    pub(crate) async fn run(self: Arc<Self>, carrier: Arc<Carrier>, ends: LinkEnds) {
        let identity = self.member.identity.clone();
        let node = identity.node;
        tracing::debug!(%node, address = %self.address, dialled = self.dialled, "neighbour connected");
        let connected = Event::Connected { identity, address: self.address };
        let up = Command::LinkUp { peer: self.member.peer, address: self.address, dialled: self.dialled };
        if carrier.events().send(connected).await.is_err() || carrier.control().send(up).await.is_err() {
            self.close(Goodbye::Stopping);
        }

        let fault = tokio::select! {
            fault = self.write_notes(ends.notes, ends.send) => fault,
            fault = self.read_notes(ends.receive, &carrier) => fault,
            fault = self.accept_requests(&carrier) => fault,
            fault = self.watch_expiry() => fault,
            _ = self.connection.closed() => None,
        };
        if let Some(fault) = fault {
            self.close(fault);
        }
        let error = self.connection.closed().await;
        let reason = match self.farewell.get() {
            Some(goodbye) => goodbye.words().to_owned(),
            None => goodbye::words(&error),
        };
        tracing::debug!(%node, address = %self.address, %reason, "neighbour gone");
        // A closed channel means that the owner or the control plane is gone: nobody is left to be told.
        let _ = carrier.events().send(Event::Disconnected { node, reason }).await;
        let _ = carrier.control().send(Command::LinkDown { peer: self.member.peer }).await;
        carrier.links().release(&self);
        carrier.dialler().lost(node, self.since.elapsed());
        self.forget();
    }

    async fn write_notes(
        &self,
        mut notes: mpsc::Receiver<Vec<u8>>,
        mut stream: SendStream,
    ) -> Option<Goodbye> {
        while let Some(bytes) = notes.recv().await {
            if stream.write_all(&bytes).await.is_err() {
                // Either the connection is gone, or the neighbour stopped the stream.
                return self.is_up().then_some(Goodbye::NotReading);
            }
            self.notes_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        None
    }

    async fn read_notes(&self, mut stream: RecvStream, carrier: &Carrier) -> Option<Goodbye> {
        let from = self.member.identity.node;
        loop {
            let note = match frame::read::<Note>(&mut stream).await {
                Ok(note) => note,
                Err(FrameError::Broken(_)) if !self.is_up() => return None,
                Err(error) => {
                    tracing::warn!(node = %from, address = %self.address, %error, "the stream of notes failed");
                    return Some(Goodbye::ProtocolFault);
                }
            };
            // With a full queue the neighbour waits: flow control passes the pressure on.
            if carrier.events().send(Event::Note { from, note }).await.is_err() {
                return Some(Goodbye::Stopping);
            }
        }
    }

    async fn accept_requests(&self, carrier: &Arc<Carrier>) -> Option<Goodbye> {
        let places = Arc::new(Semaphore::new(REQUESTS_PER_PEER_MAX));
        // quinn bounds the streams that a neighbour may have open, and thereby these tasks. Dropping the set
        // ends them: no request comes after the end of its link.
        let mut requests = JoinSet::new();
        while let Ok((send, receive)) = self.connection.accept_bi().await {
            while requests.try_join_next().is_some() {}
            let places = both_places(&places, carrier.places());
            requests.spawn(serve(carrier.clone(), self.member.identity.clone(), send, receive, places));
        }
        None
    }

    async fn watch_expiry(&self) -> Option<Goodbye> {
        // The clock may be set meanwhile: it is looked at now and then.
        while let Ok(left) = self.member.expires.duration_since(SystemTime::now()) {
            tokio::time::sleep(left.clamp(EXPIRY_CHECK_MIN, EXPIRY_CHECK)).await;
        }
        Some(Goodbye::Expired)
    }
}

/// A place for a request of this neighbour, and one of those for all; none if either is missing.
fn both_places(own: &Arc<Semaphore>, all: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
    let own = own.clone().try_acquire_owned().ok()?;
    let all = all.clone().try_acquire_owned().ok()?;
    Some([own, all])
}

/// Reads one request and hands it to the owner.
async fn serve(
    carrier: Arc<Carrier>,
    from: branchmesh_wire::Identity,
    send: SendStream,
    mut receive: RecvStream,
    places: Option<[OwnedSemaphorePermit; 2]>,
) {
    if places.is_none() {
        let _ = receive.stop(VarInt::from_u32(0));
        return Reply::new(send, None).refuse(Refusal::Busy).await;
    }
    let request = timeout(HANDSHAKE_TIMEOUT, frame::read::<Request>(&mut receive)).await;
    // A request is all that comes this way: whatever follows is thrown away unread.
    let _ = receive.stop(VarInt::from_u32(0));
    let reply = Reply::new(send, places);
    match request {
        Ok(Ok(request)) => {
            let _ = carrier.events().send(Event::Request { from, request, reply }).await;
        }
        Ok(Err(error)) if error.is_fault() => {
            tracing::debug!(node = %from.node, %error, "a request was refused");
            reply.refuse(Refusal::Malformed).await;
        }
        // The stream broke, or nothing came in time: dropping the reply resets the stream.
        Ok(Err(_)) | Err(_) => {}
    }
}
