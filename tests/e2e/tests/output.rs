//! A large output arrives byte for byte, wherever it goes, and what is recorded of it is true.
//!
//! 64 MiB; through a pipe 1 GiB at full length (`OLB_SOAK`).

use std::fs::File;
use std::io::Read;
use std::process::{Child, Stdio};

use olb_e2e_tests::{Approver, Instance};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Length of the file that the command writes again and again: no multiple of a page or a pipe.
const PIECE_BYTES: usize = (1 << 20) + 4099;
/// So often.
const TIMES: usize = 64;

struct Stage {
    instance: Instance,
    alice: Approver,
    agent: u32,
    piece: Vec<u8>,
    times: usize,
}

impl Stage {
    fn new(times: usize) -> Self {
        let instance = Instance::start();
        let (alice, agent) = (instance.enrol(0), instance.requester(0));
        let mut state = 7_u32;
        let piece = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        let piece: Vec<u8> = piece.take(PIECE_BYTES).collect();
        std::fs::write(instance.work().join("piece"), &piece).unwrap();
        Self { instance, alice, agent, piece, times }
    }

    /// The large output on its way to `stdout`, and where its outcome will be.
    fn start(&self, name: &str, stdout: impl Into<Stdio>) -> (Child, String) {
        let script = format!("for i in $(seq {}); do cat piece; done # {name}", self.times);
        let command = ["/bin/sh", "-c", &script];
        let (_, lease) = self.instance.approved(self.agent, &self.alice, &command);
        let lease = self.instance.lease_file(self.agent, &lease);
        // In a folder of the agent's own.
        let outcome = format!("{lease}.outcome");
        std::fs::write(&outcome, "").unwrap();
        std::os::unix::fs::chown(&outcome, Some(self.agent), None).unwrap();
        let words = ["exec", "--lease-file", &lease, "--outcome-file", &outcome, "--"];
        let words = [&words[..], &command].concat();
        let mut olb = self.instance.olb_command(self.agent, &words);
        let child = olb.stdout(stdout).stderr(Stdio::inherit()).spawn().unwrap();
        (child, outcome)
    }

    /// Fails unless `got` is the large output and nothing else.
    fn check(&self, name: &str, mut got: impl Read) {
        let mut buffer = vec![0; PIECE_BYTES];
        for at in 0..self.times {
            got.read_exact(&mut buffer).unwrap_or_else(|error| panic!("{name}, {at}: {error}"));
            assert!(buffer == self.piece, "{name}: other bytes in piece {at}");
        }
        assert_eq!(got.read(&mut buffer).unwrap(), 0, "{name}: more than was written");
    }

    /// Fails unless the run ended well and its record says what was written.
    fn check_record(&self, name: &str, mut child: Child, outcome: &str) {
        assert!(child.wait().unwrap().success(), "{name}");
        let outcome: Value = serde_json::from_slice(&std::fs::read(outcome).unwrap()).unwrap();
        let mut hash = Sha256::new();
        (0..self.times).for_each(|_| hash.update(&self.piece));
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(outcome["stdout_sha256"], hash, "{name}: {outcome}");
        assert_eq!(outcome["stdout_bytes"], self.times * PIECE_BYTES, "{name}: {outcome}");
    }
}

#[test]
fn a_large_output_arrives_byte_for_byte_through_a_pipe() {
    let times = if std::env::var_os("OLB_SOAK").is_some() { 1024 } else { TIMES };
    let stage = Stage::new(times);
    let (mut child, outcome) = stage.start("pipe", Stdio::piped());
    stage.check("pipe", child.stdout.take().unwrap());
    stage.check_record("pipe", child, &outcome);
}

#[test]
fn a_large_output_arrives_byte_for_byte_in_a_file() {
    let stage = Stage::new(TIMES);
    for name in ["written", "appended"] {
        let path = stage.instance.path(name);
        let file = match name {
            "written" => File::create(&path).unwrap(),
            _ => File::options().create(true).append(true).open(&path).unwrap(),
        };
        let (child, outcome) = stage.start(name, file);
        stage.check_record(name, child, &outcome);
        stage.check(name, File::open(&path).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_large_output_arrives_byte_for_byte_on_a_socket() {
    let stage = Stage::new(TIMES);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (child, outcome) = stage.start("socket", std::os::fd::OwnedFd::from(theirs));
    stage.check("socket", ours);
    stage.check_record("socket", child, &outcome);
}
