//! EXECUTE: verify everything, burn, and only then run; report to the client and to the front.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use olb_exec_api::{ClientFrame, Reason, Refusal};
use olb_lease::{Cti, Plan, PlanDigest, VerifiedLease, sha256};
use olb_ledger::{BurnCheck, BurnError, BurnedLease, Finish, FinishError, Recorded};
use olb_sys::clock::{boottime_ms, unix_secs};
use olb_sys::crash::crash_point;
use olb_sys::memfd::{read_all_at_most, sealed_memfd};
use olb_sys::socket::send_now;

use crate::bind::{Bound, bind, check_interpreters};
use crate::broker::{Broker, Slot};
use crate::cgroup::RunGroup;
use crate::connection::Connection;
use crate::decide::to_recorded;
use crate::run::{Command, run};
use crate::staging::Copies;
use crate::verify;

/// Attempts to record an outcome; the ledger re-opens itself between them.
const FINISH_ATTEMPTS: u32 = 3;

/// A lease that may be burned, with everything its run needs.
struct Ready<'a> {
    lease: VerifiedLease,
    command: Command,
    slot: Slot<'a>,
    copies: Option<Copies<'a>>,
}

/// A refusal, and the lease it is about where that had a valid signature.
struct Refused {
    refusal: Box<Refusal>,
    about: Option<(PlanDigest, Cti)>,
}

/// Before the next attempts to record an outcome that the ledger did not take.
const FINISH_PAUSE: Duration = Duration::from_secs(2);

/// Serves one EXECUTE from verification to receipt.
pub fn execute(
    broker: &Broker,
    front: &Connection,
    lease: &[u8],
    plan: &[u8],
    client: &OwnedFd,
    files: Vec<OwnedFd>,
) {
    let started = prepare(broker, lease, plan, client, files).and_then(|ready| {
        let about = Some((ready.lease.claims().plan, ready.lease.claims().cti));
        let Ready { lease, command, slot, copies } = ready;
        let check = BurnCheck { now: unix_secs(), boot_now_ms: boottime_ms(), epoch: broker.epoch };
        crash_point("execute-before-burn");
        let burned = broker
            .ledger
            .burn(lease, check)
            .map_err(|error| Refused { refusal: Box::new(burn_refusal(broker, error)), about })?;
        Ok((burned, command, slot, copies))
    });
    match started {
        Ok((burned, command, slot, copies)) => {
            crash_point("execute-after-burn");
            front.burned();
            crash_point("execute-after-burned-reply");
            let (finish, group) = run(broker, command, client);
            drop(slot);
            crash_point("finish-before-record");
            let unrecorded = report(broker, front, client, burned, &finish);
            // After everybody was told: ending what was left behind may take its time. Until then
            // its copies are there, and no longer: on a full disk they may be what is in the way.
            drop(group);
            drop(copies);
            if let Some(error) = unrecorded {
                record_late(broker, error, &finish);
            }
        }
        Err(refused) => refuse(broker, front, client, &refused),
    }
}

/// Every check before the burn. A failure here leaves the lease as it was.
fn prepare<'a>(
    broker: &'a Broker,
    lease_bytes: &[u8],
    plan_bytes: &[u8],
    client: &OwnedFd,
    files: Vec<OwnedFd>,
) -> Result<Ready<'a>, Refused> {
    let lease = verify::signature(broker, lease_bytes)
        .map_err(|refusal| Refused { refusal: refusal.into(), about: None })?;
    let claims = lease.claims();
    let about = Some((claims.plan, claims.cti));
    let parts = || {
        let plan = verify::agreement(broker, claims, plan_bytes)?;
        verify::presenter(broker, claims, client)?;
        let issued =
            broker.ledger.issued(claims.cti).map_err(|error| broker.ledger_refusal(&error))?;
        if issued.as_ref().is_some_and(|row| row.burned) {
            return Err(already_burned(broker, claims.plan));
        }
        verify::standing(broker, claims, &plan, issued, unix_secs())?;
        // First the room, then what could take long on a strange file system.
        let slot = take_slot(broker, plan.requester_uid)?;
        let bound = bind(broker, &plan)?;
        let mut files = files.into_iter();
        let stdin = bound_stdin(&plan, plan.stdin.as_ref().and_then(|_| files.next()))?;
        let copies = copies(broker, &plan, &bound, files.collect())?;
        let group = run_group(broker, claims.plan)?;
        Ok((Command::prepare(broker, plan, bound, stdin, group)?, slot, copies))
    };
    match parts() {
        Ok((command, slot, copies)) => Ok(Ready { lease, command, slot, copies }),
        Err(refusal) => Err(Refused { refusal: Box::new(refusal), about }),
    }
}

fn take_slot(broker: &Broker, uid: u32) -> Result<Slot<'_>, Refusal> {
    let limits = &broker.config.limits;
    broker.slots.take(uid, limits.executions, limits.executions_per_uid).ok_or_else(|| {
        let text = "too many commands run at the moment; try again when one has ended";
        Refusal::new(Reason::Busy, text)
    })
}

/// A lease that is burned already is answered with what is recorded before anything else is looked
/// at: the command may have changed its own executable or directory.
fn already_burned(broker: &Broker, plan: PlanDigest) -> Refusal {
    match broker.ledger.peek(plan) {
        Ok(row) => burn_refusal(broker, BurnError::AlreadyBurned(row.recorded)),
        Err(error) => broker.ledger_refusal(&error),
    }
}

/// The plan's staged files as copies of our own; what is to be executed leads nowhere else.
fn copies<'a>(
    broker: &'a Broker,
    plan: &Plan,
    bound: &Bound,
    offered: Vec<OwnedFd>,
) -> Result<Option<Copies<'a>>, Refusal> {
    let staging = match &broker.staging {
        Some(staging) if !plan.staged.is_empty() => staging,
        Some(_) | None if offered.is_empty() => return Ok(None),
        Some(_) | None => {
            let text = "other files were handed over than were approved; ask again";
            return Err(Refusal::new(Reason::Mismatch, text));
        }
    };
    let copies = staging.copy(plan, offered)?;
    crash_point("execute-after-staging");
    for place in copies.executables() {
        check_interpreters(&bound.cwd, place, &broker.trusted_uids())?;
    }
    Ok(Some(copies))
}

/// The plan's standard input as a file of our own: the front's is copied first, the copy is hashed,
/// and the copy is used.
fn bound_stdin(plan: &Plan, offered: Option<OwnedFd>) -> Result<Option<OwnedFd>, Refusal> {
    let Some(wanted) = &plan.stdin else { return Ok(None) };
    let differs = || {
        let text = "the standard input is not the one that was approved; ask again";
        Refusal::new(Reason::Mismatch, text)
    };
    let offered = offered.ok_or_else(differs)?;
    let size = usize::try_from(wanted.size).map_err(|_| differs())?;
    let bytes = read_all_at_most(offered.as_fd(), size).map_err(|_| differs())?;
    if bytes.len() as u64 != wanted.size || sha256(&bytes) != wanted.sha256.0 {
        return Err(differs());
    }
    sealed_memfd("olb-stdin", &bytes).map(Some).map_err(|error| {
        Refusal::new(Reason::Unavailable, format!("no room for the standard input: {error}"))
    })
}

/// The run's own cgroup, where runs get one. Where it cannot be made, nothing runs.
fn run_group(broker: &Broker, plan: PlanDigest) -> Result<Option<RunGroup>, Refusal> {
    let Some(groups) = &broker.run_groups else {
        return Ok(None);
    };
    groups.create(plan.request_id()).map(Some).map_err(|error| {
        broker.journal.warn(&format!("no cgroup for a run: {error}"));
        let text = "the command cannot get a cgroup of its own; tell the administrator";
        Refusal::new(Reason::Unavailable, text)
    })
}

fn burn_refusal(broker: &Broker, error: BurnError) -> Refusal {
    let reason = match &error {
        BurnError::AlreadyBurned(_) => Reason::AlreadyBurned,
        BurnError::Closed(olb_lease::VerdictKind::Deny) => Reason::Denied,
        BurnError::Closed(_) => Reason::Revoked,
        BurnError::Expired => Reason::Expired,
        BurnError::NotIssued => Reason::NotIssued,
        BurnError::WrongEpoch => Reason::BrokerRestarted,
        BurnError::KeyRevoked => Reason::NotEnrolled,
        BurnError::Ledger(error) => return broker.ledger_refusal(error),
    };
    let text = error.to_string();
    let recorded = match error {
        BurnError::AlreadyBurned(recorded) => recorded.map(to_recorded),
        _ => None,
    };
    Refusal { reason, text, recorded }
}

fn refuse(broker: &Broker, front: &Connection, client: &OwnedFd, refused: &Refused) {
    let refusal = &refused.refusal;
    broker.journal.count(refusal.reason);
    if let Some((plan, cti)) = refused.about {
        // Whether the refusal could be recorded changes nothing about it.
        broker.ledger.refuse(plan, cti, refusal.reason.name(), unix_secs()).ok();
    }
    // Only a requester's own socket is written to: what else the front may have passed is none of
    // our business.
    if verify::is_requester(broker, client) {
        tell(client, &ClientFrame::Refused(Refusal::clone(refusal)));
    }
    front.refused(refusal);
}

/// Makes the outcome durable, then tells the client and the front. What could not be recorded is
/// handed back.
fn report(
    broker: &Broker,
    front: &Connection,
    client: &OwnedFd,
    burned: BurnedLease,
    finish: &Finish,
) -> Option<FinishError> {
    match record(broker, burned, finish) {
        Ok(receipt) => {
            crash_point("finish-after-record");
            tell(client, &ClientFrame::Outcome { receipt: receipt.clone() });
            crash_point("finish-after-client-told");
            // On the same processor the client ends now, not after the front has stored all this.
            std::thread::yield_now();
            let recorded = to_recorded(Recorded {
                receipt,
                stdout_tail: finish.stdout_tail.clone(),
                stderr_tail: finish.stderr_tail.clone(),
            });
            front.outcome(&recorded);
            broker.anchor(&recorded.receipt);
            None
        }
        Err(error) => {
            let text = "the command ran, but its outcome could not be recorded; tell the \
                        administrator";
            let refusal = Refusal::new(Reason::OutcomeUnknown, text);
            tell(client, &ClientFrame::Refused(refusal.clone()));
            front.refused(&refusal);
            Some(error)
        }
    }
}

/// An outcome is not given up while this process lives: the disk may get room again. At a stop it
/// is, and the next start records that the outcome is not known.
fn record_late(broker: &Broker, mut failed: FinishError, finish: &Finish) {
    let id = failed.lease.claims().plan.request_id();
    while !broker.is_stopping() {
        broker.journal.warn(&format!("the outcome of {id} is not recorded: {}", failed.error));
        std::thread::sleep(FINISH_PAUSE);
        match broker.ledger.finish(*failed.lease, finish.clone()) {
            Ok(receipt) => {
                broker.journal.note(&format!("the outcome of {id} is recorded now"));
                return broker.anchor(&receipt);
            }
            Err(error) => failed = error,
        }
    }
}

fn record(
    broker: &Broker,
    mut burned: BurnedLease,
    finish: &Finish,
) -> Result<Vec<u8>, FinishError> {
    let mut attempt = 1;
    loop {
        match broker.ledger.finish(burned, finish.clone()) {
            Err(error) if attempt < FINISH_ATTEMPTS => {
                attempt = attempt.saturating_add(1);
                burned = *error.lease;
            }
            result => return result,
        }
    }
}

/// Sends a frame to a client, whose socket takes it at once or is not read any more: what is
/// recorded can be asked for later.
fn tell(client: &OwnedFd, frame: &ClientFrame) {
    let bytes = frame.encode();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match send_now(client.as_fd(), rest) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(_) => return,
        }
    }
}
