//! Containers' logs: files every part of the lab can read.
//!
//! In: what containers write. Out: lines with their times, at most [`FILE_MAX`] twice per instance.
//! A line is `<RFC 3339 time> <text>`; readers are in [`crate::world`].

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{ChildStderr, ChildStdout},
};

use crate::world::init::SHARED;

/// How large a file grows before it becomes the old one; then the one before is gone.
pub(crate) const FILE_MAX: u64 = 8 << 20;
/// Longer lines are cut into pieces of this size.
const LINE_MAX: usize = 16 << 10;

/// The log of one instance of a container.
pub(crate) fn path(uid: &str, container: &str, restarts: u32) -> PathBuf {
    directory(uid, container).join(format!("{restarts}.log"))
}

/// Where the logs of all instances of a container lie.
pub(crate) fn directory(uid: &str, container: &str) -> PathBuf {
    of_pod(uid).join(container)
}

/// Where all logs of a pod lie.
pub(crate) fn of_pod(uid: &str) -> PathBuf {
    Path::new(SHARED).join("logs").join(uid)
}

/// The name of a log's older half.
pub(crate) fn older(path: &Path) -> PathBuf {
    path.with_extension("log.old")
}

/// Stands beside a log that grows no more.
pub(crate) fn ended(path: &Path) -> PathBuf {
    path.with_extension("log.end")
}

/// Writes one instance's log.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Writer {
    /// A new log. Of earlier instances only the last one's stays.
    pub fn create(uid: &str, container: &str, restarts: u32) -> anyhow::Result<Self> {
        let path = path(uid, container, restarts);
        let dir = directory(uid, container);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        if let Some(stale) = restarts.checked_sub(2) {
            let stale = self::path(uid, container, stale);
            for file in [older(&stale), ended(&stale), stale] {
                drop(fs::remove_file(file));
            }
        }
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, file, size: 0 })
    }

    /// Copies both streams until both end.
    pub async fn copy(&mut self, out: Option<ChildStdout>, err: Option<ChildStderr>) {
        let (mut out, mut err) = (out.map(lines), err.map(lines));
        while out.is_some() || err.is_some() {
            let (line, from_out) = tokio::select! {
                line = next(&mut out) => (line, true),
                line = next(&mut err) => (line, false),
            };
            match line {
                Some(line) => {
                    if let Err(error) = self.write(&line) {
                        tracing::warn!(log = %self.path.display(), %error, "a log line is lost");
                    }
                }
                None if from_out => out = None,
                None => err = None,
            }
        }
        if let Err(error) = fs::write(ended(&self.path), "") {
            tracing::warn!(log = %self.path.display(), %error, "followers of the log do not hear of its end");
        }
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.size > FILE_MAX {
            fs::rename(&self.path, older(&self.path))?;
            self.file = File::create(&self.path)?;
            self.size = 0;
        }
        // One write per line, so that a reader never sees two halves with another line between.
        let mut text = format!("{:.9} ", Timestamp::now()).into_bytes();
        text.extend_from_slice(line);
        text.push(b'\n');
        self.size += text.len() as u64;
        self.file.write_all(&text)
    }
}

/// A stream, and the piece of a line read so far (a dropped read must not lose it).
struct Lines<R> {
    reader: BufReader<R>,
    part: Vec<u8>,
}

fn lines<R: AsyncRead>(from: R) -> Lines<R> {
    Lines { reader: BufReader::with_capacity(LINE_MAX, from), part: Vec::new() }
}

/// The next line or piece of [`LINE_MAX`]; `None` at the end; pending if there is no stream. Safe to drop.
async fn next<R: AsyncRead + Unpin>(of: &mut Option<Lines<R>>) -> Option<Vec<u8>> {
    let Some(lines) = of else { return std::future::pending().await };
    loop {
        let ready = match lines.reader.fill_buf().await {
            Ok(ready) if !ready.is_empty() => ready,
            _ if lines.part.is_empty() => return None,
            _ => return Some(std::mem::take(&mut lines.part)),
        };
        let end = ready.iter().position(|byte| *byte == b'\n');
        let room = LINE_MAX - lines.part.len();
        let take = end.unwrap_or(ready.len()).min(room);
        lines.part.extend_from_slice(&ready[..take]);
        let whole = end == Some(take);
        lines.reader.consume(take + usize::from(whole));
        if whole || lines.part.len() == LINE_MAX {
            return Some(std::mem::take(&mut lines.part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_are_cut_into_lines_of_bounded_length() {
        let mut text = b"one\n\ntwo\n".to_vec();
        text.extend(vec![b'x'; LINE_MAX + 3]);
        let mut stream = Some(lines(text.as_slice()));
        let mut sizes = Vec::new();
        while let Some(line) = next(&mut stream).await {
            sizes.push(line.len());
        }
        assert_eq!(sizes, [3, 0, 3, LINE_MAX, 3]);
    }
}
