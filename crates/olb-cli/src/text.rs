//! The sentences of the agent's side. Everything that came from elsewhere passes through
//! `olb_review::display`.

use olb_exec_api::Reason;
use olb_lease::Plan;
use olb_review::display::safe;
use olb_review::quote;
use olb_wire::RequestView;

use crate::failure::code;

/// No broker answers.
pub(crate) const NO_BROKER: &str = "broker unavailable; host bootstrap required (see 'olb doctor')";
/// An answer that does not decode, or of the wrong kind.
pub(crate) const BAD_ANSWER: &str = "the broker's answer does not read; olb and the broker may be \
                                     of different versions, so try again after the upgrade is over";
/// The connection ended without an answer.
pub(crate) const NO_ANSWER: &str = "the broker ended the connection without an answer; ask the \
                                    administrator whether your account is listed, then try again";
/// An id that is not that of the plan beside it.
pub(crate) const SWAPPED_PLAN: &str = "the broker answered with a request whose id is not that of its plan; believe nothing that it \
     says of it, and have the broker looked at";
/// An answer about another request.
pub(crate) const OTHER_REQUEST: &str = "the broker answered with another request than the one you named; believe nothing that it \
     says of it, and have the broker looked at";
/// A message above the limit of the wire.
pub(crate) const TOO_LONG: &str =
    "the command is too long; put what is long into a file that only root can change";
/// A command in a sentence is cut at this many characters.
const COMMAND_CHARS_MAX: usize = 160;

/// The command as the requester typed it, for a sentence; empty where the plan does not read.
pub(crate) fn command(view: &RequestView) -> String {
    let Ok(plan) = Plan::decode(&view.plan) else {
        return String::new();
    };
    shortened(&quote::command(&plan.typed_argv))
}

/// A text that fits a sentence; what is cut off is said to be.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(COMMAND_CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The request is pending.
pub(crate) fn held(view: &RequestView) -> String {
    format!(
        "held for human approval as {} ({}). Nothing ran. Retry the same command after the decision.",
        safe(view.code.as_bytes()),
        command(view)
    )
}

/// The request is approved.
pub(crate) fn approved(view: &RequestView) -> String {
    let by = by(view);
    let code = safe(view.code.as_bytes());
    let until = view.lease_expires_at.map_or(String::new(), |at| format!(" until {}", time(at)));
    format!("approved{by} as {code} ({}): it may run once{until}.", command(view))
}

/// Exit code and sentence for a request in any state, as somebody is told who asks for its run.
pub(crate) fn of_state(view: &RequestView) -> (u8, String) {
    let shown = safe(view.code.as_bytes());
    match view.state.as_str() {
        "pending" => (code::PENDING, held(view)),
        "approved" => (0, approved(view)),
        "executing" => {
            (code::PENDING, format!("{shown} is running now; 'olb result {shown}' tells its end."))
        }
        "exited" => {
            let exit_code = view.exit_code.unwrap_or(code::UNKNOWN_OUTCOME);
            (exit_code, format!("{shown} ran once: exit {exit_code}."))
        }
        "killed" => {
            let signal = view.signal.unwrap_or(0);
            (signal.saturating_add(128), format!("{shown} ran once: ended by signal {signal}."))
        }
        "spawn_failed" => {
            let errno = view.errno.unwrap_or(0);
            (of_errno(errno), format!("{shown} did not start: {}.", errno_text(errno)))
        }
        "outcome_unknown" => (code::UNKNOWN_OUTCOME, unknown(view)),
        "denied" => (code::REFUSED, denied(view)),
        "revoked" => (code::REFUSED, revoked(view)),
        "cancelled" => (
            code::REFUSED,
            format!("{shown} was cancelled by its requester; ask again if it is still needed."),
        ),
        "expired" => (code::PENDING, expired(view)),
        _ => (code::UNAVAILABLE, BAD_ANSWER.to_owned()),
    }
}

/// The sentence for a refusal that a request explains better than the refusal's own text.
pub(crate) fn over(view: &RequestView, reason: Reason) -> Option<String> {
    let explains = match view.state.as_str() {
        "denied" => reason == Reason::Denied,
        "revoked" => reason == Reason::Revoked,
        "expired" => matches!(reason, Reason::Expired | Reason::BrokerRestarted),
        "cancelled" => reason == Reason::Cancelled,
        "pending" => reason == Reason::Pending,
        "outcome_unknown" => reason == Reason::OutcomeUnknown,
        _ => false,
    };
    explains.then(|| of_state(view).1)
}

/// ` by NAME`, where it is known who decided.
fn by(view: &RequestView) -> String {
    view.decided_by.as_ref().map_or(String::new(), |who| format!(" by {}", safe(who.as_bytes())))
}

fn because(view: &RequestView) -> String {
    match view.reason.as_deref() {
        None | Some("") => String::new(),
        Some(reason) => format!(": \"{}\"", safe(reason.as_bytes())),
    }
}

fn denied(view: &RequestView) -> String {
    let again = match view.retry_after_secs {
        Some(seconds) if seconds > 0 => format!("after {}", waiting(seconds)),
        Some(_) | None => "later".to_owned(),
    };
    format!(
        "denied{}{} ({}). Do not try another way around it; ask again {again} if the reason no \
         longer holds.",
        by(view),
        because(view),
        safe(view.code.as_bytes())
    )
}

fn revoked(view: &RequestView) -> String {
    format!(
        "the approval was revoked{}{} ({}). Nothing ran. Do not try another way around it; ask \
         again if the reason no longer holds.",
        by(view),
        because(view),
        safe(view.code.as_bytes())
    )
}

fn expired(view: &RequestView) -> String {
    let shown = safe(view.code.as_bytes());
    if view.decided_by.is_some() || view.lease_expires_at.is_some() {
        let why = view.reason.as_deref().filter(|why| !why.is_empty());
        let why = why.map_or("not used in time".to_owned(), |why| safe(why.as_bytes()));
        return format!(
            "the approval of {shown} expired unused ({why}); this is not a denial. Ask again."
        );
    }
    if view.reason.as_deref() == Some("broker restarted") {
        return format!(
            "request {shown} was put to the broker under a former key or name; this is not a \
             denial. Ask again."
        );
    }
    let waited = span(view.expires_at.saturating_sub(view.created_at));
    format!("request {shown} expired unanswered after {waited}; this is not a denial.")
}

fn unknown(view: &RequestView) -> String {
    let running =
        if view.may_be_running == Some(true) { ", and it may still be running" } else { "" };
    format!(
        "the outcome of {} is not known: it may have run{running}. It is not run again; look at \
         what it changes before you ask anew.",
        safe(view.code.as_bytes())
    )
}

/// Exit code for a spawn that failed, as shells have it.
pub(crate) fn of_errno(errno: u16) -> u8 {
    const ENOENT: u16 = 2;
    if errno == ENOENT { code::NO_SUCH_COMMAND } else { code::NOT_EXECUTABLE }
}

/// The operating system's words for an error number.
pub(crate) fn errno_text(errno: u16) -> String {
    std::io::Error::from_raw_os_error(errno.into()).to_string()
}

/// Seconds in words, exactly, in the largest unit that fits.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let fits = |(size, _): &(u64, &str)| seconds >= *size && seconds.is_multiple_of(*size);
    let (size, name) = units.into_iter().find(fits).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Seconds to wait, in words that one can act on: from two minutes on in whole minutes, never too
/// few.
fn waiting(seconds: u64) -> String {
    span(if seconds < 120 { seconds } else { seconds.div_ceil(60).saturating_mul(60) })
}

/// Seconds since the Unix epoch as RFC 3339 in UTC.
pub(crate) fn time(seconds: u64) -> String {
    let timestamp =
        i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    timestamp.map_or_else(|| format!("second {seconds}"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::view;

    #[test]
    fn the_documented_sentences_are_kept() {
        let pending = view("pending");
        assert_eq!(
            of_state(&pending),
            (
                75,
                "held for human approval as 7FK-3QX (systemctl restart nginx). Nothing ran. \
                  Retry the same command after the decision."
                    .into()
            )
        );
        let mut denied = view("denied");
        denied.decided_by = Some("alice".into());
        denied.reason = Some("use reload, not restart".into());
        denied.retry_after_secs = Some(600);
        assert_eq!(
            of_state(&denied),
            (
                77,
                "denied by alice: \"use reload, not restart\" (7FK-3QX). Do not try another way \
                  around it; ask again after 10 minutes if the reason no longer holds."
                    .into()
            )
        );
        assert_eq!(
            of_state(&view("expired")),
            (
                75,
                "request 7FK-3QX expired unanswered after 30 minutes; this is not a denial.".into()
            )
        );
        assert_eq!(NO_BROKER, "broker unavailable; host bootstrap required (see 'olb doctor')");
    }

    #[test]
    fn every_state_has_its_code() {
        let mut exited = view("exited");
        exited.exit_code = Some(3);
        let mut killed = view("killed");
        killed.signal = Some(9);
        let mut missing = view("spawn_failed");
        missing.errno = Some(2);
        let mut forbidden = view("spawn_failed");
        forbidden.errno = Some(13);
        let codes = [exited, killed, missing, forbidden].map(|view| of_state(&view).0);
        assert_eq!(codes, [3, 137, 127, 126]);
        let states = ["pending", "approved", "executing", "outcome_unknown", "denied", "revoked"];
        let codes = states.map(|state| of_state(&view(state)).0);
        assert_eq!(codes, [75, 0, 75, 70, 77, 77]);
        assert_eq!(
            ["cancelled", "expired", "?"].map(|state| of_state(&view(state)).0),
            [77, 75, 69]
        );
    }

    #[test]
    fn an_approval_that_died_is_not_called_unanswered() {
        let mut expired = view("expired");
        expired.decided_by = Some("alice".into());
        expired.reason = Some("broker restarted".into());
        let (_, text) = of_state(&expired);
        assert_eq!(
            text,
            "the approval of 7FK-3QX expired unused (broker restarted); this is not a denial. Ask \
             again."
        );
        expired.decided_by = None;
        let (exit_code, text) = of_state(&expired);
        assert!(exit_code == 75 && text.ends_with("not a denial. Ask again."), "{text}");
        assert!(text.contains("former key"), "{text}");
    }

    #[test]
    fn a_reason_cannot_reach_the_terminal_raw() {
        let mut denied = view("denied");
        denied.reason = Some("x\u{1b}[2J\u{202e}".into());
        denied.decided_by = Some("al\nice".into());
        denied.code = "\u{7}".into();
        let (_, text) = of_state(&denied);
        assert!(text.chars().all(olb_review::display::is_safe), "{text}");
    }

    #[test]
    fn a_refusal_takes_the_better_sentence_only_where_they_agree() {
        assert!(over(&view("denied"), Reason::Denied).is_some());
        assert!(over(&view("approved"), Reason::NotYours).is_none());
        assert!(over(&view("exited"), Reason::AlreadyBurned).is_none());
    }

    #[test]
    fn spans_and_times_read_well() {
        let spans = [1, 90, 600, 1800, 3600, 7200, 86_400].map(span);
        let want =
            ["1 second", "90 seconds", "10 minutes", "30 minutes", "1 hour", "2 hours", "1 day"];
        assert_eq!(spans, want);
        let waits = [1, 119, 121, 559, 600].map(waiting);
        assert_eq!(waits, ["1 second", "119 seconds", "3 minutes", "10 minutes", "10 minutes"]);
        assert_eq!(time(1_795_363_200), "2026-11-22T16:00:00Z");
        assert_eq!(time(u64::MAX), "second 18446744073709551615");
    }

    #[test]
    fn a_long_command_is_said_to_be_cut() {
        assert_eq!(shortened(&"é".repeat(200)), format!("{} ...", "é".repeat(160)));
        assert_eq!(shortened("id"), "id");
    }
}
