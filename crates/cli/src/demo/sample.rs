//! Real data for the demo: a disk image packed from files of this machine, or the user's own files; and a second
//! state of it, as an update would leave it.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Where systems keep files that differ enough from each other.
const ROOTS: [&str; 6] =
    ["/usr/lib", "/usr/bin", "/usr/share", "/System/Library", r"C:\Windows\System32", r"C:\Program Files"];
/// Largest file that is taken: none should be most of the sample.
const FILE_MAX: u64 = 32 << 20;
/// Files begin at multiples of this, as in a file system.
const CLUSTER: u64 = 4096;
/// One byte in so many, as whole files, is replaced in the second state.
const REPLACED_SHARE: u64 = 50;
/// Free space at the end of the disk image, as a share of the data: it costs nothing to spread.
const FREE_SHARE: u64 = 4;
/// Places that are overwritten in the second state of the user's own file, and their size.
const OVERWRITTEN: (u64, usize) = (16, 64 << 10);

/// Two states of an image.
pub struct Sources {
    /// The files of the first release.
    pub first: Vec<PathBuf>,
    /// The files of the second.
    pub second: Vec<PathBuf>,
    /// What they are, for people.
    pub description: String,
}

/// Packs about `size` bytes of this machine's files into a disk image.
pub fn of_this_machine(folder: &Path, size: u64) -> io::Result<Sources> {
    let spare = size / REPLACED_SHARE;
    let files = find_files(size + spare);
    let enough = {
        let mut sum = 0;
        files.iter().position(|(_, length)| {
            sum += length;
            sum >= size
        })
    };
    let (taken, spares) = files.split_at(enough.map_or(files.len(), |last| last + 1));
    if taken.is_empty() {
        return Err(io::Error::other("no files were found on this machine: name some with --image FILE"));
    }
    let first = write_state(&folder.join("1"), "1", taken.iter().map(|(path, _)| path.as_path()))?;
    let mut replacements = spares.iter().chain(taken.iter().rev()).map(|(path, _)| path.as_path());
    // A file is replaced as soon as so much lies behind that it is no more than its share of it.
    let mut behind = 0;
    let changed = taken.iter().map(|(path, length)| {
        behind += length;
        let replaced = behind >= length * REPLACED_SHARE;
        if replaced {
            behind = 0;
            return replacements.next().unwrap_or(path);
        }
        path.as_path()
    });
    let second = write_state(&folder.join("2"), "2", changed)?;
    let description = format!("a disk image was packed from {} files of this machine", taken.len());
    Ok(Sources { first, second, description })
}

fn find_files(size: u64) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut sum = 0;
    let roots = ROOTS.iter().filter(|root| Path::new(root).is_dir());
    for entry in roots.flat_map(|root| walkdir::WalkDir::new(root).sort_by_file_name()) {
        // What may not be read is not needed.
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let usable = metadata.is_file() && (1..=FILE_MAX).contains(&metadata.len());
        if !usable || File::open(entry.path()).is_err() {
            continue;
        }
        found.push((entry.into_path(), metadata.len()));
        sum += metadata.len();
        if sum >= size {
            break;
        }
    }
    found
}

fn write_state<'a>(
    folder: &Path,
    state: &str,
    files: impl Iterator<Item = &'a Path>,
) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let (disk, settings) = (folder.join("disk.img"), folder.join("machine.toml"));
    let mut image = BufWriter::with_capacity(1 << 20, File::create(&disk)?);
    let mut offset = 0u64;
    for path in files {
        // A file may have gone away since it was found; the image is whatever was written.
        let Ok(file) = File::open(path) else { continue };
        offset += io::copy(&mut file.take(FILE_MAX), &mut image)?;
        let padded = offset.next_multiple_of(CLUSTER);
        io::copy(&mut io::repeat(0).take(padded - offset), &mut image)?;
        offset = padded;
    }
    let image = image.into_inner().map_err(io::IntoInnerError::into_error)?;
    image.set_len(offset + offset / FREE_SHARE)?;
    std::fs::write(
        &settings,
        format!("name = \"demo\"\nstate = {state}\nmemory = \"2GB\"\ndisk = \"disk.img\"\n"),
    )?;
    Ok(vec![disk, settings])
}

/// The user's own files, and a state of them with some places of the first one overwritten.
pub fn of_files(folder: &Path, files: &[PathBuf]) -> io::Result<Sources> {
    let original = &files[0];
    let name = original.file_name().ok_or_else(|| io::Error::other("--image names no file"))?;
    std::fs::create_dir_all(folder)?;
    let changed = folder.join(name);
    std::fs::copy(original, &changed)?;
    let mut file = File::options().write(true).open(&changed)?;
    let length = file.metadata()?.len();
    for place in 0..OVERWRITTEN.0 {
        file.seek(SeekFrom::Start(length / OVERWRITTEN.0 * place))?;
        let mut update = Vec::with_capacity(OVERWRITTEN.1);
        while update.len() < OVERWRITTEN.1 {
            let word = branchmesh_image::BlockId::of(&(place + update.len() as u64).to_le_bytes());
            update.extend_from_slice(&word.0);
        }
        update.truncate(usize::try_from(length / OVERWRITTEN.0).unwrap_or(usize::MAX));
        file.write_all(&update)?;
    }
    let second = std::iter::once(changed).chain(files[1..].iter().cloned()).collect();
    let description =
        format!("{} files, {} of the first are changed in the second release", files.len(), OVERWRITTEN.0);
    Ok(Sources { first: files.to_vec(), second, description })
}
