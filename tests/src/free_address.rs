//! Loopback addresses for the servers of tests.
//!
//! A port that the system chooses is one of those that it gives to outgoing connections, too: between the choice and the
//! server's start, or while a test has stopped the server, somebody else may be given it. So ports are taken from below all
//! such ranges (Linux from 32768, Windows and macOS from 49152), and no test of a process gets one twice.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Ports that nobody gets by chance, and that need no privilege.
const PORTS: Range<u16> = 10_000..32_000;
/// How far apart two processes begin whose numbers follow each other: more ports than a process of tests needs.
const PROCESS_PORTS: u32 = 128;
/// Ports that are tried before a test gives up.
const TRIES: usize = 1000;

/// A loopback address whose port is free for TCP and for UDP.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let candidates =
        std::iter::repeat_with(|| nth_port(process::id(), TAKEN.fetch_add(1, Ordering::Relaxed)));
    let mut addresses = candidates.take(TRIES).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| is_free(*address)).expect("a machine has a free port")
}

fn nth_port(process: u32, number: u32) -> u16 {
    let offset =
        process.wrapping_mul(PROCESS_PORTS).wrapping_add(number) % u32::from(PORTS.end - PORTS.start);
    PORTS.start + u16::try_from(offset).expect("an offset in a range of ports")
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_address_is_given_twice() {
        let addresses: BTreeSet<SocketAddr> = (0..100).map(|_| free_address()).collect();
        assert_eq!(addresses.len(), 100);
        assert!(addresses.iter().all(|address| PORTS.contains(&address.port())));
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let server = TcpListener::bind(free_address()).expect("the port is free");
        assert!(!is_free(server.local_addr().expect("it is bound")));
    }

    #[test]
    fn every_number_of_a_process_gives_a_port_of_the_range() {
        for (process, number) in [(0, 0), (1, 0), (u32::MAX, 7), (4_194_304, u32::MAX)] {
            assert!(PORTS.contains(&nth_port(process, number)), "{process} {number}");
        }
    }
}
