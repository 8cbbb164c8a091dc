//! A real nginx that serves a repository, with the configuration that we give to administrators.
//!
//! Its access log says who fetched which bytes of which pack: what the tests claim about the origin is read there.

use crate::{place::Place, process::Process, skip::find_program, tls, wait};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// The configuration that administrators get.
const CONFIG: &str = include_str!("../../deploy/nginx/branchmesh.conf");
/// The user that [`Manner::Password`] knows.
pub const USER: &str = "anna";
/// Her password.
pub const PASSWORD: &str = "s3cret-word";
/// What [`Manner::Token`] wants.
pub const TOKEN: &str = "s3cret-token";
/// nginx is up within this time, or something is wrong.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How the server treats the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Proper,
    /// It ignores ranges, and sends whole files instead.
    NoRanges,
    /// It answers to every request for a pack with a page for people, as a captive portal does.
    LoginPage,
    /// It sends no more than so many KiB per second on each connection.
    Slow(u32),
    /// It speaks HTTPS, with a certificate of a private CA ([`Nginx::ca`]).
    Tls,
    /// It asks for the user [`USER`] and the password [`PASSWORD`].
    Password,
    /// It asks for the bearer token [`TOKEN`].
    Token,
    /// It sends everybody to another server, by plain HTTP.
    Moved(SocketAddr),
    /// The same, but itself it speaks HTTPS.
    TlsMoved(SocketAddr),
}

/// A running web server.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    url: String,
    folder: PathBuf,
}

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asked.
    pub client: String,
    /// The HTTP status.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub body_bytes: u64,
    /// First byte and end of the range that was asked for, if it was one.
    pub range: Option<(u64, u64)>,
    /// The path that was asked for.
    pub path: String,
}

impl Nginx {
    /// Serves `repository` at `address`; `folder` gets its configuration and logs.
    ///
    /// # Panics
    /// If nginx is not installed or doesn't start.
    #[must_use]
    pub fn start(
        place: &Place,
        address: SocketAddr,
        repository: &Path,
        folder: &Path,
        manner: Manner,
    ) -> Self {
        fs::create_dir_all(folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let is_tls = matches!(manner, Manner::Tls | Manner::TlsMoved(_));
        if is_tls {
            tls::issue(folder, address.ip());
        }
        fs::write(folder.join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n"))
            .unwrap_or_else(|error| panic!("cannot write into {}: {error}", folder.display()));
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(address, repository, folder, manner))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", config.display()));
        let program = find_program("nginx").expect("the caller has asked for nginx (`skip::have_all`)");
        let mut command = place.command(program);
        command.arg("-p").arg(folder).arg("-c").arg(&config).arg("-e").arg(folder.join("error.log"));
        let mut process = Process::start("nginx", &command, &folder.join("nginx.log"));
        let up = wait::until(START_LIMIT, || {
            (folder.join("nginx.pid").metadata().ok()?.len() > 0)
                .then_some(())
                .filter(|()| process.is_running())
        });
        assert!(up.is_some(), "nginx does not start\n{}", process.tail());
        let scheme = if is_tls { "https" } else { "http" };
        Self { process, url: format!("{scheme}://{address}"), folder: folder.into() }
    }

    /// The repository's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the private CA that issued the server's.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join(tls::CA)
    }

    /// Ends the server at once, connections in use included.
    pub fn stop(&mut self) {
        // SIGTERM is what nginx calls a fast shutdown; killed, it would leave its workers behind.
        self.process.stop(Duration::from_secs(10));
    }

    /// All requests that were answered so far.
    ///
    /// # Panics
    /// If the log is not as configured.
    #[must_use]
    pub fn accesses(&self) -> Vec<Access> {
        let log = fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        log.lines().map(|line| Access::parse(line).unwrap_or_else(|| panic!("nginx logs {line:?}"))).collect()
    }
}

fn configuration(address: SocketAddr, repository: &Path, folder: &Path, manner: Manner) -> String {
    let is_tls = matches!(manner, Manner::Tls | Manner::TlsMoved(_));
    let listen = if is_tls { format!("listen {address} ssl;") } else { format!("listen {address};") };
    let server = replace_once(CONFIG, "listen 80;", &listen);
    let server = replace_once(&server, "listen [::]:80;", "");
    let server = replace_once(&server, "root /srv/branchmesh;", &format!("root {};", repository.display()));
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", tls::CERTIFICATE, tls::KEY);
    let moved = |there| format!("location ~ ^/ {{ return 307 http://{there}$request_uri; }}");
    let manner = match manner {
        Manner::Proper => String::new(),
        Manner::Tls => tls,
        Manner::Moved(there) => moved(there),
        Manner::TlsMoved(there) => tls + &moved(there),
        Manner::Password => "auth_basic images; auth_basic_user_file users;".into(),
        Manner::Token => {
            format!("if ($http_authorization != 'Bearer {TOKEN}') {{ return 401; }}")
        }
        Manner::NoRanges => "max_ranges 0;".into(),
        Manner::LoginPage => "location ~ ^/packs/ { default_type text/html; \
                              return 200 '<!doctype html><title>Guest network</title>Please log in'; }"
            .into(),
        Manner::Slow(kib) => format!("limit_rate {kib}k;"),
    };
    let server = replace_once(&server, "server {", &format!("server {{ {manner}"));
    let folder = folder.display();
    let user = if crate::skip::is_root() { "user root;" } else { "" };
    format!(
        "daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format tests '$remote_addr\t$status\t$body_bytes_sent\t$http_range\t$uri';
    access_log {folder}/access.log tests;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{server}
}}
"
    )
}

#[track_caller]
fn replace_once(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "deploy/nginx/branchmesh.conf has {old:?} other than once");
    text.replace(old, new)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Access {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let client = fields.next()?.into();
        let status = fields.next()?.parse().ok()?;
        let body_bytes = fields.next()?.parse().ok()?;
        let range = fields.next()?.strip_prefix("bytes=").and_then(|range| {
            let (first, last) = range.split_once('-')?;
            Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1))
        });
        Some(Self { client, status, body_bytes, range, path: fields.next()?.into() })
    }

    /// Whether it was about blocks.
    #[must_use]
    pub fn is_of_pack(&self) -> bool {
        self.path.starts_with("/packs/")
    }
}

/// Bytes of all bodies that were sent.
#[must_use]
pub fn body_bytes<'a>(accesses: impl IntoIterator<Item = &'a Access>) -> u64 {
    accesses.into_iter().map(|access| access.body_bytes).sum()
}

/// What was fetched of the packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackTraffic {
    /// Bytes sent, repetitions included.
    pub sent: u64,
    /// Bytes that were sent at least once.
    pub distinct: u64,
    /// Who fetched.
    pub clients: BTreeSet<String>,
}

impl PackTraffic {
    /// Adds up the requests for packs. What an aborted answer sent counts as the beginning of its range.
    #[must_use]
    pub fn of(accesses: &[Access]) -> Self {
        let mut traffic = Self::default();
        let mut ranges: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for access in accesses.iter().filter(|access| access.is_of_pack() && access.body_bytes > 0) {
            traffic.sent += access.body_bytes;
            traffic.clients.insert(access.client.clone());
            let first = access.range.map_or(0, |(first, _)| first);
            ranges.entry(&access.path).or_default().push((first, first + access.body_bytes));
        }
        traffic.distinct = ranges.into_values().map(distinct_bytes).sum();
        traffic
    }

    /// Bytes that were sent more than once.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.sent - self.distinct
    }
}

fn distinct_bytes(mut ranges: Vec<(u64, u64)>) -> u64 {
    ranges.sort_unstable();
    let mut covered_to = 0;
    let mut bytes = 0;
    for (first, end) in ranges {
        bytes += end.saturating_sub(first.max(covered_to));
        covered_to = covered_to.max(end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_twice_is_seen_in_the_log() {
        let log = "10.0.0.1\t206\t100\tbytes=0-99\t/packs/ab/ab.pack\n\
                   10.0.0.1\t206\t40\tbytes=100-199\t/packs/ab/ab.pack\n\
                   10.0.0.2\t206\t100\tbytes=100-199\t/packs/ab/ab.pack\n\
                   10.0.0.2\t200\t900\t-\t/metadata/timestamp.json\n";
        let accesses: Vec<Access> = log.lines().map(|line| Access::parse(line).unwrap()).collect();
        let traffic = PackTraffic::of(&accesses);
        assert_eq!((traffic.sent, traffic.distinct, traffic.repeated()), (240, 200, 40));
        assert_eq!(traffic.clients.len(), 2);
    }
}
