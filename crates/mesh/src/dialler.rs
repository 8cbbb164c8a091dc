//! Dials what the [`Book`] says is due.

use crate::{
    book::{Book, Source, Whom},
    carrier::Carrier,
    certificate::Member,
    limits::{BACKOFF_MAX, RESOLVE_INTERVAL},
};
use branchmesh_wire::NodeId;
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::lookup_host, sync::Notify, time::sleep_until};

/// First pause after a name was not found: the network of a PC comes up later than its services.
const RESOLVE_RETRY: Duration = Duration::from_secs(1);

/// The book, and a bell to wake its reader.
#[derive(Debug)]
pub(crate) struct Dialler {
    book: Mutex<Book>,
    changed: Notify,
    local: SocketAddr,
}

impl Dialler {
    /// For a node that is bound to `local`.
    pub(crate) fn new(me: &Member, local: SocketAddr) -> Self {
        let mut book = Book::new(me);
        book.own(local);
        Self { book: Mutex::new(book), changed: Notify::new(), local }
    }

    /// `whom` is said to be at `address`.
    pub(crate) fn offer(&self, address: SocketAddr, whom: Whom, source: Source) {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let ip = address.ip();
        let reachable = match ip {
            IpAddr::V4(_) => true,
            // A link-local address means nothing without the interface, which announcements cannot name.
            IpAddr::V6(ip) => self.local.is_ipv6() && !ip.is_unicast_link_local(),
        };
        if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || !reachable {
            return;
        }
        self.book().offer(address, whom, source, Instant::now());
        self.changed.notify_one();
    }

    /// `address` is one of this node's own.
    pub(crate) fn own(&self, address: SocketAddr) {
        self.book().own(address);
    }

    /// A node is connected.
    pub(crate) fn joined(&self, member: &Member, address: SocketAddr) {
        self.book().joined(member, address, Instant::now());
    }

    /// A node is no longer connected.
    pub(crate) fn lost(&self, node: NodeId, lived: Duration) {
        self.book().lost(node, lived, Instant::now());
        self.changed.notify_one();
    }

    /// The owner hung up.
    pub(crate) fn unwanted(&self, node: NodeId) {
        self.book().unwanted(node, Instant::now());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials, for ever.
pub(crate) async fn run(carrier: Arc<Carrier>) {
    let dialler = carrier.dialler();
    let mut dials = FuturesUnordered::new();
    loop {
        let (due, next) = dialler.book().due(dials.len(), Instant::now());
        for address in due {
            let carrier = carrier.clone();
            dials.push(async move { (address, carrier.dial(address).await) });
        }
        let pause = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((address, outcome)) = dials.next(), if !dials.is_empty() => {
                tracing::debug!(%address, ?outcome, "dialled");
                dialler.book().settled(address, &outcome, Instant::now());
            }
            () = dialler.changed.notified() => {}
            () = pause => {}
        }
    }
}

/// Looks up the bootstrap addresses, again and again: PCs get other addresses, and names other hosts.
pub(crate) async fn resolve(carrier: Arc<Carrier>, hosts: Vec<String>) {
    let mut retry = RESOLVE_RETRY;
    let mut warned = false;
    while !hosts.is_empty() {
        let mut failed = false;
        for host in &hosts {
            match lookup_host(host).await {
                Ok(addresses) => {
                    for address in addresses.take(crate::limits::ADDRESSES_PER_HINT_MAX) {
                        carrier.dialler().offer(address, Whom::Anyone, Source::Bootstrap);
                    }
                }
                Err(error) => {
                    failed = true;
                    if warned {
                        tracing::debug!(%host, %error, "a bootstrap address was not found");
                    } else {
                        tracing::warn!(%host, %error, "a bootstrap address was not found; trying again");
                    }
                }
            }
        }
        warned |= failed;
        let pause = if failed { retry } else { RESOLVE_INTERVAL };
        retry = if failed { (retry * 2).min(BACKOFF_MAX) } else { RESOLVE_RETRY };
        tokio::time::sleep(pause).await;
    }
}
