//! A branch office and its headquarters as network namespaces.
//!
//! ```text
//!  origin ==wan0==(thin)==wan0== router --lan0-- switch (bridge) --port11-- pc11
//!  10.77.0.1            10.77.0.2   10.78.0.1                     --port12-- pc12 …
//! ```
//!
//! All hosts, the switch included, are namespaces of their own: nothing touches the machine's network. Frames on
//! the WAN have the size that they have on a real one: segmentation offload is off there, so that the interface
//! counters count each frame's headers, 4.6 % of a full frame.
//!
//! Names carry the process id of the test, so that what a killed run left behind is found and removed.

use crate::{counters, place::Place, run::run};
use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Begins the name of every namespace made here.
const PREFIX: &str = "bmtest";
/// No `ip` or `tc` command takes longer.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
/// A token bucket makes up for what it could not pass while the processors, which carry all hosts here, were busy with
/// others: a router's line knows no such pauses. 26 ms of 20 Mbit/s.
const WAN_BURST: &str = "64kb";
/// On the LAN it passes what a network card is given at once, 64 KiB: cutting that into frames is the card's work, not that
/// of the processors, which carry all hosts here. The counters count the headers of all frames all the same.
const LAN_BURST: &str = "80kb";
/// How long a frame may wait in a shaper: like the buffer of an office router.
const QUEUE: &str = "100ms";
/// The origin's address on the WAN.
pub const ORIGIN_ADDRESS: &str = "10.77.0.1";
/// Last part of the first client's address: `10.78.0.11`.
const FIRST_CLIENT: usize = 11;

/// The address of a site's `number`th client, counted from 0.
///
/// # Panics
/// If no site has so many.
#[must_use]
pub fn client_address(number: usize) -> IpAddr {
    let last = u8::try_from(FIRST_CLIENT + number).expect("a site is one subnet of 256 addresses");
    [10, 78, 0, last].into()
}

/// What the links of an office carry.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    /// From the origin towards the site, in Mbit/s.
    pub wan_mbit: u32,
    /// Each client's link, in each direction, in Mbit/s.
    pub lan_mbit: u32,
}

impl Links {
    /// Seconds that the WAN takes for so many bytes, headers not counted.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures far below 2^52 bytes")]
    pub fn wan_seconds(&self, bytes: u64) -> f64 {
        bytes as f64 * 8.0 / (f64::from(self.wan_mbit) * 1e6)
    }
}

/// The network: an origin, a router, and clients at a switch.
#[derive(Debug)]
pub struct Site {
    name: String,
    links: Links,
    clients: usize,
}

impl Site {
    /// Builds the network, without clients.
    ///
    /// # Panics
    /// If a command fails.
    #[must_use]
    pub fn new(links: Links) -> Self {
        static SITES: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        let site = Self { name: format!("{PREFIX}-{}-{number}", std::process::id()), links, clients: 0 };
        let (origin, router, switch) = (site.host("origin"), site.host("router"), site.host("switch"));
        for host in [&origin, &router, &switch] {
            make_host(host);
        }
        ip(&format!("-n {origin} link add wan0 type veth peer name wan0 netns {router}"));
        for host in [&origin, &router] {
            ip(&format!("-n {host} link set wan0 gso_max_segs 1"));
        }
        up(&origin, "wan0", Some("10.77.0.1/24"));
        up(&router, "wan0", Some("10.77.0.2/24"));
        shape(&origin, "wan0", links.wan_mbit, WAN_BURST);
        ip(&format!("-n {origin} route add default via 10.77.0.2"));

        ip(&format!("-n {switch} link add bridge0 type bridge mcast_snooping 0"));
        up(&switch, "bridge0", None);
        ip(&format!("-n {router} link add lan0 type veth peer name uplink netns {switch}"));
        up(&router, "lan0", Some("10.78.0.1/24"));
        plug(&switch, "uplink");
        done(Place::Namespace(router).command("sysctl").args(["-qw", "net.ipv4.ip_forward=1"]));
        site
    }

    /// Plugs in one more client, and says where that is.
    ///
    /// # Panics
    /// If a command fails.
    pub fn add_client(&mut self) -> Place {
        let number = FIRST_CLIENT + self.clients;
        self.clients += 1;
        let (switch, port) = (self.host("switch"), port(number));
        let client = self.host(&format!("pc{number}"));
        make_host(&client);
        ip(&format!("-n {client} link add lan0 type veth peer name {port} netns {switch}"));
        up(&client, "lan0", Some(&format!("{}/24", client_address(self.clients - 1))));
        plug(&switch, &port);
        shape(&client, "lan0", self.links.lan_mbit, LAN_BURST);
        shape(&switch, &port, self.links.lan_mbit, LAN_BURST);
        ip(&format!("-n {client} route add default via 10.78.0.1"));
        Place::Namespace(client)
    }

    /// The switch that all clients are plugged into.
    #[must_use]
    pub fn switch(&self) -> Place {
        Place::Namespace(self.host("switch"))
    }

    /// Names of the switch's interfaces towards the clients, in the order in which they were plugged in.
    #[must_use]
    pub fn ports(&self) -> Vec<String> {
        (FIRST_CLIENT..FIRST_CLIENT + self.clients).map(port).collect()
    }

    /// Where the origin's web server runs.
    #[must_use]
    pub fn origin(&self) -> Place {
        Place::Namespace(self.host("origin"))
    }

    /// What its links carry.
    #[must_use]
    pub fn links(&self) -> Links {
        self.links
    }

    /// Bytes that have crossed the WAN towards the site, as the router's interface counts them: with headers.
    ///
    /// # Panics
    /// If the counter cannot be read.
    #[must_use]
    pub fn wan_bytes(&self) -> u64 {
        counters::received(&Place::Namespace(self.host("router")), "wan0")
    }

    fn host(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        remove(|name| name.starts_with(&format!("{}-", self.name)));
    }
}

fn port(number: usize) -> String {
    format!("port{number}")
}

fn make_host(name: &str) {
    ip(&format!("netns add {name}"));
    up(name, "lo", None);
}

fn up(host: &str, interface: &str, address: Option<&str>) {
    if let Some(address) = address {
        ip(&format!("-n {host} addr add {address} dev {interface}"));
    }
    ip(&format!("-n {host} link set {interface} up"));
}

fn plug(switch: &str, port: &str) {
    ip(&format!("-n {switch} link set {port} master bridge0"));
    up(switch, port, None);
}

fn shape(host: &str, interface: &str, mbit: u32, burst: &str) {
    let rule =
        format!("-n {host} qdisc add dev {interface} root tbf rate {mbit}mbit burst {burst} latency {QUEUE}");
    done(Command::new("tc").args(rule.split(' ')));
}

fn ip(arguments: &str) {
    done(Command::new("ip").args(arguments.split(' ')));
}

fn done(command: &mut Command) {
    run(command, COMMAND_LIMIT).expect_ok();
}

/// Removes what runs left behind whose process is gone.
fn remove_leftovers() {
    remove(|name| {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        process.is_some_and(|id| !Path::new("/proc").join(id).exists())
    });
}

/// Ends all processes of the namespaces that `condemned` picks, and removes these; their links go with them.
fn remove(condemned: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if !condemned(&name) {
            continue;
        }
        let inside = run(Command::new("ip").args(["netns", "pids", &name]), COMMAND_LIMIT).stdout;
        if !inside.trim().is_empty() {
            run(Command::new("kill").arg("-KILL").args(inside.split_whitespace()), COMMAND_LIMIT);
        }
        run(Command::new("ip").args(["netns", "del", &name]), COMMAND_LIMIT);
    }
}
