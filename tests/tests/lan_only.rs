//! A LAN without a way out: what one member holds reaches the others in little more than the time that one copy
//! takes on one link.
//!
//! `cargo bench -p branchmesh-tests --bench figures -- lan` claims the goals, 1.10 and 1.30, of an optimized build.

use branchmesh_tests::{
    claims::Claims,
    lan::Lan,
    mesh_swarm::MeshSwarm,
    skip::{Need, have_all},
};
use std::time::Duration;

/// Clients, the rate of each link in Mbit/s, and how many times the bound the last client may take. With 8 clients the two
/// cores that carry all hosts and the network between them become the limit, and agents that are built for tests need
/// more of them: these were seen at up to 1.10 and 1.27.
const SIZES: [(usize, u32, f64); 4] = [(2, 100, 1.10), (4, 100, 1.10), (8, 100, 1.15), (8, 200, 1.40)];
/// Incompressible: some 22 s on one link of 100 Mbit/s, so that the constant costs of a start weigh little.
const BYTES: u64 = 256 << 20;
/// After so long it has failed.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn one_holder_reaches_all_clients_in_little_more_than_the_time_of_one_copy() {
    let test = "a LAN without a way out";
    if !have_all(test, &[Need::Namespaces]) {
        return;
    }
    let mut claims = Claims::of(test);
    for (clients, mbit, limit) in SIZES {
        let lan = Lan::new("lan-only", clients, mbit);
        let mut swarm = MeshSwarm::new(&lan, BYTES);
        lan.spread(&mut swarm, PATIENCE).claim(&mut claims, limit);
    }
    claims.settle();
}
