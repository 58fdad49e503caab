//! The floor: the least that a root helper behind a local socket can cost. It believes whoever has
//! the uid that it serves, runs what it is told with the client's own descriptors, and answers with
//! the exit code. Optionally it burns a ticket durably before, and writes an audit row after.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use rusqlite::Connection;

/// Threads that wait for a connection.
const WORKERS: usize = 8;
/// What the helper answers when it ran nothing.
const NOTHING_RAN: u8 = 125;

/// What is written beside running the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Nothing.
    Nothing,
    /// A ticket before the command, in a commit of its own.
    Burn,
    /// That, and a row after the command, in a second commit.
    BurnAndAudit,
}

impl Record {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "nothing" => Some(Self::Nothing),
            "burn" => Some(Self::Burn),
            "burn-and-audit" => Some(Self::BurnAndAudit),
            _ => None,
        }
    }
}

struct Floor {
    uid: u32,
    record: Record,
    database: Mutex<Connection>,
}

/// Serves on `socket` for ever; prints `ready` first.
pub fn serve(socket: &Path, uid: u32, record: Record, database: &Path) {
    let floor = Floor { uid, record, database: Mutex::new(open(database)) };
    let listener = olb_sys::socket::listen_stream(socket, 0o666).expect("the floor's socket");
    println!("ready");
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| floor.work(&listener));
        }
    });
}

/// With the settings of a ledger: the log is synced at every commit, and nobody else has it open.
fn open(path: &Path) -> Connection {
    let database = Connection::open(path).expect("the floor's database");
    let settings = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; \
        PRAGMA synchronous = FULL; \
        CREATE TABLE burned (id INTEGER PRIMARY KEY, what BLOB); \
        CREATE TABLE audit (id INTEGER PRIMARY KEY, code INTEGER);";
    database.execute_batch(settings).expect("its settings");
    database
}

impl Floor {
    fn work(&self, listener: &UnixListener) {
        loop {
            let (client, _) = listener.accept().expect("a client");
            let code = self.serve_one(&client).unwrap_or(NOTHING_RAN);
            // A client that is gone needs no answer.
            (&client).write_all(&[code]).ok();
        }
    }

    fn serve_one(&self, client: &UnixStream) -> Option<u8> {
        let peer = olb_sys::peer::stream_peer(client).ok()?;
        if peer.uid != self.uid {
            return None;
        }
        let mut words = [0; 4096];
        let (length, fds) = olb_sys::socket::recv_with_fds(client.as_fd(), &mut words, 3).ok()?;
        let words = words.get(..length)?;
        let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).ok()?;
        if self.record != Record::Nothing {
            self.write("INSERT INTO burned (what) VALUES (?1)", words);
        }
        let mut argv = words.strip_suffix(&[0])?.split(|byte| *byte == 0);
        let mut command = Command::new(std::ffi::OsStr::from_bytes(argv.next()?));
        command.args(argv.map(std::ffi::OsStr::from_bytes));
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let code = u8::try_from(command.status().ok()?.code()?).ok()?;
        if self.record == Record::BurnAndAudit {
            self.write("INSERT INTO audit (code) VALUES (?1)", code);
        }
        Some(code)
    }

    fn write(&self, sql: &str, value: impl rusqlite::ToSql) {
        let database = self.database.lock().expect("no panic while it was held");
        let mut statement = database.prepare_cached(sql).expect("a statement");
        statement.execute([value]).expect("a commit");
    }
}
