//! Frames of an execution, and whose word they are.
//!
//! The front has passed our connection on to the root half and may still write into it. The kernel
//! says of all that arrives which account sent it, so the pipes of the output and the outcome are
//! taken from the root half only. A refusal is the front's to send, too.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use olb_exec_api::{ClientFrame, FRAME_HEADER_BYTES};
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::recv_from;

/// Whoever sends a frame sends it whole; for the rest of one this is waited, in milliseconds.
const MID_FRAME_MS: u32 = 5_000;

/// The client's end of an execution.
#[derive(Debug)]
pub(crate) struct Frames {
    stream: UnixStream,
    /// The uid of the root half.
    root_half: u32,
}

/// What makes up one frame besides its bytes.
struct Origin {
    fds: Vec<OwnedFd>,
    is_root_half: bool,
}

impl Frames {
    /// Those that come on `stream`, which asks for senders ([`olb_sys::socket::ask_for_senders`]).
    pub(crate) fn new(stream: UnixStream, root_half: u32) -> Self {
        Self { stream, root_half }
    }

    /// The connection, to wait at and to send on.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// One frame with its descriptors; `None` at the end of the connection.
    ///
    /// # Errors
    /// `TimedOut` where nothing more comes of a frame that has begun: meanwhile nothing else is done.
    /// `InvalidData` for what is no frame, `PermissionDenied` for one that is the root half's to
    /// send and was sent, as a whole or in part, by another account.
    pub(crate) fn next(&self) -> io::Result<Option<(ClientFrame, Vec<OwnedFd>)>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let mut origin = Origin { fds: Vec::new(), is_root_half: true };
        let mut header = [0; FRAME_HEADER_BYTES];
        if !self.fill(&mut header, &mut origin)? {
            return Ok(None);
        }
        let header = ClientFrame::header(header).map_err(|_| invalid())?;
        let mut payload = vec![0; header.length];
        if !self.fill(&mut payload, &mut origin)? {
            return Ok(None);
        }
        let frame = ClientFrame::decode(header, &payload).map_err(|_| invalid())?;
        match frame {
            ClientFrame::Started | ClientFrame::Outcome { .. } if !origin.is_root_half => {
                Err(io::Error::from(io::ErrorKind::PermissionDenied))
            }
            ClientFrame::Started | ClientFrame::Outcome { .. } | ClientFrame::Refused(_) => {
                Ok(Some((frame, origin.fds)))
            }
        }
    }

    /// Fills `buffer`; false where the connection ends first.
    fn fill(&self, buffer: &mut [u8], origin: &mut Origin) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, Some(MID_FRAME_MS))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let received = recv_from(&self.stream, &mut buffer[filled..], 2);
            let (count, mut fds, sender) = received.map_err(io::Error::other)?;
            origin.fds.append(&mut fds);
            if count == 0 {
                return Ok(false);
            }
            origin.is_root_half &= sender == Some(self.root_half);
            filled += count;
        }
        Ok(true)
    }
}
