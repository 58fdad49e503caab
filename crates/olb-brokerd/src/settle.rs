//! What happens without anybody asking: requests expire, and where the front does not know what
//! became of something it handed over, it asks the ledger.

use std::rc::Rc;
use std::time::Duration;

use olb_core::{Decision, Finish, LedgerView, ReceiptMismatch, State};
use olb_exec_api::RequestState;
use olb_lease::PlanDigest;

use crate::front::Front;
use crate::refuse::Refuse;

/// Pauses between attempts to learn the end of a run that the front lost sight of.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Ends what is over, each at its time; there is no timer where nothing can expire.
pub(crate) async fn expire(front: Rc<Front>) {
    loop {
        let next = front.lifecycle.borrow().next_wakeup();
        let Some(at) = next else {
            front.deadlines.notified().await;
            continue;
        };
        // At least a second: the clock has whole ones, and a deadline in the past needs no haste.
        let wait = Duration::from_secs(at.saturating_sub(front.now()).max(1));
        tokio::select! {
            () = tokio::time::sleep(wait) => front.expire(),
            () = front.deadlines.notified() => {}
        }
    }
}

/// Asks the ledger whenever something is in doubt, and again with growing pauses while an approved
/// or running request stays so. Pending ones wait until the root half is heard of anyway.
pub(crate) async fn clear_doubts(front: Rc<Front>) {
    let mut pause = None;
    loop {
        match pause {
            None => front.in_doubt.notified().await,
            Some(time) => tokio::select! {
                () = front.in_doubt.notified() => pause = None,
                () = tokio::time::sleep(time) => {}
            },
        }
        reconcile(&front).await;
        pause = is_urgent(&front).then(|| next_pause(pause));
    }
}

fn next_pause(last: Option<Duration>) -> Duration {
    last.map_or(FIRST_PAUSE, |last| LONGEST_PAUSE.min(last.saturating_mul(2)))
}

/// Whether something that was approved or runs is still in doubt after a round.
fn is_urgent(front: &Front) -> bool {
    let mut lifecycle = front.lifecycle.borrow_mut();
    let in_doubt = lifecycle.unreconciled();
    let mut states =
        in_doubt.iter().filter_map(|plan| lifecycle.by_plan(plan)).map(|request| request.state);
    states.any(|state| matches!(state, State::Approved | State::Executing))
}

/// One round: takes the ledger's word on every request in doubt, until the root half stops
/// answering. Rounds follow one another; the lifecycle relies on that.
pub(crate) async fn reconcile(front: &Front) {
    let _round = front.round.lock().await;
    let plans = front.lifecycle.borrow_mut().unreconciled();
    for plan in plans {
        if let Err(error) = reconcile_one(front, plan).await {
            tracing::debug!(event = "reconcile_failed", id = %plan.request_id(), %error);
            front.journal.count("reconcile", error.reason().name(), None);
            return;
        }
    }
}

async fn reconcile_one(front: &Front, plan: PlanDigest) -> Result<(), Refuse> {
    let state = front.execd.request(plan).await?;
    let Ok(view) = ledger_view(state) else {
        front.journal.failed("reconcile", "receipt_mismatch", &plan.request_id().to_string());
        return Ok(());
    };
    let effects = front.lifecycle.borrow_mut().reconcile(front.now(), plan, view)?;
    Ok(front.apply(effects)?)
}

fn ledger_view(state: RequestState) -> Result<LedgerView, ReceiptMismatch> {
    let decision = state
        .decided
        .map(|decided| Decision::read(decided.receipt, decided.lease, decided.expires_at));
    let finish =
        state.recorded.map(|run| Finish::read(run.receipt, run.stdout_tail, run.stderr_tail));
    Ok(LedgerView {
        decision: decision.transpose()?,
        burned: state.burned,
        finish: finish.transpose()?,
    })
}
