//! Containers' logs for the API server: `kubectl logs`.
//!
//! In: a pod and a query. Out: a stream of bytes from the files the nodes write (see `node::logs`).

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use lateen_embedded_api::{LogQuery, LogStream, NodeError, NodeProxy};
use serde_json::Value;

use crate::node::logs;

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Reads the nodes' log files.
#[derive(Debug)]
pub(crate) struct PodLogs;

impl NodeProxy for PodLogs {
    fn logs(&self, pod: &Value, query: LogQuery) -> BoxFuture<'static, Result<LogStream, NodeError>> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        async move {
            let path = instance(&uid, &query).ok_or_else(|| refusal(&name, &query))?;
            open(path, &query).map_err(|error| NodeError { message: error.to_string(), bad_request: false })
        }
        .boxed()
    }
}

fn refusal(pod: &str, query: &LogQuery) -> NodeError {
    let container = &query.container;
    let message = if query.previous {
        format!("previous terminated container {container:?} in pod {pod:?} not found")
    } else {
        format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating")
    };
    NodeError { message, bad_request: true }
}

/// The log file asked for: of the newest instance, or of the one before.
fn instance(uid: &str, query: &LogQuery) -> Option<PathBuf> {
    let plain = |word: &str| !word.is_empty() && !word.contains(['/', '\0']) && word != "..";
    if !plain(uid) || !plain(&query.container) {
        return None;
    }
    let listed = std::fs::read_dir(logs::directory(uid, &query.container)).ok()?;
    let number =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.strip_suffix(".log")?.parse().ok();
    let newest: u32 = listed.filter_map(number).max()?;
    let wanted = if query.previous { newest.checked_sub(1)? } else { newest };
    Some(logs::path(uid, &query.container, wanted)).filter(|path| path.exists())
}

fn open(path: PathBuf, query: &LogQuery) -> io::Result<LogStream> {
    let mut file = File::open(&path)?;
    let mut text = std::fs::read(logs::older(&path)).unwrap_or_default();
    file.read_to_end(&mut text)?;
    // A line that is still being written is left to the follower.
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = text.split_off(whole);
    let mut first = select(&text, query, Timestamp::now());
    if let Some(limit) = query.limit_bytes.and_then(|limit| usize::try_from(limit).ok()) {
        first.truncate(limit);
    }
    let first = stream::once(async move { Bytes::from(first) });
    if !query.follow {
        return Ok(first.boxed());
    }
    let tail = Tail { file, path, part: rest, timestamps: query.timestamps };
    let later = stream::unfold(tail, |mut tail| async move { tail.next().await.map(|bytes| (bytes, tail)) });
    Ok(first.chain(later).boxed())
}

/// The lines a query wants, as it wants them.
fn select(text: &[u8], query: &LogQuery, now: Timestamp) -> Vec<u8> {
    let since = query.since_seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let since = since.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let young = |line: &&[u8]| match (since, stamp(line)) {
        (Some(since), Some(time)) => time >= since,
        _ => true,
    };
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').filter(young).collect();
    let tail = query.tail_lines.and_then(|lines| usize::try_from(lines).ok()).unwrap_or(usize::MAX);
    let from = lines.len().saturating_sub(tail);
    lines[from..].iter().flat_map(|line| shown(line, query.timestamps)).copied().collect()
}

fn stamp(line: &[u8]) -> Option<Timestamp> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&line[..end]).ok()?.parse().ok()
}

fn shown(line: &[u8], timestamps: bool) -> &[u8] {
    match line.iter().position(|byte| *byte == b' ') {
        Some(end) if !timestamps => &line[end + 1..],
        _ => line,
    }
}

/// The growing end of a log.
struct Tail {
    file: File,
    path: PathBuf,
    part: Vec<u8>,
    timestamps: bool,
}

impl Tail {
    /// More whole lines; `None` when the instance has ended and all is read.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let ended = logs::ended(&self.path).exists() || !self.path.exists();
            self.file.read_to_end(&mut self.part).ok()?;
            if let Some(whole) = self.part.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.part.split_off(whole + 1);
                let lines = std::mem::replace(&mut self.part, rest);
                let lines = lines.split_inclusive(|byte| *byte == b'\n');
                return Some(lines.flat_map(|line| shown(line, self.timestamps)).copied().collect());
            }
            if ended {
                return None;
            }
            if moved(&self.file, &self.path) {
                self.file = File::open(&self.path).ok()?;
                continue;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether another file stands at the path by now.
fn moved(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() != theirs.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_choose_lines() {
        let text = b"1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:09.000000000Z two\n1970-01-01T00:00:09.500000000Z  three\n";
        let now = Timestamp::from_second(10).expect("a time");
        let check = |query: LogQuery| String::from_utf8(select(text, &query, now)).expect("text");
        assert_eq!(check(LogQuery::default()), "one\ntwo\n three\n");
        assert_eq!(check(LogQuery { tail_lines: Some(1), ..LogQuery::default() }), " three\n");
        assert_eq!(check(LogQuery { tail_lines: Some(0), ..LogQuery::default() }), "");
        assert_eq!(check(LogQuery { since_seconds: Some(2), ..LogQuery::default() }), "two\n three\n");
        assert!(check(LogQuery { timestamps: true, ..LogQuery::default() }).starts_with("1970-01-01T00:00:01"));
    }
}
