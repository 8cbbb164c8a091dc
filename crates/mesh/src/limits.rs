//! Every bound of the network shell in one place, each with the resource that it protects.
//!
//! A member of the site is a machine that may be broken or stolen: nothing here relies on its good will.

use std::time::Duration;

// --- Connections -----------------------------------------------------------------------------------------

/// Connections of libp2p and of quinn together per plane: file handles and memory. A site has at most 500 nodes.
pub(crate) const CONNECTIONS_MAX: u32 = 1024;
/// libp2p connections to one peer: one, and a second while both sides settle on it.
pub(crate) const CONTROL_CONNECTIONS_PER_PEER_MAX: u32 = 2;
/// Handshakes in progress, per plane: an outsider can make us do so much work at once and no more.
pub(crate) const HANDSHAKES_MAX: u32 = 64;
/// Connections of one node that have not been agreed on yet: two that crossed, and retries.
pub(crate) const GREETINGS_PER_PEER_MAX: usize = 4;
/// From so many QUIC handshakes in progress on, the other side must prove its address first (stateless retry).
pub(crate) const HANDSHAKES_BEFORE_RETRY: u32 = 32;
/// QUIC connection attempts that wait to be looked at; the accept loop needs microseconds for each.
pub(crate) const INCOMING_MAX: usize = 64;
/// Bytes kept for one such attempt: its first flight. All together: [`INCOMING_MAX`] of them.
pub(crate) const INCOMING_BUFFER: u64 = 16 << 10;
/// Time for TLS and, on the data plane, for the greeting after it. Slow peers must not hold handshake slots.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

// --- Liveness --------------------------------------------------------------------------------------------

/// How often an idle data connection shows that it is alive.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Silence after which a neighbour counts as gone: three lost keep-alives in a row. QUIC restarts the clock with the
/// first of them, so that it takes a second more; a fetcher must be replaced within 5 s.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_millis(3500);
/// Longest wait for the next byte of a request or response that should come.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the certificate of a connected neighbour is compared with the clock.
pub(crate) const EXPIRY_CHECK: Duration = Duration::from_secs(30);
/// And in the last moments of its validity.
pub(crate) const EXPIRY_CHECK_MIN: Duration = Duration::from_millis(100);

// --- Data plane windows: measured to fill 1 Gbit/s and more, see CRATES.md ---------------------------------

/// Bytes that a neighbour may have under way to us: memory per connection.
pub(crate) const RECEIVE_WINDOW: u32 = 16 << 20;
/// Of these, on one stream: a segment.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes kept for retransmission to one neighbour: memory per connection.
pub(crate) const SEND_WINDOW: u64 = 8 << 20;
/// Socket buffers to ask for: 0.7 % of packets are lost on loopback without. A refusal is fine.
pub(crate) const SOCKET_BUFFER: usize = 4 << 20;
/// Upper bound of path MTU discovery: ten segments of it must fit into one 64 KiB offload.
pub(crate) const MTU_MAX: u16 = 6500;
/// Packets that a neighbour may take in before it acknowledges them. QUIC's two cost every busy link 2.7 % of its other
/// direction, and both processors a packet for each two (draft-ietf-quic-ack-frequency).
pub(crate) const PACKETS_PER_ACK: u32 = 16;

// --- Streams ---------------------------------------------------------------------------------------------

/// Requests of one neighbour in progress; beyond it is told that we are busy.
pub(crate) const REQUESTS_PER_PEER_MAX: usize = 32;
/// Requests of all neighbours in progress: bounds disk reads and bytes held for them.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Streams that a neighbour may open at once: twice its requests, so that `Busy` can still be said.
pub(crate) const STREAMS_PER_PEER_MAX: u32 = 2 * REQUESTS_PER_PEER_MAX as u32;
/// Notes that wait for one neighbour.
pub(crate) const NOTES_QUEUED_MAX: usize = 1024;
/// Bytes of such notes: a neighbour that does not read is dropped before it costs more. A have-map of the
/// largest release has half a megabyte.
pub(crate) const NOTES_QUEUED_BYTES_MAX: usize = 8 << 20;
/// Events that wait for the owner of the mesh; beyond it neighbours wait (flow control), gossip is dropped.
pub(crate) const EVENTS_MAX: usize = 1024;
/// Messages between the two planes that wait to be looked at.
pub(crate) const COMMANDS_MAX: usize = 256;

// --- Finding each other ----------------------------------------------------------------------------------

/// Addresses that are remembered: anyone on the LAN can announce any (mDNS is not signed).
pub(crate) const CANDIDATES_MAX: usize = 1024;
/// Addresses that one announcement or hint may add.
pub(crate) const ADDRESSES_PER_HINT_MAX: usize = 8;
/// Dials in progress.
pub(crate) const DIALS_MAX: usize = 32;
/// With so many neighbours, no more are looked for: a random graph of this degree connects any site.
/// Hints of the owner and incoming connections are still welcome.
pub(crate) const NEIGHBOURS_WANTED: usize = 64;
/// Failures after which an address that never worked is forgotten; it will be announced again.
pub(crate) const CANDIDATE_FAILURES_MAX: u32 = 8;
/// First pause before an address is tried again; doubles with each failure.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest such pause.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Pause after a refusal: other site, other CA. Their certificate will not change soon.
pub(crate) const BACKOFF_REFUSED: Duration = Duration::from_secs(60);
/// Pause after the owner hung up.
pub(crate) const BACKOFF_UNWANTED: Duration = Duration::from_secs(300);
/// The node with the higher id gives the lower one so much time to dial.
pub(crate) const COURTESY: Duration = Duration::from_millis(500);
/// A connection that lived shorter does not reset the back-off.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How often bootstrap names are looked up again.
pub(crate) const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

// --- Gossip and logs -------------------------------------------------------------------------------------

/// Bytes of the certificates that an author puts before its status.
pub(crate) const GOSSIP_CHAIN_MAX: usize = 6 << 10;
/// Certificates in a chain: leaf and intermediates.
pub(crate) const CHAIN_MAX: usize = 4;
/// Authors whose certificates are remembered as checked: a site of 500 with room for renewals.
pub(crate) const AUTHORS_MAX: usize = 2048;
/// Statuses a second of one author that are passed on in the long run; further ones are ignored.
pub(crate) const STATUSES_PER_SECOND: u32 = 10;
/// Statuses of one author that may come at once.
pub(crate) const STATUSES_BURST: u32 = 50;
/// Groups in one certificate.
pub(crate) const GROUPS_MAX: usize = 64;
/// The same refusal of the same address is told once in this time.
pub(crate) const REFUSAL_REPEAT: Duration = Duration::from_secs(60);
/// Refusals that are remembered for that; while full, further ones are only counted.
pub(crate) const REFUSALS_MAX: usize = 256;
/// Bytes of a PEM file: a chain of certificates or a key, not somebody's disk image.
pub(crate) const PEM_FILE_MAX: u64 = 256 << 10;
