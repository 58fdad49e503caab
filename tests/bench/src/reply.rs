//! From a human's reply to the requester who waits for it. The reply is `olb approve`, or the message
//! that it sends: a reply by chat has to come to that message first.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Instant;

use olb_e2e_tests::{Door, ExecSock, message, submit_of, view};
use olb_lease::{VerdictKind, plan_digest};
use olb_wire::{ByteBuf, Request, RequestView};

use crate::bed::Bed;
use crate::client::{step, text};
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::runner::run_as;
use crate::stats::median;

/// The floor that it is put beside.
const FLOOR: &str = "floor + burn";
const ROWS: [&str; 5] = [
    "reply: olb approve's start to the end of olb request --wait",
    "reply: the verdict's message to the end of olb request --wait",
    "reply: the verdict's message to the lease at the waiting socket",
    "reply: a byte to another process and back",
    "reply: floor + burn, whole process",
];

/// One of each in turn, in milliseconds.
///
/// # Errors
/// A command did not end as it has to.
pub fn measure(bed: &Bed, size: Size) -> Result<Part, String> {
    let mut desk = Desk::open(bed);
    let mut echo = Echo::start();
    let mut times: [Vec<f64>; ROWS.len()] = Default::default();
    for _ in 0..size.rounds {
        let [whole, message, wire, bare, floor] = &mut times;
        whole.push(desk.approve_to_waiter()?);
        message.push(desk.message_to_waiter()?);
        wire.push(desk.message_to_socket()?);
        bare.push(echo.round_trip());
        floor.push(floor_and_burn(bed)?);
    }
    let figure = |(row, times): (&str, Vec<f64>)| {
        let figure = Figure::of(row, Unit::Milliseconds, median(times));
        if row.contains("request --wait") {
            figure.aimed(Aim::at_most(250.0, 50.0))
        } else {
            figure
        }
    };
    Ok(ROWS.into_iter().zip(times).map(figure).collect::<Vec<_>>().into())
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// Both doors, as one who asks and one who decides.
struct Desk<'a> {
    bed: &'a Bed,
    agent: Door,
    desk: Door,
    epoch: olb_lease::Epoch,
}

impl<'a> Desk<'a> {
    fn open(bed: &'a Bed) -> Self {
        let agent = Door::request(&bed.instance, bed.uid());
        let desk = Door::review(&bed.instance, bed.approver().uid);
        Self { bed, agent, desk, epoch: ExecSock::of(&bed.instance).info().epoch }
    }

    /// A pending request for a command with this word.
    fn asked(&mut self, word: &str) -> RequestView {
        let argv = ["true", "reply", word];
        view(self.agent.submit(submit_of(&self.bed.instance, &argv)))
    }

    fn verdict(&self, asked: &RequestView) -> Vec<u8> {
        let approver = self.bed.approver();
        let verdict = approver.sign(VerdictKind::Approve, plan_digest(&asked.plan), self.epoch);
        message(&Request::Decide { verdict: ByteBuf::from(verdict) })
    }

    fn approve_to_waiter(&mut self) -> Result<f64, String> {
        let word = self.bed.fresh_word();
        let asked = self.asked(&word);
        let instance = &self.bed.instance;
        let mut waiter = Waiter::start(self.bed, &word)?;
        let approver = self.bed.approver();
        let key = text(&instance.key_file(&approver.name));
        let words = ["approve", "--key", &key, "--id", &asked.request_id];
        let mut command = instance.olb_command(approver.uid, &words);
        let begun = Instant::now();
        let approve = command.spawn().map_err(|error| error.to_string())?;
        waiter.end()?;
        let time = milliseconds(begun);
        let approved = approve.wait_with_output().map_err(|error| error.to_string())?;
        if approved.status.success() { Ok(time) } else { Err(format!("olb approve: {approved:?}")) }
    }

    fn message_to_waiter(&mut self) -> Result<f64, String> {
        let word = self.bed.fresh_word();
        let asked = self.asked(&word);
        let mut waiter = Waiter::start(self.bed, &word)?;
        let (verdict, mut connection) = (self.verdict(&asked), self.desk.connect());
        let begun = Instant::now();
        connection.send(&verdict).map_err(|error| error.to_string())?;
        waiter.end()?;
        Ok(milliseconds(begun))
    }

    fn message_to_socket(&mut self) -> Result<f64, String> {
        let argv = ["true", "reply", &self.bed.fresh_word()];
        let mut submit = submit_of(&self.bed.instance, &argv);
        submit.wait = true;
        let (mut waiting, first) = self.agent.ask_and_stay(&Request::Submit(Box::new(submit)));
        let (verdict, mut connection) = (self.verdict(&view(first)), self.desk.connect());
        let begun = Instant::now();
        connection.send(&verdict).map_err(|error| error.to_string())?;
        let answer = waiting.answer();
        let time = milliseconds(begun);
        let lease = answer.map(view).and_then(|view| view.lease);
        lease.map(|_| time).ok_or_else(|| "the waiting socket got no lease".to_owned())
    }
}

/// `olb request --wait`, which has said that it waits.
struct Waiter(Child);

impl Waiter {
    fn start(bed: &Bed, word: &str) -> Result<Self, String> {
        let words = ["request", "--wait", "60", "--json", "--", "true", "reply", word];
        let mut child = bed.instance.olb_command(bed.uid(), &words).spawn().expect("olb");
        let mut line = String::new();
        let said = child.stderr.take().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("a line or its end");
        let mut waiter = Self(child);
        if line.starts_with("olb: waiting for ") {
            return Ok(waiter);
        }
        waiter.end()?;
        Err(format!("olb request --wait did not wait: {line}"))
    }

    /// Waits for its end, with the lease.
    fn end(&mut self) -> Result<(), String> {
        let mut output = String::new();
        let stdout = self.0.stdout.as_mut().ok_or("no standard output")?;
        stdout.read_to_string(&mut output).map_err(|error| error.to_string())?;
        let status = self.0.wait().map_err(|error| error.to_string())?;
        if status.success() && output.contains("\"lease\"") {
            Ok(())
        } else {
            Err(format!("olb request --wait ended with {status}: {output}"))
        }
    }
}

/// A process that sends back what it gets.
struct Echo {
    child: Child,
    socket: Option<UnixStream>,
}

impl Echo {
    fn start() -> Self {
        let (socket, theirs) = UnixStream::pair().expect("a pair");
        let also_theirs = theirs.try_clone().expect("a descriptor");
        let mut command = Command::new("cat");
        command.stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(also_theirs));
        Self { child: command.spawn().expect("cat"), socket: Some(socket) }
    }

    fn round_trip(&mut self) -> f64 {
        let socket = self.socket.as_mut().expect("until it is dropped");
        let begun = Instant::now();
        socket.write_all(b"x").expect("a byte");
        socket.read_exact(&mut [0]).expect("the same byte");
        milliseconds(begun)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.socket.take());
        self.child.wait().ok();
    }
}

fn floor_and_burn(bed: &Bed) -> Result<f64, String> {
    let floor = bed.floors.iter().find(|floor| floor.row == FLOOR).ok_or("no such floor")?;
    let (client, socket) = (bed.floor_client(), text(&floor.socket));
    let words = [client.as_str(), &socket, "/bin/true", "two", "words"];
    let times = run_as(&bed.program(), bed.uid(), &[step(&bed.instance, FLOOR, &words)])?;
    let nanoseconds = times.values().flatten().next().ok_or("no time")?;
    Ok(*nanoseconds as f64 / 1e6)
}
