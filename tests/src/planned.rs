//! What `branchmesh plan` says of the branch office that a test measures: the planner is held to what happens.

use crate::branch::{Branch, IMAGE};
use serde_json::Value;
use std::fs;

/// A plan for all clients of an office.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Bytes of blocks and index parts that cross the WAN.
    pub wan_bytes: u64,
    /// The same with the headers of all packets.
    pub wan_bytes_with_headers: u64,
    /// From the start of the agents to the last client.
    pub seconds: f64,
}

impl Branch {
    /// Plans the spread of a release to all clients, which have nothing, or everything of the `older` one.
    ///
    /// # Panics
    /// If the command fails or answers something else.
    #[must_use]
    pub fn plan(&self, release: &str, older: Option<&str>) -> Planned {
        let (clients, links) = (self.nodes.len(), self.site.links());
        let (older, holds) = match older {
            Some(older) => (format!("older = \"{IMAGE}@{older}\"\n"), format!("holds = [\"{IMAGE}\"]\n")),
            None => Default::default(),
        };
        let sites = format!(
            "tls = false\n\
             [[release]]\nimage = \"{IMAGE}\"\nrelease = \"{IMAGE}@{release}\"\n{older}\
             [[site]]\nname = \"office\"\nclients = {clients}\n{holds}\
             wan = \"{} Mbit/s\"\nlan = \"{} Mbit/s\"\nround_trip = \"1 ms\"\n",
            links.wan_mbit, links.lan_mbit
        );
        let file = self.folder("plan").join("sites.toml");
        fs::write(&file, sites).expect("there is room for a few lines");
        let repository = self.hq.repository();
        let paths = [&file, &repository].map(|path| path.to_str().expect("test paths are UTF-8"));
        let answer = self.hq.query("plan", &[paths[0]], paths[1]);
        let mesh = &answer["sites"][0]["each"]["mesh"];
        let bytes = |key: &str| mesh[key].as_u64().unwrap_or_else(|| panic!("no {key} in {answer}"));
        Planned {
            wan_bytes: bytes("wan_bytes"),
            wan_bytes_with_headers: bytes("wan_bytes_with_headers"),
            seconds: mesh.get("takes_seconds").and_then(Value::as_f64).expect("a time of the spread"),
        }
    }
}
