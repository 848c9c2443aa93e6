//! Pipes for moving pages from socket to socket without copying them, pooled.
//!
//! In: descriptors of two sockets. Out: bytes moved by splice(2). A pipe goes back to the pool only when it is empty: no
//! byte of one connection can come out in another.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::{pipe2, read},
};

/// As much as one copy in flight takes; the kernel may give an unprivileged user less.
const PIPE_SIZE: usize = 256 * 1024;
/// Pipes of the whole process; whoever finds none copies.
const OPEN_MAX: usize = 256;
/// Empty pipes kept for the next user.
const IDLE_MAX: usize = 16;

static IDLE: Mutex<Vec<Ends>> = Mutex::new(Vec::new());
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Both ends of an open pipe, counted.
#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Ends {
    fn open() -> Option<Self> {
        let counted =
            OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < OPEN_MAX).then_some(open + 1));
        counted.ok()?;
        let Ok((read, write)) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // Refused above a user's limit; the default size works too.
        let size = i32::try_from(PIPE_SIZE).unwrap_or(i32::MAX);
        if let Err(error) = fcntl(&write, FcntlArg::F_SETPIPE_SZ(size)) {
            tracing::trace!(%error, "a pipe keeps its default size");
        }
        Some(Self { read, write })
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pipe in use.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Always there until dropped.
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty pipe, if there may be one more.
    pub(super) fn take() -> Option<Self> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let ends = idle.or_else(Ends::open)?;
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes what `from` has received. To be called while the pipe is empty only: a full pipe and a silent socket give the
    /// same answer, [`io::ErrorKind::WouldBlock`].
    pub(super) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let taken = splice(from, None, &ends.write, None, PIPE_SIZE, flags())?;
        self.held += taken;
        Ok(taken)
    }

    /// Gives `to` what it takes.
    pub(super) fn pour(&mut self, to: impl AsFd) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let given = splice(&ends.read, None, to, None, self.held, flags())?;
        self.held -= given;
        Ok(given)
    }

    /// Copies everything out, so that the pipe can serve somebody else.
    pub(super) fn empty(&mut self) -> io::Result<Vec<u8>> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let (mut bytes, mut at) = (vec![0; self.held], 0);
        while at < bytes.len() {
            match read(&ends.read, &mut bytes[at..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                taken => at += taken,
            }
        }
        self.held = 0;
        Ok(bytes)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else { return };
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(ends);
        }
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let one = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        (one, listener.accept().expect("accept").0)
    }

    #[test]
    fn bytes_pass_from_socket_to_socket_or_out() {
        let ((mut client, source), (destination, mut server)) = (connected(), connected());
        let mut pipe = Pipe::take().expect("a pipe");
        client.write_all(b"through").expect("write");
        assert_eq!((pipe.fill(&source).expect("filled"), pipe.held()), (7, 7));
        assert_eq!((pipe.pour(&destination).expect("poured"), pipe.held()), (7, 0));
        let mut there = [0; 7];
        server.read_exact(&mut there).expect("read");
        assert_eq!(&there, b"through");
        client.write_all(b"out").expect("write");
        pipe.fill(&source).expect("filled");
        assert_eq!((pipe.empty().expect("copied"), pipe.held()), (b"out".to_vec(), 0));
        drop(client);
        assert_eq!(pipe.fill(&source).expect("the end"), 0);
    }

    #[test]
    fn what_one_connection_left_behind_comes_out_in_no_other() {
        for _ in 0..2 * IDLE_MAX {
            let (mut client, source) = connected();
            let mut pipe = Pipe::take().expect("a pipe");
            client.write_all(b"secret").expect("write");
            pipe.fill(&source).expect("filled");
        }
        let taken: Vec<Pipe> = (0..2 * IDLE_MAX).map_while(|_| Pipe::take()).collect();
        for pipe in &taken {
            let ends = pipe.ends.as_ref().expect("there until dropped");
            let error = read(&ends.read, &mut [0; 16]).expect_err("nothing is in it");
            assert_eq!(error, nix::Error::EAGAIN);
        }
    }
}
