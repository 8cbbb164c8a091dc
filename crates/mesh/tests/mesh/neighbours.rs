//! Finding each other, gossip and notes.

use crate::support::{Node, Organisation, status};
use branchmesh_mesh::{Event, Mesh, MeshConfig, MeshError, NoteError};
use branchmesh_wire::{BlockSet, IndexId, Note, Role, limits::RELEASE_BLOCKS_MAX};
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

#[tokio::test]
async fn two_nodes_meet_and_know_each_other_by_certificate() {
    let organisation = Organisation::new();
    let mut seed = organisation.start("seed-1", &[]).await;
    let mut client = organisation.start("pc-1", &[&seed]).await;

    let (identity, address) = client.connected(seed.id()).await;
    assert_eq!(&identity, seed.mesh.identity());
    assert_eq!((identity.role, identity.name.as_str()), (Role::Seed, "seed-1"));
    assert_eq!(identity.groups, ["finance"]);
    assert_eq!(address, seed.address());
    let (identity, address) = seed.connected(client.id()).await;
    assert_eq!(&identity, client.mesh.identity());
    // QUIC is dialled from the listening socket: the acceptor learns where the dialler can be dialled.
    assert_eq!(address, client.address());
}

#[tokio::test]
async fn nodes_that_dial_each_other_keep_exactly_one_connection() {
    let organisation = Organisation::new();
    for round in 0..5 {
        let first = organisation.credentials(&format!("pc-{round}-a"));
        let second = organisation.credentials(&format!("pc-{round}-b"));
        // Both know the other's address before it listens.
        let (a, b) = (free_address(), free_address());
        let (to_a, to_b) = ([a], [b]);
        let (mut first, mut second) =
            tokio::join!(Node::start_on(a, first, &to_b), Node::start_on(b, second, &to_a));
        let (first_id, second_id) = (first.id(), second.id());
        first.meet(&mut second).await;

        // A note each way has travelled behind whatever was still to come.
        for (from, to) in [(&first, &second), (&second, &first)] {
            let note = Note::Dropped { release: IndexId::of(b"x") };
            from.mesh.note(to.id(), note).unwrap();
        }
        first.mesh.gossip(status(&first, 1));
        second.mesh.gossip(status(&second, 1));
        for (node, other) in [(&mut first, second_id), (&mut second, first_id)] {
            node.status_of(other, 1).await;
            node.expect("a note", |event| matches!(event, Event::Note { .. }).then_some(())).await;
            let leftovers = node.leftovers();
            assert!(leftovers.is_empty(), "round {round}: {leftovers:?}");
        }
    }
}

#[tokio::test]
async fn gossip_reaches_members_that_are_not_neighbours() {
    let organisation = Organisation::new();
    let mut middle = organisation.start("pc-middle", &[]).await;
    let mut left = organisation.start("seed-left", &[&middle]).await;
    let mut right = organisation.start("pc-right", &[&middle]).await;
    left.meet(&mut middle).await;
    right.meet(&mut middle).await;

    // Gossiped before anybody may have subscribed: it is sent as soon as somebody has.
    let mut lying = status(&left, 7);
    lying.role = Role::Client;
    lying.name = "somebody else".into();
    left.mesh.gossip(lying);
    let heard = middle.status_of(left.id(), 7).await;
    assert_eq!((heard.role, heard.name.as_str()), (Role::Seed, "seed-left"), "the certificate counts");

    let mut sequence = 8;
    let relayed = loop {
        left.mesh.gossip(status(&left, sequence));
        sequence += 1;
        let soon = std::time::Duration::from_secs(1);
        match tokio::time::timeout(soon, right.status_of(left.id(), 7)).await {
            Ok(relayed) => break relayed,
            Err(_) => assert!(sequence < 30, "nothing was relayed"),
        }
    };
    assert_eq!(relayed.addresses, left.mesh.listen_addresses());
}

#[tokio::test]
async fn notes_arrive_in_order() {
    let organisation = Organisation::new();
    let mut first = organisation.start("pc-1", &[]).await;
    let mut second = organisation.start("pc-2", &[&first]).await;
    first.meet(&mut second).await;

    // Fewer than the queue holds, mixed in size.
    let sent: Vec<Note> = (0..600u32)
        .map(|number| {
            let release = IndexId::of(&number.to_le_bytes());
            let blocks = BlockSet::full(number + 1);
            if number % 3 == 0 { Note::Have { release, blocks } } else { Note::Dropped { release } }
        })
        .collect();
    for note in &sent {
        first.mesh.note(second.id(), note.clone()).unwrap();
    }
    for expected in &sent {
        let note = second
            .expect("a note", |event| match event {
                Event::Note { from, note } if *from == first.id() => Some(note.clone()),
                _ => None,
            })
            .await;
        assert_eq!(&note, expected);
    }
}

#[tokio::test]
async fn a_neighbour_that_does_not_read_is_dropped_instead_of_remembered_for() {
    let organisation = Organisation::new();
    let mut first = organisation.start("pc-1", &[]).await;
    // Its owner never takes an event after this.
    let mut deaf = organisation.start("pc-2", &[&first]).await;
    first.meet(&mut deaf).await;

    let mut scattered = BlockSet::empty(RELEASE_BLOCKS_MAX);
    (0..RELEASE_BLOCKS_MAX).step_by(2).for_each(|block| assert!(scattered.insert(block)));
    let note = Note::Have { release: IndexId::of(b"large"), blocks: scattered };
    let mut queued = 0;
    let error = loop {
        match first.mesh.note(deaf.id(), note.clone()) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        assert!(queued < 2000, "a gigabyte was queued");
        tokio::task::yield_now().await;
    };
    assert_eq!(error, NoteError::QueueFull);
    assert_eq!(first.disconnected(deaf.id()).await, "notes were not read");
    assert_eq!(first.mesh.note(deaf.id(), note), Err(NoteError::NotConnected));
}

#[tokio::test]
async fn a_hint_leads_to_a_connection_and_hanging_up_ends_it() {
    let organisation = Organisation::new();
    let mut first = organisation.start("pc-1", &[]).await;
    let mut second = organisation.start("pc-2", &[]).await;
    // A hint that leads back, one that leads nowhere, and the right one.
    let nowhere = free_address();
    first.mesh.dial(vec![first.address(), nowhere, second.address()], second.id());
    first.meet(&mut second).await;

    first.mesh.disconnect(second.id());
    assert_eq!(first.disconnected(second.id()).await, "the connection was no longer wanted");
    assert!(second.disconnected(first.id()).await.contains("no longer wanted"));
}

#[tokio::test]
async fn a_node_that_bootstraps_from_itself_is_no_neighbour_of_itself() {
    let organisation = Organisation::new();
    let own = free_address();
    let mut node = Node::start_on(own, organisation.credentials("pc-1"), &[own]).await;
    let mut other = organisation.start("pc-2", &[&node]).await;
    node.meet(&mut other).await;
    let leftovers = node.leftovers();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let organisation = Organisation::new();
    let node = organisation.start("pc-1", &[]).await;
    let taken_for_both = node.address();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for address in [taken_for_both, tcp.local_addr().unwrap(), udp.local_addr().unwrap()] {
        let config = MeshConfig { listen: address, site: "lyon".into(), bootstrap: Vec::new(), mdns: false };
        let name = format!("pc-{}", address.port());
        match Mesh::start(config, organisation.credentials(&name)).await {
            Err(MeshError::PortTaken { address: named }) => assert_eq!(named, address),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn configuration_and_certificate_must_name_the_same_site() {
    let organisation = Organisation::new();
    let config = MeshConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        site: "paris".into(),
        bootstrap: Vec::new(),
        mdns: false,
    };
    let error = Mesh::start(config, organisation.credentials("pc-1")).await.unwrap_err();
    assert!(error.to_string().contains("\"paris\"") && error.to_string().contains("\"lyon\""), "{error}");
}

/// An address on which nobody listens now. Its port is below those that systems give to outgoing connections, so that no
/// other test gets it by chance before it is used.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(18_740);
    let mut addresses = (0..1000).map(|_| {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        SocketAddr::from(([127, 0, 0, 1], port))
    });
    let is_free =
        |address: &SocketAddr| UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
    addresses.find(is_free).expect("a machine has a free port")
}
