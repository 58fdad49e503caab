//! What the broker says of a run, against the receipt of it. A front that was taken over can say
//! anything about a command; that it ran and how it ended is the root half's to say.

use olb_lease::{Outcome, RecordEvent, StreamSummary, plan_digest, sha256};
use olb_wire::RequestView;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::trust::{BrokerKeys, Finished};
use crate::{json, outcome};

/// Whether `view` says that a command ran, or was tried, and how that ended.
pub(crate) fn is_of_a_run(view: &RequestView) -> bool {
    ["exited", "killed", "spawn_failed"].contains(&view.state.as_str())
}

/// The proof of what `view` says of its run; `None` where it says nothing that needs one.
///
/// # Errors
/// It says more than its receipt proves.
pub(crate) fn of(keys: &BrokerKeys, view: &RequestView) -> Result<Option<Finished>, Failure> {
    if !is_of_a_run(view) {
        return Ok(None);
    }
    let finished = finished(keys, view).filter(|finished| agrees(view, finished));
    let finished = finished.ok_or_else(|| {
        if view.receipt.as_ref().is_some_and(|receipt| keys.is_by_retired(receipt)) {
            return Failure::mismatch(format!(
                "the receipt of {} is signed with an audit key that was replaced since, which alone \
                 proves nothing; an approver finds how it ended in the trail ('olb audit list')",
                view.request_id
            ));
        }
        Failure::mismatch(format!(
            "the receipt does not prove how {} ended, whatever the broker says; look at what the \
             command changes, and have the broker looked at",
            view.request_id
        ))
    })?;
    Ok(Some(finished))
}

/// The end of the run of `view`'s plan that its receipt proves: a plan runs once.
pub(crate) fn finished(keys: &BrokerKeys, view: &RequestView) -> Option<Finished> {
    match keys.record(view.receipt.as_ref()?)?.event {
        RecordEvent::Finished {
            plan, outcome, stdout, stderr, cut_by, duration_ms, usage, ..
        } => {
            let finished = Finished { outcome, stdout, stderr, cut_by, duration_ms, usage };
            (plan == plan_digest(&view.plan)).then_some(finished)
        }
        RecordEvent::EpochBegan { .. }
        | RecordEvent::Decided { .. }
        | RecordEvent::Burned { .. }
        | RecordEvent::Refused { .. }
        | RecordEvent::KeyEnded { .. } => None,
    }
}

fn agrees(view: &RequestView, finished: &Finished) -> bool {
    let said = (view.state.as_str(), view.exit_code, view.signal, view.errno);
    let proved = match finished.outcome {
        Outcome::Exited(code) => ("exited", Some(code), None, None),
        Outcome::Killed(signal) => ("killed", None, Some(signal), None),
        Outcome::SpawnFailed(errno) => ("spawn_failed", None, None, Some(errno)),
        Outcome::Unknown { .. } => return false,
    };
    let tails = [(&view.stdout_tail, finished.stdout), (&view.stderr_tail, finished.stderr)];
    said == proved && tails.into_iter().all(|(tail, whole)| can_be_tail(tail, whole))
}

/// Whether `tail` can be the end of the stream `whole`. Only all of a stream can be told for sure.
fn can_be_tail(tail: &[u8], whole: StreamSummary) -> bool {
    is_whole(tail, whole) || (tail.len() as u64) < whole.bytes
}

/// Whether `tail` is all of the stream, byte for byte.
pub(crate) fn is_whole(tail: &[u8], whole: StreamSummary) -> bool {
    tail.len() as u64 == whole.bytes && sha256(tail) == *whole.sha256.as_bytes()
}

/// The request as JSON, with what is proved of its run.
pub(crate) fn json(view: &RequestView, proof: Option<&Finished>) -> Map<String, Value> {
    let mut object = json::request(view);
    if let Some(proof) = proof {
        object.append(&mut outcome::finished(plan_digest(&view.plan), proof));
    }
    object
}

/// A request in a list: one that cannot be proved does not hide the others, and says so.
pub(crate) fn json_in_list(keys: Option<&BrokerKeys>, view: &RequestView) -> Map<String, Value> {
    match keys.map(|keys| of(keys, view)) {
        Some(Ok(proof)) => json(view, proof.as_ref()),
        Some(Err(_)) | None => {
            let mut object = json::request(view);
            if is_of_a_run(view) {
                object.insert("receipt".into(), "not_verified".into());
            }
            object
        }
    }
}

#[cfg(test)]
mod tests {
    use olb_lease::PlanDigest;

    use super::*;
    use crate::testing::view;
    use crate::trust::tests::{finished as event, keys, receipt};

    fn ended(outcome: Outcome, stdout: &[u8]) -> RequestView {
        let view = view("exited");
        let event = event(plan_digest(&view.plan), outcome, stdout);
        RequestView {
            exit_code: Some(3),
            receipt: Some(receipt(event).into()),
            stdout_tail: stdout.to_vec().into(),
            ..view
        }
    }

    //
    #[test]
    fn an_end_is_believed_as_far_as_its_receipt_goes() {
        let good = ended(Outcome::Exited(3), b"out\n");
        assert!(of(&keys(), &good).unwrap().is_some());
        let lies = [
            RequestView { exit_code: Some(0), ..good.clone() },
            RequestView { exit_code: None, ..good.clone() },
            RequestView { state: "killed".into(), signal: Some(3), ..good.clone() },
            RequestView { signal: Some(9), ..good.clone() },
            RequestView { stdout_tail: b"OUT\n".to_vec().into(), ..good.clone() },
            RequestView { stdout_tail: b"out\nmore".to_vec().into(), ..good.clone() },
            RequestView { stderr_tail: b"x".to_vec().into(), ..good.clone() },
            RequestView { receipt: None, ..good.clone() },
            RequestView { receipt: Some(vec![0; 300].into()), ..good.clone() },
            ended(Outcome::Exited(4), b""),
            ended(Outcome::Unknown { may_be_running: false }, b""),
            RequestView {
                receipt: Some(receipt(event(PlanDigest([6; 32]), Outcome::Exited(3), b"")).into()),
                ..ended(Outcome::Exited(3), b"")
            },
        ];
        for lie in lies {
            let failure = of(&keys(), &lie).unwrap_err();
            assert_eq!((failure.code, failure.name), (70, "mismatch"), "{lie:?}");
            let object = json_in_list(Some(&keys()), &lie);
            assert_eq!(object["receipt"], "not_verified");
        }
        assert_eq!(json_in_list(None, &good)["receipt"], "not_verified");
        assert_eq!(json_in_list(Some(&keys()), &good)["receipt"], "verified");
    }

    #[test]
    fn what_did_not_run_needs_no_proof() {
        for state in ["pending", "approved", "executing", "denied", "expired", "outcome_unknown"] {
            assert!(of(&keys(), &view(state)).unwrap().is_none());
            assert!(!json_in_list(None, &view(state)).contains_key("receipt"));
        }
    }

    #[test]
    fn a_tail_that_is_not_all_of_it_is_told_apart() {
        let mut cut = ended(Outcome::Exited(3), b"long output");
        cut.stdout_tail = b"put".to_vec().into();
        let proof = of(&keys(), &cut).unwrap().unwrap();
        assert!(!is_whole(&cut.stdout_tail, proof.stdout));
        assert!(is_whole(b"long output", proof.stdout));
    }
}
