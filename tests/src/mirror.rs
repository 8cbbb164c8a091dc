//! Where this machine's apt gets its packages: the tests install systems from there, and name no host themselves.

use crate::{run::run, skip::find_program};
use std::{path::Path, process::Command, sync::OnceLock, time::Duration};

/// What debootstrap knows how to install.
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";
/// Suites beside a release's own that hold its updates.
const UPDATES: [&str; 3] = ["", "-updates", "-security"];
/// apt only reads its own settings.
const APT_LIMIT: Duration = Duration::from_secs(30);

/// A Debian release (or one of a system made from it), and where its packages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name of the release, such as `bookworm`.
    pub suite: String,
    /// The mirror of the release itself.
    pub url: String,
    /// The release and its updates, in the words of `sources.list`.
    pub sources: String,
}

impl Mirror {
    /// The first release that apt is set up for and that debootstrap can install; none if there is none.
    #[must_use]
    pub fn of_this_machine() -> Option<&'static Self> {
        static MIRROR: OnceLock<Option<Mirror>> = OnceLock::new();
        MIRROR
            .get_or_init(|| Self::choose(&uris()?, |suite| Path::new(SCRIPTS).join(suite).exists()))
            .as_ref()
    }

    /// Chooses from what `apt-get update --print-uris` prints.
    fn choose(uris: &str, can_install: impl Fn(&str) -> bool) -> Option<Self> {
        let places: Vec<(&str, &str)> = uris.lines().filter_map(place).collect();
        let (url, suite) = *places.iter().find(|(_, suite)| can_install(suite))?;
        let mut sources = String::new();
        for suite in UPDATES.map(|update| format!("{suite}{update}")) {
            if let Some((url, _)) = places.iter().find(|(_, found)| *found == suite) {
                sources += &format!("deb {url} {suite} main\n");
            }
        }
        Some(Self { suite: suite.into(), url: url.into(), sources })
    }
}

fn uris() -> Option<String> {
    let apt = find_program("apt-get")?;
    let printed = run(Command::new(apt).args(["update", "--print-uris"]), APT_LIMIT);
    printed.ok().then_some(printed.stdout)
}

/// URL and suite of a line about the packages of a component `main`. Without TLS only: a minimal system has no
/// certificates to check a mirror by; its packages are signed.
fn place(line: &str) -> Option<(&str, &str)> {
    let (url, rest) = line.strip_prefix('\'')?.split_once("/dists/")?;
    let (suite, _) = rest.split_once("/main/binary-")?;
    url.starts_with("http://").then_some((url, suite))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_and_its_updates_are_chosen_and_nothing_of_others() {
        let uris = "\
            'https://tools.example/deb/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n\
            'http://other.example/dists/cloud-bookworm/main/binary-amd64/Packages.xz' x 0 \n\
            'http://a.example/debian/dists/bookworm/InRelease' x 0 \n\
            'http://docker.example/dists/bookworm/stable/binary-amd64/Packages.xz' x 0 \n\
            'http://a.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n\
            'http://pg.example/dists/bookworm-pg/main/binary-amd64/Packages.xz' x 0 \n\
            'http://b.example/security/dists/bookworm-security/main/binary-all/Packages.xz' x 0 \n";
        let chosen = Mirror::choose(uris, |suite| suite == "bookworm").unwrap();
        assert_eq!((chosen.suite.as_str(), chosen.url.as_str()), ("bookworm", "http://a.example/debian"));
        assert_eq!(
            chosen.sources,
            "deb http://a.example/debian bookworm main\n\
             deb http://b.example/security bookworm-security main\n"
        );
        assert_eq!(Mirror::choose(uris, |suite| suite == "noble"), None);
    }
}
