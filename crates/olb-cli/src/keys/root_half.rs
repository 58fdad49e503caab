//! Asking the root half itself, as root may: what root changes, the front does not confirm.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use olb_exec_api::{
    DATAGRAM_BYTES_MAX, Info, Op, Query, RecordPage, Status, decode_info, request, split_reply,
};
use olb_lease::{Kid, Record, RecordEvent};
use olb_sys::poll::{PollFd, PollFlags, poll};
use olb_sys::socket::{connect_seqpacket, recv_datagram, send_datagram};

use crate::failure::{Failure, code};

/// An answer is there within this time, in milliseconds, or is not waited for.
const ANSWER_MS: u32 = 30_000;

/// exec.sock of one broker.
#[derive(Debug, Clone)]
pub(crate) struct RootHalf {
    socket: PathBuf,
}

impl RootHalf {
    /// The root half with its socket in `runtime_dir`.
    pub(crate) fn of(runtime_dir: &Path) -> Self {
        Self { socket: runtime_dir.join("exec.sock") }
    }

    /// Who the broker is; `None` where no root half runs.
    ///
    /// # Errors
    /// One runs and does not answer.
    pub(crate) fn info(&self) -> Result<Option<Info>, Failure> {
        let Some(answer) = self.read(Query::Info)? else { return Ok(None) };
        decode_info(&answer).map(Some).map_err(|_| Failure::bad_answer())
    }

    /// The number of the record, from `from` on, which says that the key `kid` has ended.
    ///
    /// # Errors
    /// The root half does not answer.
    pub(crate) fn end_of_key(&self, kid: Kid, from: u64) -> Result<Option<u64>, Failure> {
        let mut from = from;
        while let Some(answer) = self.read(Query::Records { from })? {
            let page = RecordPage::decode(&answer).map_err(|_| Failure::bad_answer())?;
            let Some(last) = page.records.last() else { break };
            from = from.max(last.sequence).saturating_add(1);
            let is_it = |record: &[u8]| {
                Record::decode(record).is_ok_and(|one| one.event == RecordEvent::KeyEnded { kid })
            };
            if let Some(found) = page.records.iter().find(|one| is_it(&one.record)) {
                return Ok(Some(found.sequence));
            }
        }
        Ok(None)
    }

    fn read(&self, query: Query) -> Result<Option<Vec<u8>>, Failure> {
        let silent = |why: &str| {
            let text = format!(
                "the root half does not answer on {} ({why}); look at the journal of olb-execd",
                self.socket.display()
            );
            Failure::new(code::UNAVAILABLE, "unavailable", text)
        };
        let failed = |error: std::io::Error| silent(&error.to_string());
        let socket = match connect_seqpacket(&self.socket) {
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) =>
            {
                return Ok(None);
            }
            socket => socket.map_err(failed)?,
        };
        let datagram =
            request(Op::Read, &query.encode(), &[]).map_err(|error| silent(&error.to_string()))?;
        send_datagram(&socket, &datagram, &[]).map_err(failed)?;
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, Some(ANSWER_MS)).map_err(failed)? == 0 {
            return Err(silent("no answer in time"));
        }
        let answer = recv_datagram(&socket, DATAGRAM_BYTES_MAX, 0)
            .map_err(|error| silent(&error.to_string()))?;
        match split_reply(&answer.bytes) {
            Ok((Status::Done, body, _)) => Ok(Some(body.to_vec())),
            Ok((Status::Refused, ..)) => Err(silent("it refuses, as when too much is asked of it")),
            Ok((Status::Burned | Status::Outcome, ..)) | Err(_) => Err(Failure::bad_answer()),
        }
    }
}
