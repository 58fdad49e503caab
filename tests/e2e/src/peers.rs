//! Connected sockets whose peer is a given uid, as the kernel sees it.

use std::fs::{Permissions, set_permissions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::instance::Instance;

/// Makes such sockets.
#[derive(Debug, Clone)]
pub struct Peers {
    program: PathBuf,
}

impl Peers {
    /// With the helper program of `instance`.
    pub fn of(instance: &Instance) -> Self {
        Self { program: instance.path("bin/olb-test-peer") }
    }

    /// A connected pair: the server's side shows `uid` as its peer, and the client's side.
    pub fn connected_by(&self, uid: u32) -> (UnixStream, UnixStream) {
        let dir = tempfile::tempdir_in("/run").expect("/run");
        set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("its mode");
        let path = dir.path().join("s");
        let listener = olb_sys::socket::listen_stream(&path, 0o666).expect("a listener");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut command = Command::new(&self.program);
        command.arg(&path).uid(uid).gid(uid).stdin(OwnedFd::from(theirs));
        let mut child = command.spawn().expect("the helper");
        drop(command);
        (&ours).write_all(b"c").expect("a word to the helper");
        let (server, _) = listener.accept().expect("a connection");
        let (_, mut fds) =
            olb_sys::socket::recv_with_fds(ours.as_fd(), &mut [0], 1).expect("a hand-over");
        drop(ours);
        assert!(child.wait().expect("its end").success());
        (server, fds.pop().expect("the connection").into())
    }
}
