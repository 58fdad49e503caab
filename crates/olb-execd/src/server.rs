//! exec.sock: warm workers, one connection each, one request datagram a connection.

use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use olb_exec_api::{DATAGRAM_BYTES_MAX, Op, Reason, Refusal, split_request};
use olb_lease::plan_limit;
use olb_sys::peer::seqpacket_peer;
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::{accept, recv_datagram, recv_now};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::decide::decide;
use crate::execute::execute;
use crate::read::read;

/// Workers that wait for a connection while nothing is to be done.
const IDLE_WORKERS: u32 = 4;
/// Nothing here recurses; a worker may be the one that runs SQLite, which wants some room.
const STACK_BYTES: usize = 1024 * 1024;
/// The most descriptors that a request may carry: a client's socket, its standard input and the
/// staged files.
const FDS_MAX: usize = 2 + plan_limit::STAGED;

/// A front sends its datagram right after it has connected; one that does not is cut off after
/// this, in milliseconds.
const REQUEST_MS: u32 = 5000;
/// The same for one that is turned away, in milliseconds: others wait for that worker.
const BUSY_MS: u32 = 100;
/// Before another attempt where the kernel has no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The workers and what they share.
pub struct Server {
    broker: Arc<Broker>,
    listener: OwnedFd,
    counts: Mutex<Counts>,
}

/// How many workers there are.
#[derive(Debug, Default)]
struct Counts {
    /// Waiting for a connection.
    idle: u32,
    /// In all.
    workers: u32,
}

impl Server {
    /// Starts serving. The receiver ends when the last worker has.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        broker: Arc<Broker>,
        listener: OwnedFd,
    ) -> std::io::Result<(Arc<Self>, Receiver<()>)> {
        let counts = Mutex::default();
        let server = Arc::new(Self { broker, listener, counts });
        let (alive, ended) = channel();
        server.hire(&mut server.counts(), &alive)?;
        Ok((server, ended))
    }

    /// Takes no further connection. What runs, runs on.
    pub fn stop_accepting(&self) {
        self.broker.stopping.store(true, Ordering::SeqCst);
        if let Ok(listener) = self.listener.try_clone() {
            // The name of the type is the only thing about it that says "stream".
            UnixStream::from(listener).shutdown(Shutdown::Both).ok();
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hire(self: &Arc<Self>, counts: &mut Counts, alive: &Sender<()>) -> std::io::Result<()> {
        let (server, alive) = (Arc::clone(self), alive.clone());
        let worker = thread::Builder::new().stack_size(STACK_BYTES);
        worker.spawn(move || server.work(&alive))?;
        counts.idle = counts.idle.saturating_add(1);
        counts.workers = counts.workers.saturating_add(1);
        Ok(())
    }

    /// One worker, from its first connection to its last.
    fn work(self: &Arc<Self>, alive: &Sender<()>) {
        while let Some(socket) = self.next_connection() {
            if self.leave_somebody_waiting(alive) {
                self.serve(socket);
            } else {
                let text = "too much is asked of the broker at the moment; try again";
                // A front whose request is on its way, or unread, would learn of a reset only.
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, Some(BUSY_MS)).ok();
                recv_now(&socket, &mut [0]).ok();
                Connection::new(socket).refused(&Refusal::new(Reason::Busy, text));
            }
            let mut counts = self.counts();
            if counts.idle >= IDLE_WORKERS {
                counts.workers = counts.workers.saturating_sub(1);
                let is_last = counts.workers <= IDLE_WORKERS;
                drop(counts);
                if is_last {
                    // What many at once needed.
                    olb_sys::harden::give_back_memory();
                }
                return;
            }
            counts.idle = counts.idle.saturating_add(1);
        }
    }

    /// `None` once no connection is to be taken any more. Whatever else goes wrong passes.
    fn next_connection(&self) -> Option<OwnedFd> {
        loop {
            let accepted = accept(&self.listener);
            if self.broker.is_stopping() {
                return None;
            }
            match accepted {
                Ok(socket) => return Some(socket),
                Err(error) => {
                    self.broker.journal.warn(&format!("cannot take a connection: {error}"));
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Called with a connection in hand: sees to it that another worker waits for the next one, so
    /// that a long run never keeps others waiting. False if there can be none; then this worker
    /// has to go back to waiting at once.
    fn leave_somebody_waiting(self: &Arc<Self>, alive: &Sender<()>) -> bool {
        let mut counts = self.counts();
        counts.idle = counts.idle.saturating_sub(1);
        if counts.idle > 0 {
            return true;
        }
        if counts.workers >= self.broker.config.limits.connections {
            return false;
        }
        let hired = self.hire(&mut counts, alive);
        if let Err(error) = &hired {
            self.broker.journal.warn(&format!("cannot start a worker: {error}"));
        }
        hired.is_ok()
    }

    fn serve(&self, socket: OwnedFd) {
        let broker = &*self.broker;
        let allowed = |uid: u32| uid == broker.config.front_uid || uid == broker.own_uid;
        if !seqpacket_peer(&socket).is_ok_and(|peer| allowed(peer.uid)) {
            broker.journal.count(Reason::NotListed);
            return;
        }
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut fds, Some(REQUEST_MS)).is_ok_and(|ready| ready > 0) {
            broker.journal.count(Reason::Malformed);
            return;
        }
        let Ok(datagram) = recv_datagram(socket.as_fd(), DATAGRAM_BYTES_MAX, FDS_MAX) else {
            broker.journal.count(Reason::Malformed);
            return;
        };
        let front = Connection::new(socket);
        if let Err(refusal) = self.dispatch(&front, &datagram.bytes, datagram.fds) {
            broker.journal.count(refusal.reason);
            front.refused(&refusal);
        }
    }

    fn dispatch(
        &self,
        front: &Connection,
        datagram: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let broker = &*self.broker;
        let malformed = |text: &str| Refusal::new(Reason::Malformed, text);
        let (op, a, b) = split_request(datagram).map_err(|error| malformed(&error.to_string()))?;
        if op != Op::Read && broker.is_stopping() {
            let text = "the broker is stopping; try again when it is back";
            return Err(Refusal::new(Reason::Unavailable, text));
        }
        let mut fds = fds.into_iter();
        match (op, fds.next()) {
            (Op::Decide, Some(approver)) if fds.len() == 0 => {
                let decided = decide(broker, a, b, &approver)?;
                front.done(&decided.encode());
                broker.anchor(&decided.receipt);
            }
            (Op::Execute, Some(client)) => execute(broker, front, a, b, &client, fds.collect()),
            (Op::Read, None) if b.is_empty() => front.done(&read(broker, a)?),
            (Op::Decide | Op::Execute | Op::Read, _) => {
                return Err(malformed("not the descriptors or parts that the operation takes"));
            }
        }
        Ok(())
    }
}

/// Binds exec.sock, for the front alone to connect to.
///
/// # Errors
/// It cannot be bound.
pub fn listen(path: &Path, front_uid: u32) -> std::io::Result<OwnedFd> {
    const MODE: u32 = 0o600;
    olb_sys::socket::listen_seqpacket(path, MODE, Some(front_uid))
}
