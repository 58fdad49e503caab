//! Where a request stands, as a sentence and a reason for whoever wants to run it.

use olb_core::{APPROVER_OUT, BROKER_RESTARTED, LEASE_UNUSED, Request, State};
use olb_exec_api::Reason;
use olb_lease::{Outcome, Plan};
use olb_review::display::safe;

/// A command line in a sentence is cut after so many characters; the plan has all of it.
const COMMAND_CHARACTERS: usize = 200;

/// Why the request's lease cannot be presented, as a stable reason.
pub(crate) fn reason(request: &Request) -> Reason {
    match request.state {
        State::Pending => Reason::Pending,
        // Whatever is approved and still refused holds a lease whose time is over.
        State::Approved => Reason::Expired,
        State::Executing | State::Exited | State::Killed | State::SpawnFailed => {
            Reason::AlreadyBurned
        }
        State::OutcomeUnknown => Reason::OutcomeUnknown,
        State::Denied => Reason::Denied,
        State::Expired if request.reason.as_deref() == Some(BROKER_RESTARTED) => {
            Reason::BrokerRestarted
        }
        State::Expired => Reason::Expired,
        State::Cancelled => Reason::Cancelled,
        State::Revoked => Reason::Revoked,
    }
}

/// The same as one sentence, with what to do next.
pub(crate) fn sentence(request: &Request, retry_after_secs: Option<u64>) -> String {
    let code = request.code;
    match request.state {
        State::Pending => format!(
            "held for human approval as {code} ({}); nothing ran, retry the same command after the \
             decision",
            command(request)
        ),
        State::Approved => format!("the lease of {code} was not used in time; ask again"),
        State::Executing => format!(
            "{code} is running now, once; see 'olb status {code}', or ask again to run it once more"
        ),
        State::Exited | State::Killed | State::SpawnFailed | State::OutcomeUnknown => ran(request),
        State::Denied => denied(request, retry_after_secs),
        State::Expired => expired(request),
        State::Cancelled => format!("{code} was cancelled by its requester; ask again"),
        State::Revoked => format!(
            "the approval of {code} was taken back by {}{}; do not try another way around it",
            decided_by(request),
            words(request)
        ),
    }
}

fn ran(request: &Request) -> String {
    let code = request.code;
    let again = "ask again to run it once more";
    match request.outcome {
        Some(Outcome::Exited(status)) => {
            format!("{code} ran already and exited with {status}; {again}")
        }
        Some(Outcome::Killed(signal)) => {
            format!("{code} ran already and was killed by signal {signal}; {again}")
        }
        Some(Outcome::SpawnFailed(errno)) => {
            format!("{code} could not be started (errno {errno}), and its lease is used; {again}")
        }
        Some(Outcome::Unknown { may_be_running: true }) => format!(
            "{code} may have run and may still be running; look at the host before asking again"
        ),
        Some(Outcome::Unknown { may_be_running: false }) | None => {
            format!("{code} may have run; look at the host before asking again")
        }
    }
}

fn denied(request: &Request, retry_after_secs: Option<u64>) -> String {
    let again = match retry_after_secs {
        Some(secs) => format!("ask again after {} minutes", secs.div_ceil(60)),
        None => String::from("ask again only"),
    };
    format!(
        "denied by {}{} ({}); do not try another way around it, {again} if the reason no longer \
         holds",
        decided_by(request),
        words(request),
        request.code
    )
}

fn expired(request: &Request) -> String {
    let code = request.code;
    match request.reason.as_deref() {
        Some(BROKER_RESTARTED) if request.decided_at.is_none() => {
            format!("{code} was asked of the broker under a former key or name; ask again")
        }
        Some(BROKER_RESTARTED) => {
            format!("the approval of {code} died when the broker's host restarted; ask again")
        }
        Some(APPROVER_OUT) => {
            format!("the approval of {code} died with its approver's key; ask again")
        }
        Some(LEASE_UNUSED) => format!("the lease of {code} was not used in time; ask again"),
        Some(_) | None => {
            let minutes = request.expires_at.saturating_sub(request.created_at) / 60;
            format!(
                "request {code} expired unanswered after {minutes} minutes; this is not a denial, \
                 ask again"
            )
        }
    }
}

fn decided_by(request: &Request) -> String {
    request.decided_by.as_deref().map_or_else(|| "a human".into(), |name| safe(name.as_bytes()))
}

/// The human's words, if there are any, as the sentence quotes them.
fn words(request: &Request) -> String {
    match request.reason.as_deref() {
        Some(reason) => format!(": \"{}\"", safe(reason.as_bytes())),
        None => String::new(),
    }
}

fn command(request: &Request) -> String {
    let argv = Plan::decode(&request.plan).map(|plan| plan.typed_argv).unwrap_or_default();
    olb_review::quote::command(&argv).chars().take(COMMAND_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use olb_core::{CoolOffKey, MatchKey, UNANSWERED};
    use olb_lease::{Digest, PlanDigest};

    use super::*;

    fn request(state: State) -> Request {
        Request {
            digest: PlanDigest([7; 32]),
            code: "7FK-3QX".parse().unwrap(),
            state,
            requester_uid: 1001,
            plan: Vec::new().into(),
            match_key: MatchKey(Digest([1; 32])),
            cool_off_key: CoolOffKey(Digest([2; 32])),
            created_at: 1000,
            expires_at: 2800,
            decided_at: None,
            decided_by: None,
            reason: None,
            lease: None,
            lease_expires_at: None,
            epoch: None,
            burned_at: None,
            finished_at: None,
            outcome: None,
            receipt: None,
            stdout_tail: Vec::new(),
            stderr_tail: Vec::new(),
        }
    }

    #[test]
    fn every_state_is_one_sentence_that_names_the_request() {
        for state in State::ALL {
            let sentence = sentence(&request(*state), None);
            assert!(sentence.contains("7FK-3QX") && !sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn denied_expired_and_unavailable_are_told_apart() {
        let mut unanswered = request(State::Expired);
        unanswered.reason = Some(UNANSWERED.into());
        let mut restarted = request(State::Expired);
        restarted.reason = Some(BROKER_RESTARTED.into());
        assert_eq!(reason(&request(State::Denied)), Reason::Denied);
        assert_eq!(reason(&unanswered), Reason::Expired);
        assert_eq!(reason(&restarted), Reason::BrokerRestarted);
        let text = sentence(&unanswered, None);
        assert!(text.contains("30 minutes") && text.contains("not a denial"), "{text}");
    }

    #[test]
    fn a_denial_says_who_why_and_when_to_ask_again_without_control_characters() {
        let mut denied = request(State::Denied);
        denied.decided_by = Some("alice".into());
        denied.reason = Some("use \u{1b}[2Jreload".into());
        let text = sentence(&denied, Some(541));
        assert!(text.starts_with("denied by alice: \"use "), "{text}");
        assert!(text.contains("after 10 minutes") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_ran_says_how_it_ended() {
        let ended = |outcome| {
            let mut request = request(State::Exited);
            request.outcome = Some(outcome);
            sentence(&request, None)
        };
        assert!(ended(Outcome::Exited(3)).contains("exited with 3"));
        assert!(ended(Outcome::Killed(9)).contains("signal 9"));
        assert!(ended(Outcome::SpawnFailed(2)).contains("errno 2"));
        assert!(ended(Outcome::Unknown { may_be_running: true }).contains("still be running"));
    }
}
