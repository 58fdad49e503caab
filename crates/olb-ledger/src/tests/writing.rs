use std::fs;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::job::{Class, Message, Task};
use crate::tx::Tx;

type Answer = Receiver<Result<bool, LedgerError>>;

/// Queues jobs behind one that waits until all are queued, so that they share a transaction.
struct Gate<'a> {
    ledger: &'a Ledger,
    open: std::sync::mpsc::SyncSender<()>,
}

impl<'a> Gate<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        let (open, closed) = sync_channel(1);
        let (entered, inside) = sync_channel(1);
        let gate = Self { ledger, open };
        gate.queue(Class::Read, move |_| {
            entered.send(()).unwrap();
            Ok(closed.recv().is_ok())
        });
        inside.recv().unwrap();
        gate
    }

    fn queue(
        &self,
        class: Class,
        work: impl FnMut(&mut Tx<'_>) -> Result<bool, LedgerError> + Send + 'static,
    ) -> Answer {
        let (reply, answer) = sync_channel(1);
        let job = Message::Job(Box::new(Task::new(class, work, reply)));
        self.ledger.queue().send(job).unwrap();
        answer
    }

    fn refuse(&self, class: Class, cti: u8) -> Answer {
        let plan = PlanDigest([cti; 32]);
        self.queue(class, move |tx| crate::burn::refuse(tx, plan, Cti([cti; 16]), "test", NOW))
    }

    fn fail(&self, error: LedgerError) -> Answer {
        self.queue(Class::Change, move |_| Err(error.clone()))
    }

    fn open(self) {
        self.open.send(()).unwrap();
    }
}

fn io_error() -> LedgerError {
    LedgerError::Sqlite("disk I/O error".into())
}

#[test]
fn a_job_that_fails_by_itself_leaves_the_others_alone() {
    let (_host, ledger) = fresh();
    let gate = Gate::new(&ledger);
    let before = gate.refuse(Class::Change, 1);
    let alone = gate.queue(Class::Change, |tx| {
        crate::burn::refuse(tx, PlanDigest([9; 32]), Cti([9; 16]), "undone", NOW)?;
        Err(LedgerError::Input("by itself"))
    });
    let after = gate.refuse(Class::Change, 2);
    gate.open();
    assert_eq!(before.recv().unwrap(), Ok(true));
    assert_eq!(alone.recv().unwrap(), Err(LedgerError::Input("by itself")));
    assert_eq!(after.recv().unwrap(), Ok(true));
    assert_eq!(intact(&ledger).records, 3, "epoch and two refusals");
}

#[test]
fn an_outcome_recorded_again_is_the_one_recorded_before() {
    let (_host, ledger) = fresh();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    let burned = ledger.burn(verified(&lease), check(&ledger)).unwrap();
    let (plan, cti) = (burned.claims().plan, burned.claims().cti);
    let number = i64::try_from(burned.number()).unwrap();
    let gate = Gate::new(&ledger);
    let twice = gate.queue(Class::Outcome, move |tx| {
        let first = crate::burn::finish(tx, number, plan, cti, &exited(0))?;
        Ok(first == crate::burn::finish(tx, number, plan, cti, &exited(1))?)
    });
    gate.open();
    assert_eq!(twice.recv().unwrap(), Ok(true));
    let first = ledger.receipt_of(plan).unwrap();
    assert_eq!(Some(ledger.finish(burned, exited(2)).unwrap()), first);
    assert_eq!(intact(&ledger).records, 4);
}

#[test]
fn a_failed_transaction_refuses_what_is_new_and_records_what_ran() {
    let (_host, ledger) = fresh();
    let gate = Gate::new(&ledger);
    let change = gate.refuse(Class::Change, 1);
    let outcome = gate.refuse(Class::Outcome, 2);
    let failed = gate.fail(io_error());
    let read = gate.queue(Class::Read, |tx| Ok(tx.tip.sequence == 2));
    gate.open();
    assert_eq!(change.recv().unwrap(), Err(io_error()));
    assert_eq!(failed.recv().unwrap(), Err(io_error()));
    assert_eq!(outcome.recv().unwrap(), Ok(true));
    assert_eq!(read.recv().unwrap(), Ok(true), "it sees the outcome and not the change");
    let lease = Request::new(&ledger, 3).approve(&ledger);
    ledger.burn(verified(&lease), check(&ledger)).unwrap();
    assert_eq!(intact(&ledger).records, 4);
}

#[test]
fn a_ledger_that_cannot_be_reopened_refuses_everything_until_it_can() {
    let mut host = Host::new();
    let ledger = host.open();
    let request = Request::new(&ledger, 1);
    let lease = request.approve(&ledger);
    let gate = Gate::new(&ledger);
    let failed = gate.fail(io_error());
    let aside = host.directory.path().join("aside");
    fs::create_dir(&aside).unwrap();
    let names = ["ledger.db", "ledger.db-wal"];
    for name in names {
        fs::rename(host.directory.path().join(name), aside.join(name)).unwrap();
    }
    gate.open();
    assert_eq!(failed.recv().unwrap(), Err(io_error()));
    for _ in 0..2 {
        let refused = ledger.burn(verified(&lease), check(&ledger)).unwrap_err();
        assert!(matches!(refused, crate::BurnError::Ledger(LedgerError::Broken { .. })));
        assert!(matches!(ledger.peek(request.digest()), Err(LedgerError::Broken { .. })));
    }
    for name in names {
        fs::rename(aside.join(name), host.directory.path().join(name)).unwrap();
    }
    ledger.burn(verified(&lease), check(&ledger)).unwrap();
    assert_eq!(intact(&ledger).records, 3);
}

#[test]
fn a_ledger_replaced_while_it_was_open_is_refused() {
    let mut host = Host::new();
    host.open().close();
    let copy = fs::read(host.path()).unwrap();
    let ledger = host.open();
    let lease = Request::new(&ledger, 1).approve(&ledger);
    let gate = Gate::new(&ledger);
    let failed = gate.fail(io_error());
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::remove_file(host.directory.path().join(name)).unwrap();
    }
    fs::write(host.path(), copy).unwrap();
    gate.open();
    assert_eq!(failed.recv().unwrap(), Err(io_error()));
    let refused = ledger.burn(verified(&lease), check(&ledger)).unwrap_err();
    assert!(refused.to_string().contains("replaced"), "{refused}");
}

#[test]
fn callers_who_come_at_once_and_callers_who_come_alone_are_all_answered() {
    const CALLERS: u8 = 8;
    const CALLS: u64 = 40;
    let (_host, ledger) = fresh();
    // The gate is the company that the others come in.
    let gate = Gate::new(&ledger);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let ledger = &ledger;
            scope.spawn(move || {
                for call in 0..CALLS {
                    let cti = Cti([caller + 1; 16]);
                    let plan = PlanDigest([caller + 1; 32]);
                    let counted = ledger.refuse(plan, cti, "test", NOW + call).unwrap();
                    assert_eq!(counted, call < u64::from(crate::REFUSALS_PER_LEASE));
                }
            });
        }
        gate.open();
    });
    let refusals = u64::from(crate::REFUSALS_PER_LEASE).min(CALLS) * u64::from(CALLERS);
    assert_eq!(intact(&ledger).records, 1 + refusals, "epoch and every refusal, once");
}

#[test]
fn after_the_end_every_handle_says_so() {
    let (_host, ledger) = fresh();
    let other = ledger.clone();
    ledger.close();
    assert_eq!(other.head(), Err(LedgerError::Stopped));
    other.close();
}

#[test]
fn what_was_queued_before_the_end_is_done() {
    let mut host = Host::new();
    let ledger = host.open();
    let gate = Gate::new(&ledger);
    let queued = gate.refuse(Class::Change, 1);
    ledger.queue().send(Message::Stop).unwrap();
    gate.open();
    assert_eq!(queued.recv().unwrap(), Ok(true));
    ledger.close();
    assert_eq!(intact(&host.open()).records, 2);
}

#[test]
fn the_log_is_folded_into_the_database_while_nobody_waits() {
    let mut host = Host::new();
    let ledger = host.open();
    let before = fs::metadata(host.path()).unwrap().len();
    for number in 0..400 {
        Request::new(&ledger, number).approve(&ledger);
    }
    ledger.head().unwrap();
    assert!(fs::metadata(host.path()).unwrap().len() > before, "nothing was folded");
    assert_eq!(intact(&ledger).records, 401);
}
