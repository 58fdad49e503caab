//! `olb audit list`, `export` and `verify`.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::vec;

use olb_exec_api::{RecordPage, SequencedRecord};
use olb_wire::{Request, Response};

use crate::args::{AuditCommand, AuditListArgs};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::json;

mod anchor;
mod line;
mod lines;
#[cfg(test)]
mod sample;
mod verify;

/// `olb audit`.
pub(crate) fn run(command: &AuditCommand) -> ExitCode {
    match command {
        AuditCommand::List(args) => list(args),
        AuditCommand::Export => print(1, |one| json::line(&line::export(one))),
        AuditCommand::Verify(args) => verify::run(args),
    }
}

fn list(args: &AuditListArgs) -> ExitCode {
    if args.json {
        print(args.from, |one| json::line(&line::export(one)))
    } else {
        print(args.from, line::describe)
    }
}

/// Prints a line for each record of the running broker, from `from` on.
fn print(from: u64, line: impl Fn(&SequencedRecord) -> String) -> ExitCode {
    match try_print(from, line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(false),
    }
}

fn try_print(from: u64, line: impl Fn(&SequencedRecord) -> String) -> Result<(), Failure> {
    let runtime = Runtime::for_operator()?;
    let mut out = std::io::stdout().lock();
    for one in Trail::of(&runtime, from) {
        let line = line(&one?);
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => {}
            // A reader that has seen enough ends the listing; that is no failure of ours.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            // But half a trail must not pass for all of it.
            Err(error) => {
                return Err(Failure::new(
                    code::UNKNOWN_OUTCOME,
                    "output_lost",
                    format!("the trail cannot be written ({error}); make room and ask again"),
                ));
            }
        }
    }
    Ok(())
}

/// The records of a running broker, fetched page by page. Ends after its first failure.
struct Trail<'a> {
    runtime: &'a Runtime,
    /// The first sequence number of the next page; `None` once there is no further one.
    next: Option<u64>,
    page: vec::IntoIter<SequencedRecord>,
}

impl<'a> Trail<'a> {
    fn of(runtime: &'a Runtime, from: u64) -> Self {
        Self { runtime, next: Some(from), page: Vec::new().into_iter() }
    }

    fn fetch(&self, from: u64) -> Result<RecordPage, Failure> {
        match self.runtime.ask(Socket::Review, &Request::Records { from })? {
            Response::Records(page) => RecordPage::decode(&page).map_err(|_| Failure::bad_answer()),
            _ => Err(Failure::bad_answer()),
        }
    }
}

impl Iterator for Trail<'_> {
    type Item = Result<SequencedRecord, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(one) = self.page.next() {
            return Some(Ok(one));
        }
        let from = self.next.take()?;
        let page = match self.fetch(from) {
            Ok(page) => page,
            Err(failure) => return Some(Err(failure)),
        };
        let last = page.records.iter().map(|one| one.sequence).max();
        // Also where the broker repeats itself, this ends.
        self.next = last.and_then(|last| last.max(from).checked_add(1));
        self.page = page.records.into_iter();
        self.page.next().map(Ok)
    }
}
