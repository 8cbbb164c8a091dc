//! A real server that speaks S3 (moto), behind a gate that counts, holds and breaks off requests.

use crate::{free_address::free_address, gateway::Gateway, process::Process, skip::find_program, wait};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

/// The server, as `.ci/run` installs it from PyPI.
pub const PROGRAM: &str = "moto_server";
/// Python and all that moto imports are up within this time, also on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const BUCKET: &str = "images";

/// A running server with an empty bucket.
#[derive(Debug)]
pub struct S3 {
    /// The gate that every request passes.
    pub gateway: Gateway,
    _process: Process,
}

impl S3 {
    /// Starts a server; `folder` gets its log.
    ///
    /// # Panics
    /// If it is not installed or doesn't start.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let address = free_address();
        let program = find_program(PROGRAM).expect("the caller has asked for it (`skip::have_all`)");
        let mut command = Command::new(program);
        command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        let mut process = Process::start("moto", &command, &folder.join("moto.log"));
        let up = wait::until(START_LIMIT, || {
            (process.is_running()
                && ask(address, "PUT", &format!("/{BUCKET}")).is_some_and(|status| status == 200))
            .then_some(())
        });
        assert!(up.is_some(), "moto does not start\n{}", process.tail());
        Self { gateway: Gateway::before(address), _process: process }
    }

    /// The URL of a repository in the bucket.
    #[must_use]
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/team/repo")
    }

    /// The variables with which programs find the server, and may use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.gateway.address());
        let variables = [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ENDPOINT_URL", &*endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        variables.map(|(name, value)| (name.into(), value.into())).into()
    }

    /// How many requests to write a file below `folder` came so far.
    #[must_use]
    pub fn puts(&self, folder: &str) -> usize {
        self.gateway.requests().iter().filter(|request| request.puts(folder)).count()
    }
}

/// The status of an answer without a body.
fn ask(address: SocketAddr, method: &str, path: &str) -> Option<u16> {
    let mut server = TcpStream::connect(address).ok()?;
    server.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(
        server,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
