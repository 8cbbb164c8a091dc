//! Getting to a repository behind TLS, a login or a proxy: it works with the right settings, is refused with the wrong
//! ones, and no secret goes where it does not belong.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    free_address::free_address,
    gateway::Gateway,
    loopback::{IMAGE, Loopback},
    nginx::{Manner, Nginx, PASSWORD, TOKEN, USER},
    run::{Finished, run},
};
use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

const BYTES: u64 = 2 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A published release, and an administrator who looks into its repository.
struct Desk {
    world: Loopback,
    source: PathBuf,
}

impl Desk {
    fn new(test: &str) -> Option<Self> {
        let (world, source) = Loopback::with_nginx(test, BYTES)?;
        Some(Self { world, source })
    }

    fn serve(&self, manner: Manner) -> Nginx {
        self.world.serve(manner)
    }

    /// `repo list` with further options and variables.
    fn list(&self, url: &str, options: &[&str], environment: &[(&str, &str)]) -> Finished {
        let mut command = Command::new(branchmesh());
        command.args(["repo", "list", url, "--root"]).arg(self.world.hq.root_of_trust()).args(options);
        let listed = run(command.envs(environment.iter().copied()), LIMIT);
        for secret in [PASSWORD, TOKEN] {
            assert!(!listed.stderr.contains(secret), "a secret is told: {}", listed.stderr);
        }
        listed
    }

    #[track_caller]
    fn lists(&self, url: &str, options: &[&str], environment: &[(&str, &str)]) {
        let listed = self.list(url, options, environment).expect_ok();
        assert!(listed.stdout.contains(IMAGE), "{}", listed.describe());
    }

    #[track_caller]
    fn refused(&self, url: &str, options: &[&str], words: &[&str]) {
        self.list(url, options, &[]).expect_refusal().expect_words(words);
    }

    /// A file with a secret, in its own folder.
    fn secret(&self, name: &str, secret: &str) -> String {
        let path = self.world.path().join(name);
        fs::write(&path, format!("{secret}\n")).unwrap();
        path.display().to_string()
    }

    /// A node with these settings of access gets the release.
    fn node_gets(&self, url: &str, access: &[(&str, &str)]) {
        let mut node = self.world.node("pc-01", &[url]);
        node.settings.access = access.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        node.start();
        node.wait_complete(IMAGE, "1", LIMIT);
        assert_eq!(node.wrong_files(IMAGE, "1", &[&self.source]), [""; 0]);
        for secret in [PASSWORD, TOKEN] {
            assert!(!node.log().contains(secret), "a secret is in the agent's log");
        }
    }
}

/// A URL with user and password in it.
fn with_login(url: &str, password: &str) -> String {
    url.replacen("://", &format!("://{USER}:{password}@"), 1)
}

#[test]
fn a_private_ca_is_believed_only_when_it_is_named() {
    let Some(desk) = Desk::new("access-ca") else { return };
    let (nginx, other) = (desk.serve(Manner::Tls), desk.serve(Manner::Tls));
    let (ca, stranger) = (nginx.ca().display().to_string(), other.ca().display().to_string());
    desk.refused(nginx.url(), &[], &[nginx.url(), "is not trusted", "--origin-ca"]);
    desk.refused(nginx.url(), &["--origin-ca", &stranger], &["is not trusted"]);
    desk.refused(nginx.url(), &["--origin-ca", "/no/such.pem"], &["/no/such.pem", "cannot be read"]);
    desk.lists(nginx.url(), &["--origin-ca", &ca], &[]);
    desk.lists(nginx.url(), &[], &[("BRANCHMESH_ORIGIN_CA", &ca)]);
    desk.node_gets(nginx.url(), &[("ca", &ca)]);
}

#[test]
fn a_password_opens_and_a_wrong_one_is_named() {
    let Some(desk) = Desk::new("access-password") else { return };
    let nginx = desk.serve(Manner::Password);
    let (right, wrong) = (desk.secret("right", PASSWORD), desk.secret("wrong", "guess"));
    let denied = &[nginx.url(), "401", "user and password"];
    desk.refused(nginx.url(), &[], denied);
    desk.refused(nginx.url(), &["--origin-user", USER, "--origin-password-file", &wrong], denied);
    desk.refused(&with_login(nginx.url(), "guess"), &[], denied);
    desk.refused(nginx.url(), &["--origin-user", USER], &["password_file"]);
    desk.lists(nginx.url(), &["--origin-user", USER, "--origin-password-file", &right], &[]);
    desk.lists(&with_login(nginx.url(), PASSWORD), &[], &[]);
    desk.node_gets(nginx.url(), &[("user", USER), ("password_file", &right)]);
}

#[test]
fn a_token_opens_and_is_read_again_when_it_is_renewed() {
    let Some(desk) = Desk::new("access-token") else { return };
    let nginx = desk.serve(Manner::Token);
    let token = desk.secret("token", "expired");
    desk.refused(nginx.url(), &["--origin-token-file", &token], &["401", "token"]);

    let mut node = desk.world.node("pc-01", &[nginx.url()]);
    node.settings.access = [("token_file".into(), token.clone())].into();
    node.start();
    node.wait_for("refused", LIMIT, |status| status.complaints().contains("401"));
    desk.secret("token", TOKEN);
    node.wait_complete(IMAGE, "1", LIMIT);
    desk.lists(nginx.url(), &["--origin-token-file", &token], &[]);
}

#[test]
fn requests_go_through_the_proxy_that_is_named_and_no_other() {
    let Some(desk) = Desk::new("access-proxy") else { return };
    let (nginx, tls) = (desk.serve(Manner::Proper), desk.serve(Manner::Tls));
    let ca = tls.ca().display().to_string();
    let proxy = Gateway::proxy();
    let url = |user: &str| format!("http://{user}{}", proxy.address());

    desk.lists(nginx.url(), &["--origin-proxy", &url("anna:word@")], &[]);
    let asked = proxy.requests();
    assert!(!asked.is_empty() && asked.iter().all(|request| request.target.starts_with(nginx.url())));
    // base64 of anna:word
    assert!(asked.iter().all(|request| request.header("proxy-authorization") == Some("Basic YW5uYTp3b3Jk")));

    let before = proxy.requests().len();
    desk.lists(tls.url(), &["--origin-proxy", &url(""), "--origin-ca", &ca], &[]);
    let asked = proxy.requests().split_off(before);
    let host = tls.url().trim_start_matches("https://");
    assert!(asked.iter().any(|request| request.method == "CONNECT" && request.target == host), "{asked:?}");

    let before = proxy.requests().len();
    desk.lists(nginx.url(), &[], &[("HTTP_PROXY", &url("")), ("NO_PROXY", "")]);
    assert!(proxy.requests().len() > before, "the environment's proxy was passed by");
    let before = proxy.requests().len();
    desk.lists(nginx.url(), &["--origin-proxy", "none"], &[("HTTP_PROXY", &url(""))]);
    assert_eq!(proxy.requests().len(), before, "a proxy was used in spite of `none`");

    let nobody: SocketAddr = free_address();
    desk.refused(nginx.url(), &["--origin-proxy", &format!("http://{nobody}")], &["cannot be reached"]);
    desk.refused(nginx.url(), &["--origin-proxy", "socks9://anna:s3cret@proxy"], &["the proxy must be"]);
}

#[test]
fn a_redirect_to_another_host_carries_no_secret() {
    let Some(desk) = Desk::new("access-redirect") else { return };
    let there = desk.serve(Manner::Proper);
    let address: SocketAddr = there.url().trim_start_matches("http://").parse().unwrap();
    let watch = Gateway::before(address);
    let here = desk.serve(Manner::Moved(watch.address()));
    let (password, token) = (desk.secret("password", PASSWORD), desk.secret("token", TOKEN));

    desk.lists(here.url(), &["--origin-user", USER, "--origin-password-file", &password], &[]);
    desk.lists(here.url(), &["--origin-token-file", &token], &[]);
    desk.lists(&with_login(here.url(), PASSWORD), &[], &[]);
    let asked = watch.requests();
    assert!(asked.len() >= 3, "the redirect was not followed");
    let carried: Vec<_> = asked.iter().filter_map(|request| request.header("authorization")).collect();
    assert!(carried.is_empty(), "{carried:?}");
}

#[test]
fn a_redirect_out_of_tls_is_refused() {
    let Some(desk) = Desk::new("access-downgrade") else { return };
    let there = desk.serve(Manner::Proper);
    let address: SocketAddr = there.url().trim_start_matches("http://").parse().unwrap();
    let watch = Gateway::before(address);
    let here = desk.serve(Manner::TlsMoved(watch.address()));
    let ca = here.ca().display().to_string();
    desk.refused(here.url(), &["--origin-ca", &ca], &["redirects from https to http"]);
    assert_eq!(watch.requests(), []);
}
