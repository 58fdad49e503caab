//! The bytes of staged files, as they arrive behind a submit: written to disk as they come, so that
//! memory stays flat, and compared with the digests that were announced.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use olb_lease::Staged;
use olb_review::display::safe;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::blobs::{ArrivalError, Incoming};
use crate::front::Front;
use crate::refuse::Refuse;

/// So much is read before it is written.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why files did not arrive.
#[derive(Debug, Error)]
pub(crate) enum UploadError {
    #[error("the client closed the connection before the files of its command had arrived")]
    Closed,
    #[error("the files of the command did not arrive within {} seconds; ask again", .0.as_secs())]
    Late(Duration),
    #[error("what arrived of {0} is not what was announced; it may have changed, so ask again")]
    Differs(String),
    #[error("bytes follow the files of the command; send what was announced and nothing else")]
    Trailing,
    #[error(
        "the broker cannot keep the files of the command ({0}); see to its disk, then ask again"
    )]
    Disk(io::Error),
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

/// Receives the files of `uid` that `staged` announces.
pub(crate) async fn receive(
    front: &Front,
    uid: u32,
    stream: &UnixStream,
    staged: &[Staged],
) -> Result<Incoming, Refuse> {
    let limit = front.config.connections.upload();
    // So many at once; the others wait with their bytes in their own hands.
    let _turn = front.transfers.take(uid).await.map_err(|_| UploadError::Closed)?;
    let bytes = staged.iter().map(|file| file.size).sum();
    let incoming = front.blobs.arrive(uid, bytes).map_err(|error| match error {
        ArrivalError::Full(full) => Refuse::from(full),
        ArrivalError::Io(error) => UploadError::Disk(error).into(),
    })?;
    let all = async {
        for (at, file) in staged.iter().enumerate() {
            let target = incoming.create(at).map_err(UploadError::Disk)?;
            receive_one(stream, target, file).await?;
        }
        match olb_sys::socket::queued_bytes(stream).map_err(UploadError::Io)? {
            0 => Ok(()),
            _ => Err(UploadError::Trailing),
        }
    };
    timeout(limit, all).await.map_err(|_| UploadError::Late(limit))??;
    Ok(incoming)
}

async fn receive_one(
    stream: &UnixStream,
    target: File,
    announced: &Staged,
) -> Result<(), UploadError> {
    let mut writer = Writer { target, digest: Sha256::new(), chunk: Vec::new() };
    let mut missing = announced.size;
    while missing > 0 {
        let room = usize::try_from(missing).map_or(CHUNK_BYTES, |missing| missing.min(CHUNK_BYTES));
        writer.chunk.resize(room, 0);
        let mut filled = 0;
        while let Some(rest) = writer.chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled = filled.saturating_add(read(stream, rest).await?);
        }
        missing = missing.saturating_sub(room as u64);
        // Hashing and a slow disk are nobody else's to wait for.
        let written = spawn_blocking(move || writer.write());
        writer = written.await.map_err(|error| UploadError::Disk(io::Error::other(error)))??;
    }
    if writer.digest.clone().finalize().as_slice() == announced.sha256.as_bytes() {
        // The request is remembered across a power cut, so its files have to be.
        let synced = spawn_blocking(move || writer.target.sync_all()).await;
        synced.map_err(io::Error::other).and_then(|synced| synced).map_err(UploadError::Disk)
    } else {
        Err(UploadError::Differs(safe(&announced.path)))
    }
}

/// Plain reads without a control buffer: the kernel drops descriptors that a client attaches.
async fn read(stream: &UnixStream, buffer: &mut [u8]) -> Result<usize, UploadError> {
    loop {
        stream.readable().await.map_err(UploadError::Io)?;
        match stream.try_read(buffer) {
            Ok(0) => return Err(UploadError::Closed),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(UploadError::Io(error)),
        }
    }
}

struct Writer {
    target: File,
    digest: Sha256,
    chunk: Vec<u8>,
}

impl Writer {
    fn write(mut self) -> Result<Self, UploadError> {
        self.digest.update(&self.chunk);
        self.target.write_all(&self.chunk).map_err(UploadError::Disk)?;
        Ok(self)
    }
}
