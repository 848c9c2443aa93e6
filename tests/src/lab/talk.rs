//! One connection that stays open, line by line.
//!
//! In: lines. Out: the lines that came back, and the connection's end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
};

use super::PATIENCE;

/// Lines that may wait to be looked at.
const LINES_MAX: usize = 1024;

/// A client in a pod with a connection to an echo server.
pub struct Talk {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    said: u32,
}

impl Talk {
    /// Starts the client, and says a first word so that the connection is there.
    pub(super) fn begin(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (heard, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        let mut talk = Self { child, input, lines, said: 0 };
        talk.still("at its beginning");
        talk
    }

    /// Says a new word and hears it back; the whole answer.
    pub fn say(&mut self) -> Result<String, String> {
        self.said += 1;
        let word = format!("word-{}", self.said);
        writeln!(self.input, "{word}").map_err(|error| format!("cannot say {word}: {error}"))?;
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) if line.ends_with(&format!(" {word}")) => Ok(line),
            Ok(line) => Err(format!("said {word}, heard {line:?}")),
            Err(RecvTimeoutError::Timeout) => Err(format!("said {word}, heard nothing for {PATIENCE:?}")),
            Err(RecvTimeoutError::Disconnected) => Err(format!("said {word}, and the connection ended")),
        }
    }

    /// The connection lives; `when` is for the failure's text.
    pub fn still(&mut self, when: &str) {
        if let Err(error) = self.say() {
            panic!("the connection does not live {when}: {error}");
        }
    }

    /// Waits until somebody has ended the connection, without a word from us.
    pub fn ended(&mut self, by: &str) {
        match self.lines.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("the connection was not ended by {by}: {other:?}"),
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // The client ends with its input, which goes with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
