//! Plans: the largest thing that root decodes, and all that a human sees.

use olb_lease::{Plan, environment, plan_digest, staging};
use olb_review::display::is_safe;
use olb_review::{Facts, render};

use crate::judge::others_agree;

/// Bytes as a plan. Accepted means: it encodes to the same bytes, other decoders agree, and it can
/// be shown to a human in safe characters only.
///
/// # Panics
/// One of these does not hold.
pub fn plan_decode(data: &[u8]) {
    let Ok(plan) = Plan::decode(data) else { return };
    assert_eq!(plan.encode().as_deref(), Ok(data), "another encoding of a plan was accepted");
    others_agree(data);
    let copies = staging::argv(b"/pin", &plan.random, &plan.typed_argv, &plan.staged);
    let copies = copies.expect("every staged word of a plan has a place");
    let is_staged = |at: usize| plan.staged.iter().any(|file| file.word as usize == at && at > 0);
    for (at, (word, typed)) in copies.iter().zip(&plan.typed_argv).enumerate() {
        assert!(word == typed || is_staged(at), "a word that is not staged was rewritten");
    }
    // Whatever it says, it must not panic.
    environment::check(&plan).ok();
    let facts = Facts {
        request_id: plan_digest(data).request_id().to_string(),
        code: "7FK-3QX".into(),
        requester_name: None,
        run_as_mismatch: false,
        expires: "2026-11-22 18:00".into(),
    };
    let shown = render(&plan, &facts).text;
    let odd = shown.chars().find(|letter| *letter != '\n' && !is_safe(*letter));
    assert_eq!(odd, None, "a character that can act on a terminal is shown");
}
