//! The LAN: who reaches whom, connections that hold on to what cannot be delivered until they are given up, and a message's
//! way from one host to another.

use crate::{
    event::{Event, Life, Link, Message},
    host::HostId,
    port::{Content, Parcel, duration},
    world::World,
};
use branchmesh_exchange::TransferId;
use branchmesh_wire::IndexId;
use rand::RngExt;
use std::time::Duration;

/// When a connection whose other end is silent is given up.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Until two hosts that reach each other again are connected.
const MEET_AGAIN: Duration = Duration::from_millis(500);
/// Bytes on the wire of an answer that holds no block.
const EMPTY_BYTES: u64 = 4;

impl World {
    /// Whether what one sends reaches the other now.
    pub(crate) fn reaches(&self, a: HostId, b: HostId) -> bool {
        let (a, b) = (self.host(a), self.host(b));
        a.runs() && b.runs() && a.part == b.part
    }

    pub(crate) fn meet(&mut self, a: HostId, b: HostId) {
        let link = self.host(a).links.get(&b);
        let is_up = link.is_some() && link == self.host(b).links.get(&a);
        if is_up || !self.reaches(a, b) {
            return;
        }
        self.links_made += 1;
        let number = self.links_made;
        for (one, other) in [(a, b), (b, a)] {
            // The older connection of an end that has not noticed is replaced.
            if let Some(number) = self.host(one).links.get(&other).copied() {
                self.lose_link(Link { from: one, to: other, number });
            }
            self.host_mut(one).links.insert(other, number);
        }
        let now = self.now;
        for (one, other) in [(a, b), (b, a)] {
            self.with(one, |exchange| exchange.handle_connected(now, other.node(), &other.to_string()));
        }
    }

    /// The end `from` gives a connection up.
    pub(crate) fn lose_link(&mut self, link: Link) {
        let Link { from, to, number } = link;
        if self.host(from).links.get(&to) != Some(&number) {
            return;
        }
        let host = self.host_mut(from);
        host.links.remove(&to);
        host.up.cancel(to, None);
        self.stalled.retain(|(stalled, _)| (stalled.from, stalled.to, stalled.number) != (to, from, number));
        let now = self.now;
        self.with(from, |exchange| exchange.handle_disconnected(now, to.node()));
    }

    /// Both ends of all connections of `host` that lead to where it does not reach give up, each when it notices.
    pub(crate) fn give_up_links(&mut self, host: HostId, after: Duration) {
        for other in self.ids() {
            for (from, to) in [(host, other), (other, host)] {
                if let Some(number) = self.host(from).links.get(&to).copied() {
                    self.after(after, Event::LinkDown(Link { from, to, number }));
                }
            }
        }
    }

    /// Connections of `host` whose other end is gone.
    pub(crate) fn one_sided(&self, host: HostId) -> Vec<Link> {
        let links =
            self.host(host).links.iter().map(|(to, number)| Link { from: host, to: *to, number: *number });
        links.filter(|link| self.host(link.to).links.get(&host) != Some(&link.number)).collect()
    }

    /// Hosts of `host`'s part look for each other, those first that are nearest in number.
    pub(crate) fn look_around(&mut self, host: HostId, after: Duration) {
        let mut others: Vec<HostId> = self.ids().filter(|other| *other != host).collect();
        if others.len() > self.spec.connections {
            for at in (1..others.len()).rev() {
                others.swap(at, self.rng.random_range(0..=at));
            }
            others.truncate(self.spec.connections);
        }
        for (number, other) in (0u32..).zip(others) {
            self.after(
                after + Duration::from_millis(20) + Duration::from_millis(1) * number,
                Event::Found(host, other),
            );
        }
    }

    /// The LAN is in parts from now on, which don't reach each other.
    pub(crate) fn divide(&mut self, part_of: impl Fn(HostId) -> u8) {
        let now = self.now;
        let ids: Vec<HostId> = self.ids().collect();
        for id in &ids {
            let host = self.host_mut(*id);
            if host.part != part_of(*id) {
                (host.part, host.settled_at) = (part_of(*id), now);
            }
        }
        for id in &ids {
            let cut: Vec<(HostId, u32)> =
                self.host(*id).links.iter().map(|(to, number)| (*to, *number)).collect();
            for (to, number) in cut {
                if !self.reaches(*id, to) {
                    self.after(IDLE_TIMEOUT, Event::LinkDown(Link { from: *id, to, number }));
                }
            }
            self.look_around(*id, MEET_AGAIN);
        }
        self.deliver_stalled();
    }

    /// Sends a message; it arrives after those that were sent before it.
    pub(crate) fn send(&mut self, link: Link, message: Message) {
        let delay = self.lan_delay();
        self.after(delay, Event::Message(link, message));
    }

    /// A message arrives, waits for the hosts to reach each other again, or is lost with its connection.
    pub(crate) fn arrive(&mut self, link: Link, message: Message) {
        if self.host(link.to).links.get(&link.from) != Some(&link.number) {
            return;
        }
        if !self.host(link.to).runs() || self.host(link.from).part != self.host(link.to).part {
            self.stalled.push((link, message));
            return;
        }
        match message {
            Message::Note(note) => {
                let (now, node) = (self.now, link.from.node());
                // What an honest node says is never taken for an offence; of others the exchange may complain.
                let mut result = Ok(());
                self.with(link.to, |exchange| result = exchange.handle_note(now, node, note));
                if let Err(misbehaviour) = result {
                    let is_honest = self.host(link.from).is_honest();
                    self.checks.complaint(now, is_honest, &misbehaviour);
                }
            }
            Message::Request { transfer, release, blocks } => self.serve(link, transfer, release, &blocks),
            Message::Cancel(transfer) => self.host_mut(link.to).up.cancel(link.from, Some(transfer)),
            Message::Block(parcel) => self.receive(&parcel),
        }
    }

    /// What waited for a part of the LAN, or for a host, goes on.
    pub(crate) fn deliver_stalled(&mut self) {
        for (link, message) in std::mem::take(&mut self.stalled) {
            self.arrive(link, message);
        }
    }

    fn serve(&mut self, link: Link, transfer: TransferId, release: IndexId, blocks: &[u32]) {
        let (asker, server) = (link.from, link.to);
        self.host_mut(server).asked += 1;
        let nature = self.host(server).spec.nature;
        let back = Link { from: server, to: asker, number: link.number };
        for (number, block) in blocks.iter().enumerate() {
            let Some(content) = nature.answer(self.host(server).holds(&release, *block)) else { return };
            let whole = self.bytes_of(&release, *block);
            let bytes = if content == Content::Missing { EMPTY_BYTES } else { whole };
            let is_last = number + 1 == blocks.len();
            let parcel = Parcel { link: back, transfer, release, block: *block, content, bytes, is_last };
            self.host_mut(server).up.push(parcel);
        }
        self.feed_uplink(server);
    }

    /// A port sends the next block, if it has one.
    pub(crate) fn feed_uplink(&mut self, id: HostId) {
        let host = self.host_mut(id);
        if host.up.is_busy {
            return;
        }
        let Some(parcel) = host.up.next() else { return };
        host.up.is_busy = true;
        let (rate, life): (u64, Life) = (host.spec.nature.rate(host.spec.up), (id, host.life));
        let again = if self.rng.random_bool(self.spec.lan_loss) { 2 } else { 1 };
        self.after(duration(parcel.bytes * again, rate), Event::Sent(life, parcel));
    }

    /// A block has left its host.
    pub(crate) fn sent(&mut self, from: Life, parcel: Parcel) {
        if !self.is_life(from) {
            return;
        }
        self.host_mut(from.0).up.is_busy = false;
        self.feed_uplink(from.0);
        let (ready, delay) = (self.now, self.lan_delay());
        let to = self.host_mut(parcel.link.to);
        let rate = to.spec.down;
        let at = to.down.pass(ready + delay, parcel.bytes, rate);
        self.queue.plan(at, Event::Message(parcel.link, Message::Block(parcel)));
    }

    /// From one host to another; longer if the first packet is lost.
    fn lan_delay(&mut self) -> Duration {
        let lost = self.rng.random_bool(self.spec.lan_loss);
        if lost { self.spec.lan_delay + RETRY } else { self.spec.lan_delay }
    }
}

/// What a lost packet costs: QUIC and TCP notice it after a round trip and some patience.
const RETRY: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::HostSpec, release::Release, transition::Transition, world::SiteSpec};

    const ONE: HostId = HostId(0);
    const OTHER: HostId = HostId(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Two that are connected, of which the second holds a release; before anybody has learned of it.
    fn pair() -> (World, IndexId, Link) {
        let mut world = World::new(1, SiteSpec::default());
        let release = world.publish(Release::of_blocks("release 1", 64));
        world.add(HostSpec { wanted: false, ..HostSpec::default() });
        world.add(HostSpec { holds: vec![release], ..HostSpec::default() });
        world.run_for(ms(500));
        let number = world.host(ONE).links[&OTHER];
        assert_eq!(world.host(OTHER).links[&ONE], number);
        (world, release, Link { from: ONE, to: OTHER, number })
    }

    /// Asks for a block each, in this order.
    fn ask(world: &mut World, link: Link, release: IndexId, transfers: &[u64]) {
        for transfer in transfers.iter().copied().map(TransferId) {
            world.send(link, Message::Request { transfer, release, blocks: vec![1] });
        }
    }

    fn waiting(world: &World) -> Vec<u64> {
        world.host(OTHER).up.waiting().map(|parcel| parcel.transfer.0).collect()
    }

    #[test]
    fn a_block_takes_its_bytes_through_both_ports() {
        let (mut world, release, link) = pair();
        let bytes = world.release(&release).unwrap().bytes_of(1);
        world.host_mut(ONE).open.insert(TransferId(7));
        (world.host_mut(ONE).spec.down, world.host_mut(OTHER).spec.up) = (2 * bytes, bytes);
        ask(&mut world, link, release, &[7]);
        // There and back, a second to leave, and half a second to arrive.
        world.run_for(ms(1 + 1000 + 1 + 500 - 1));
        assert!(world.host(ONE).open.contains(&TransferId(7)));
        world.run_for(ms(1));
        assert!(!world.host(ONE).open.contains(&TransferId(7)));
    }

    #[test]
    fn what_is_sent_during_a_short_partition_arrives_after_it_and_in_order() {
        let (mut world, release, link) = pair();
        world.apply(&Transition::Split(1));
        ask(&mut world, link, release, &[7, 8, 9]);
        world.run_for(IDLE_TIMEOUT / 2);
        assert_eq!(world.requests_received(OTHER), 0);
        world.apply(&Transition::Heal);
        assert_eq!(world.requests_received(OTHER), 3);
        // The first is on the wire.
        assert_eq!(waiting(&world), [8, 9]);
    }

    #[test]
    fn what_is_sent_during_a_long_partition_is_lost_with_its_connection() {
        let (mut world, release, link) = pair();
        world.apply(&Transition::Split(1));
        ask(&mut world, link, release, &[7]);
        world.run_for(IDLE_TIMEOUT + ms(100));
        assert!(world.host(ONE).links.is_empty() && world.host(OTHER).links.is_empty());
        world.apply(&Transition::Heal);
        world.run_for(2 * MEET_AGAIN);
        assert!(world.host(ONE).links[&OTHER] > link.number, "the next connection is another one");
        assert_eq!(world.requests_received(OTHER), 0);
    }

    #[test]
    fn what_was_sent_to_one_that_was_killed_is_lost() {
        let (mut world, release, link) = pair();
        ask(&mut world, link, release, &[7]);
        world.apply(&Transition::Kill(OTHER));
        world.apply(&Transition::Start(OTHER));
        world.run_for(ms(500));
        assert_eq!(world.requests_received(OTHER), 0);
    }
}
