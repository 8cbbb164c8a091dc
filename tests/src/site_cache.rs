//! A rival for the WAN: squid as a site's cache, which asks the origin once for what many ask at the same time.

use crate::{netns, place::Place, process::Process, run::run, skip::find_program, wait};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const PORT: u16 = 3128;
/// squid has made its folders, and is up, within this time.
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Whom Debian's squid runs as; it does not run as root.
const USER: &str = "proxy";

/// A running squid.
#[derive(Debug)]
pub struct SiteCache {
    process: Process,
    address: SocketAddr,
}

impl SiteCache {
    /// Starts it as the `number`th client of a site; `folder`, which everybody must be able to reach, gets its
    /// configuration, its logs and what it keeps.
    ///
    /// # Panics
    /// If squid does not start.
    #[must_use]
    pub fn start(place: &Place, number: usize, folder: &Path) -> Self {
        let config = folder.join("squid.conf");
        fs::write(&config, configuration(folder))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", config.display()));
        run(Command::new("chown").args(["-R", USER]).arg(folder), START_LIMIT).expect_ok();
        run(squid(place, &config).arg("-z"), START_LIMIT).expect_ok();
        let mut process = Process::start("squid", &squid(place, &config), &folder.join("squid.log"));
        let cache_log = folder.join("cache.log");
        let up = wait::until(START_LIMIT, || {
            let log = fs::read_to_string(&cache_log).unwrap_or_default();
            log.contains("Accepting HTTP Socket connections").then_some(()).filter(|()| process.is_running())
        });
        assert!(up.is_some(), "squid does not start\n{}", process.tail());
        Self { process, address: SocketAddr::new(netns::client_address(number), PORT) }
    }

    /// A command that downloads a file through it.
    #[must_use]
    pub fn download(&self, place: &Place, url: &str, to: &Path) -> Command {
        let mut command = place.command("curl");
        command
            .args(["--silent", "--show-error", "--fail", "--proxy"])
            .arg(format!("http://{}", self.address));
        command.arg("--output").arg(to).arg(url);
        command
    }
}

impl Drop for SiteCache {
    fn drop(&mut self) {
        // Killed, it would leave its tables of shared memory behind.
        self.process.stop(STOP_LIMIT);
    }
}

fn squid(place: &Place, config: &Path) -> Command {
    let program: PathBuf = find_program("squid").expect("the caller has asked for squid (`skip::have_all`)");
    let mut command = place.command(program);
    command.arg("-N").arg("-f").arg(config);
    command
}

/// As little as an administrator would set: room for a whole image, and one question for all who ask.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "http_port {PORT}
http_access allow all
collapsed_forwarding on
maximum_object_size 8 GB
cache_dir aufs {folder}/cache 8192 16 256
cache_effective_user {USER}
coredump_dir {folder}
pid_filename {folder}/squid.pid
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
visible_hostname cache
shutdown_lifetime 0 seconds
"
    )
}
