//! exec.sock: warm workers, one connection each, one request datagram a connection.

use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use olb_exec_api::{DATAGRAM_BYTES_MAX, Op, Reason, Refusal, split_request};
use olb_sys::peer::seqpacket_peer;
use olb_sys::socket::{accept, recv_datagram};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::decide::decide;
use crate::execute::execute;
use crate::read::read;

/// Workers that wait for a connection while nothing is to be done.
const IDLE_WORKERS: u32 = 4;
/// A worker needs little stack: nothing here recurses.
const STACK_BYTES: usize = 256 * 1024;
/// The most descriptors that a request may carry: a client's socket and its standard input.
const FDS_MAX: usize = 2;

/// The workers and what they share.
pub struct Server {
    broker: Arc<Broker>,
    listener: OwnedFd,
    idle: AtomicU32,
    workers: AtomicU32,
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
        let counts = (AtomicU32::new(0), AtomicU32::new(0));
        let server = Arc::new(Self { broker, listener, idle: counts.0, workers: counts.1 });
        let (alive, ended) = channel();
        server.hire(&alive)?;
        Ok((server, ended))
    }

    /// Takes no further connection. What runs, runs on.
    pub fn stop_accepting(&self) {
        if let Ok(listener) = self.listener.try_clone() {
            // The name of the type is the only thing about it that says "stream".
            UnixStream::from(listener).shutdown(Shutdown::Both).ok();
        }
    }

    fn hire(self: &Arc<Self>, alive: &Sender<()>) -> std::io::Result<()> {
        let (server, alive) = (Arc::clone(self), alive.clone());
        self.idle.fetch_add(1, Ordering::SeqCst);
        self.workers.fetch_add(1, Ordering::SeqCst);
        let worker = thread::Builder::new().stack_size(STACK_BYTES);
        let spawned = worker.spawn(move || server.work(&alive));
        if spawned.is_err() {
            self.idle.fetch_sub(1, Ordering::SeqCst);
            self.workers.fetch_sub(1, Ordering::SeqCst);
        }
        spawned.map(drop)
    }

    /// One worker: whoever takes the last connection that somebody was waiting for hires the next
    /// worker first, so that a long run never keeps others waiting.
    fn work(self: &Arc<Self>, alive: &Sender<()>) {
        while let Ok(socket) = accept(&self.listener) {
            let was_idle = self.idle.fetch_sub(1, Ordering::SeqCst);
            let limit = self.broker.config.limits.connections;
            if was_idle == 1
                && self.workers.load(Ordering::SeqCst) < limit
                && let Err(error) = self.hire(alive)
            {
                self.broker.journal.warn(&format!("cannot start a worker: {error}"));
            }
            self.serve(socket);
            if self.idle.fetch_add(1, Ordering::SeqCst) >= IDLE_WORKERS {
                break;
            }
        }
        self.idle.fetch_sub(1, Ordering::SeqCst);
        self.workers.fetch_sub(1, Ordering::SeqCst);
    }

    fn serve(&self, socket: OwnedFd) {
        let broker = &*self.broker;
        let allowed = |uid: u32| uid == broker.config.front_uid || uid == broker.own_uid;
        if !seqpacket_peer(&socket).is_ok_and(|peer| allowed(peer.uid)) {
            broker.journal.count(Reason::NotListed);
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
        let mut fds = fds.into_iter();
        match (op, fds.next(), fds.next()) {
            (Op::Decide, Some(approver), None) => {
                front.done(&decide(broker, a, b, &approver)?.encode());
            }
            (Op::Execute, Some(client), stdin) => execute(broker, front, a, b, &client, stdin),
            (Op::Read, None, None) if b.is_empty() => front.done(&read(broker, a)?),
            (Op::Decide | Op::Execute | Op::Read, _, _) => {
                return Err(malformed("not the descriptors or parts that the operation takes"));
            }
        }
        Ok(())
    }
}

/// Says whether `path` may be bound: whatever is there already has to be a socket that nobody
/// serves, which [`olb_sys::socket::listen_seqpacket`] checks.
///
/// # Errors
/// It cannot be bound.
pub fn listen(path: &Path, front_uid: u32) -> std::io::Result<OwnedFd> {
    const MODE: u32 = 0o600;
    olb_sys::socket::listen_seqpacket(path, MODE, Some(front_uid))
}
