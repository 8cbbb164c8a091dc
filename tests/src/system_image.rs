//! A real system in a real file system, and the same one after its updates: what an image's releases differ by.
//!
//! debootstrap installs a minimal Debian into a mounted ext4 image, and apt upgrades a copy of it in place, as an
//! administrator does. Both work in mount and process namespaces of their own: however they end, the kernel ends
//! all that they started and unmounts what they mounted.

use crate::{
    images,
    mirror::Mirror,
    run::{Finished, run},
    skip::Need,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What the machine must have for these images.
pub const NEEDS: [Need; 5] = [
    Need::Mounts,
    Need::PackageMirror,
    Need::Program("debootstrap"),
    Need::Program("mkfs.ext4"),
    Need::Program("e2fsck"),
];

/// The file system beside the added files: a minimal system, its updates, and as much again that stays free.
const SYSTEM_BYTES: u64 = 768 << 20;
/// Installing takes half a minute where the mirror is near.
const INSTALL_LIMIT: Duration = Duration::from_secs(400);

/// `$1` image, `$2` where to mount it, `$3` suite, `$4` mirror, `$5` lines of `sources.list`.
const INSTALL: &str = r#"
mount -o loop "$1" "$2"
debootstrap --variant=minbase "$3" "$2" "$4"
printf %s "$5" > "$2/etc/apt/sources.list"
in_image="chroot $2"
$in_image apt-get -qq $apt_options update
$in_image apt-get clean
umount "$2"
"#;

/// `$1` image, `$2` where to mount it; the other words are packages.
const UPGRADE: &str = r#"
mount -o loop "$1" "$2"
in_image="chroot $2"
root=$2
shift 2
mount -t proc proc "$root/proc"
$in_image apt-get -qq -y $apt_options dist-upgrade
[ $# -eq 0 ] || $in_image apt-get -qq -y $apt_options install --no-install-recommends "$@"
$in_image apt-get clean
umount "$root/proc"
umount "$root"
"#;

/// Before each script. The caller's temp folder need not exist inside the image. apt's binary caches would be half of
/// all changes; those who make images leave them out.
const PRELUDE: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C TMPDIR=/tmp
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
apt_options="-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
"#;

/// A disk with a system on it, as a raw file.
#[derive(Clone, Debug)]
pub struct SystemImage {
    /// The ext4 file system.
    pub raw: PathBuf,
}

impl SystemImage {
    /// A newly installed system, not yet upgraded, with this machine's files below `/srv`: about `data_bytes` of
    /// them, less if the machine has less.
    ///
    /// # Panics
    /// If a tool fails, the mirror's refusals included.
    #[must_use]
    pub fn install(folder: &Path, data_bytes: u64) -> Self {
        let mirror = Mirror::of_this_machine().expect("the caller has asked for a mirror (NEEDS)");
        let tree = folder.join("tree");
        let data_bytes: u64 =
            images::copy_sample(&tree.join("srv"), data_bytes).iter().map(|(_, size)| size).sum();
        let image = Self { raw: folder.join("disk.img") };
        images::make_file_system(&image.raw, &tree, SYSTEM_BYTES + data_bytes + data_bytes / 4);
        images::remove_folder(&tree);
        image.inside(INSTALL, &[&mirror.suite, &mirror.url, &mirror.sources]);
        image
    }

    /// A copy in `folder` in which all updates and some more packages have been installed.
    ///
    /// # Panics
    /// If a tool fails.
    #[must_use]
    pub fn upgraded(&self, folder: &Path, packages: &[&str]) -> Self {
        let image = Self { raw: folder.join("disk.img") };
        images::copy_sparse(&self.raw, &image.raw);
        image.inside(UPGRADE, packages);
        image
    }

    /// Runs a script that mounts the image and unmounts it again, and makes sure that it left a clean file system.
    fn inside(&self, script: &str, arguments: &[&str]) -> Finished {
        let root = self.raw.with_extension("root");
        fs::create_dir_all(&root).unwrap_or_else(|error| panic!("cannot make {}: {error}", root.display()));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
        command.arg(format!("{PRELUDE}{script}")).arg("sh").arg(&self.raw).arg(&root).args(arguments);
        let done = run(&mut command, INSTALL_LIMIT).expect_ok();
        run(Command::new("e2fsck").args(["-f", "-n"]).arg(&self.raw), INSTALL_LIMIT).expect_ok();
        done
    }
}
