//! Files on the node, written so that whoever reads them sees the old or the new, never a part.
//!
//! In: paths, bytes. Out: files. Bounded: what is larger than a configuration may be is not read.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The largest configuration that is read; a usual one has a thousand bytes.
const CONFIGURATION_MAX: u64 = 1024 * 1024;
const NAMES_MAX: usize = 1000;
/// For a configuration that is new; one that was there keeps its own.
const CONFIGURATION_MODE: u32 = 0o600;
const PROGRAM_MODE: u32 = 0o755;

/// What could not be done to which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}: {source}; is the node's directory mounted writable into the agent?", path.display())]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { act, path: path.to_owned(), source }
}

/// Tells whether a file was touched, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The stamp of a file that is there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some(Stamp { inode: meta.ino(), size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) })
}

/// The files in a directory, sorted as runtimes sort them. One that is not there is empty.
pub fn names(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", directory)(error)),
    };
    let mut names: Vec<PathBuf> = entries.take(NAMES_MAX).filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    Ok(names)
}

/// A configuration's bytes; `None` where there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(CONFIGURATION_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > CONFIGURATION_MAX {
        return Err(failed("read", path)(io::Error::other("it is longer than a network configuration may be")));
    }
    Ok(Some(bytes))
}

/// Whether two files hold the same. The second may be absent.
pub fn same_content(source: &Path, target: &Path) -> Result<bool, FileError> {
    let (ours, theirs) = (fs::File::open(source).map_err(failed("read", source))?, fs::File::open(target));
    let Ok(theirs) = theirs else { return Ok(false) };
    let size = |file: &fs::File| file.metadata().map(|meta| (meta.size(), meta.permissions().mode() & 0o111)).ok();
    if size(&ours).map(|(size, _)| size) != size(&theirs).map(|(size, _)| size)
        || size(&theirs).is_none_or(|s| s.1 == 0)
    {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (io::BufReader::new(ours), io::BufReader::new(theirs));
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let count = ours.read(&mut left).map_err(failed("read", source))?;
        if count == 0 {
            return Ok(true);
        }
        if theirs.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return Ok(false);
        }
    }
}

/// Copies a program. A runtime that is executing the old one goes on with it.
pub fn copy(source: &Path, target: &Path) -> Result<(), FileError> {
    let mut from = fs::File::open(source).map_err(failed("read", source))?;
    replace(target, PROGRAM_MODE, |file| io::copy(&mut from, file).map(|_| ()))
}

/// Writes `bytes` to `target` with the mode `like` has.
pub fn write(target: &Path, like: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mode = fs::metadata(like).map_or(CONFIGURATION_MODE, |meta| meta.permissions().mode() & 0o777);
    replace(target, mode, |file| file.write_all(bytes))
}

/// Deletes a file; one that is gone is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Beside the target under a name that runtimes pass over, to the disk, then into its place at once.
fn replace(target: &Path, mode: u32, fill: impl FnOnce(&mut fs::File) -> io::Result<()>) -> Result<(), FileError> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".lateen-tmp");
    let beside = target.with_file_name(name);
    let act = || {
        // What a killed predecessor left may have another mode.
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        fill(&mut file)?;
        // The process's umask may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, target)
    };
    act().map_err(|source| {
        let _ = fs::remove_file(&beside);
        FileError { act: "write", path: target.to_owned(), source }
    })
}
