//! A gate before a web server, or a proxy on the way to many: it writes every request down, lets them through one
//! after another, and can hold one, or break connections off, at the moment that a test wants.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// Bytes of a request's head: everything that our client and this test's servers send is far smaller.
const HEAD_MAX: usize = 64 << 10;
/// Nothing on loopback is silent for longer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A request that came to the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// What was asked for: a path, or what a proxy is asked for.
    pub target: String,
    /// Its header lines, names in small letters.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether a file below `folder` of a repository is written.
    #[must_use]
    pub fn puts(&self, folder: &str) -> bool {
        self.method == "PUT" && self.target.contains(folder)
    }

    /// Whether the files below `folder` of a repository are listed (`ListObjectsV2`).
    #[must_use]
    pub fn lists(&self, folder: &str) -> bool {
        self.method == "GET" && self.target.contains("list-type=2") && self.target.contains(folder)
    }
}

/// A running gate. Dropping it closes it.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The server behind it; none for a proxy, which goes where it is asked to.
    behind: Option<SocketAddr>,
    requests: Mutex<Vec<Request>>,
    hold: Mutex<Hold>,
    /// Rung when `hold` changes.
    changed: Condvar,
    /// Connections to break off.
    to_break: AtomicU32,
    ignores_conditions: AtomicBool,
    /// Held while a request is with the server, so that what it checks is still so when it writes.
    turn: Mutex<()>,
    is_closed: AtomicBool,
}

type Choice = Box<dyn Fn(&Request) -> bool + Send>;

/// Whether a request is held back.
#[derive(Default)]
enum Hold {
    #[default]
    Nothing,
    /// The first that it chooses will be.
    Next(Choice),
    /// One is.
    Holding,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("behind", &self.behind).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gate before the server at `behind`.
    #[must_use]
    pub fn before(behind: SocketAddr) -> Self {
        Self::start(Some(behind))
    }

    /// A proxy: for plain HTTP by the whole URL, for TLS by CONNECT.
    #[must_use]
    pub fn proxy() -> Self {
        Self::start(None)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests that came so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Holds back the next request that `choice` picks, until [`let_through`](Self::let_through).
    pub fn hold_next(&self, choice: impl Fn(&Request) -> bool + Send + 'static) {
        *lock(&self.shared.hold) = Hold::Next(Box::new(choice));
    }

    /// Whether a request is held back now.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        matches!(*lock(&self.shared.hold), Hold::Holding)
    }

    /// Lets the request that is held back go on.
    pub fn let_through(&self) {
        *lock(&self.shared.hold) = Hold::Nothing;
        self.shared.changed.notify_all();
    }

    /// Breaks off the next `connections` without an answer, as a server that restarts does.
    pub fn break_off(&self, connections: u32) {
        self.shared.to_break.store(connections, Ordering::SeqCst);
    }

    /// Connections that are still to be broken off.
    #[must_use]
    pub fn still_to_break(&self) -> u32 {
        self.shared.to_break.load(Ordering::SeqCst)
    }

    /// Takes the conditions out of requests, as a server does that knows none.
    pub fn ignore_conditions(&self) {
        self.shared.ignores_conditions.store(true, Ordering::SeqCst);
    }

    fn start(behind: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a machine has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { behind, ..Shared::default() });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if for_thread.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                // A connection that breaks is what some tests are about.
                thread::spawn(move || drop(shared.serve(client)));
            }
        });
        Self { address, shared }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.let_through();
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// One request of one connection.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(SILENCE_MAX))?;
        let breaks =
            self.to_break.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if breaks.is_ok() {
            return Ok(());
        }
        let Some((request, begun)) = read_head(&mut client)? else { return Ok(()) };
        lock(&self.requests).push(request.clone());
        if request.method == "CONNECT" {
            return tunnel(client, &request.target);
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = begun;
        body.reserve(length);
        while body.len() < length {
            let mut piece = vec![0; (length - body.len()).min(1 << 20)];
            client.read_exact(&mut piece)?;
            body.extend(piece);
        }
        self.wait_if_held(&request);
        let _turn = lock(&self.turn);
        let answer = self.ask(&request, &body)?;
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Write)
    }

    fn wait_if_held(&self, request: &Request) {
        let mut hold = lock(&self.hold);
        if !matches!(&*hold, Hold::Next(choice) if choice(request)) {
            return;
        }
        *hold = Hold::Holding;
        while matches!(&*hold, Hold::Holding) {
            hold = self.changed.wait(hold).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The whole answer of the server.
    fn ask(&self, request: &Request, body: &[u8]) -> io::Result<Vec<u8>> {
        let (mut server, target) = match (self.behind, request.target.strip_prefix("http://")) {
            (Some(server), _) => (TcpStream::connect(server)?, request.target.clone()),
            (None, Some(rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (TcpStream::connect(host)?, format!("/{path}"))
            }
            (None, None) => return Err(io::Error::other("a proxy wants a whole URL")),
        };
        server.set_read_timeout(Some(SILENCE_MAX))?;
        let mut head = format!("{} {target} HTTP/1.1\r\nconnection: close\r\n", request.method);
        for (name, value) in &request.headers {
            let is_condition = name == "if-match" || name == "if-none-match";
            let is_for_us = name == "connection" || name.starts_with("proxy-") || name == "expect";
            let is_ignored = is_condition && self.ignores_conditions.load(Ordering::SeqCst);
            if !is_for_us && !is_ignored {
                head += &format!("{name}: {value}\r\n");
            }
        }
        server.write_all(format!("{head}\r\n").as_bytes())?;
        server.write_all(body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// A request's head, and what came of its body with it; `None` if the client has nothing to ask.
fn read_head(client: &mut TcpStream) -> io::Result<Option<(Request, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut piece = [0; 4096];
        let length = client.read(&mut piece)?;
        if length == 0 || bytes.len() > HEAD_MAX {
            return Ok(None);
        }
        bytes.extend(&piece[..length]);
    };
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(String::from);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok(Some((Request { method, target, headers: headers.collect() }, body)))
}

/// Passes bytes on both ways until one side ends.
fn tunnel(mut client: TcpStream, target: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    client.set_read_timeout(None)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
