//! The one plan that the demo may approve.
//!
//! The demo signs as a real operator, and the front hands it the plan. So the plan has to be, in
//! every field that decides what runs, what the demo's own agent asked for, and its id the one that
//! the agent's own process printed: whatever else reached the broker meanwhile is not approved.

use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use olb_lease::{Plan, environment, plan_digest};
use olb_wire::RequestView;

use super::stage::{Stage, find};

/// What the plan has to say.
#[derive(Debug)]
pub(super) struct Expected {
    request_id: String,
    requester_uid: u32,
    run_as_uid: u32,
    argv: Vec<Vec<u8>>,
    executable: Vec<u8>,
    reason: String,
}

impl Expected {
    /// For a command that the agent asked for in `/`, to be run as the demo's own user.
    ///
    /// # Errors
    /// There is no such command.
    pub(super) fn new(stage: &Stage<'_>, id: &str, command: &[&str], reason: &str) -> Result<Self> {
        let name = command.first().copied().unwrap_or_default();
        let executable = find(name)?;
        Ok(Self {
            request_id: id.to_owned(),
            requester_uid: stage.requester_uid(),
            run_as_uid: stage.own_uid(),
            argv: command.iter().map(|word| word.as_bytes().to_vec()).collect(),
            executable: executable.as_os_str().as_bytes().to_vec(),
            reason: reason.to_owned(),
        })
    }

    /// The plan of `view`, if it is the one.
    ///
    /// # Errors
    /// It is not; the message names the first thing that differs.
    pub(super) fn check(&self, view: &RequestView) -> Result<Plan> {
        let id = plan_digest(&view.plan).request_id().to_string();
        let plan = Plan::decode(&view.plan).context("the plan does not decode")?;
        let facts = [
            (id == self.request_id, "id"),
            (plan.requester_uid == self.requester_uid, "requester"),
            (plan.run_as.uid == self.run_as_uid, "target account"),
            (plan.argv == self.argv && plan.typed_argv == self.argv, "arguments"),
            (plan.executable.path == self.executable, "executable"),
            (plan.cwd.path == b"/", "working directory"),
            (has_fixed_environment(&plan), "environment"),
            (plan.stdin.is_none(), "standard input"),
            (plan.reason == self.reason, "reason"),
        ];
        match facts.into_iter().find(|(holds, _)| !holds) {
            None => Ok(plan),
            Some((_, what)) => bail!("the plan is not the demo's own: its {what} differs"),
        }
    }
}

/// Nothing was typed, and the rest is what every command gets.
fn has_fixed_environment(plan: &Plan) -> bool {
    plan.environment_words.is_empty() && environment::check(plan).is_ok()
}

#[cfg(test)]
mod tests {
    use olb_lease::{Digest, Stdin};

    use super::*;
    use crate::testing;

    fn demo_plan() -> Plan {
        let mut plan = testing::plan();
        plan.cwd.path = b"/".to_vec();
        let account = environment::Account { name: "root", home: b"/root", shell: b"/bin/sh" };
        plan.environment = environment::base(account);
        plan
    }

    fn view(plan: &Plan) -> RequestView {
        RequestView { plan: plan.encode().unwrap().into(), ..RequestView::default() }
    }

    fn expected() -> Expected {
        let plan = demo_plan();
        Expected {
            request_id: plan_digest(&plan.encode().unwrap()).request_id().to_string(),
            requester_uid: plan.requester_uid,
            run_as_uid: plan.run_as.uid,
            argv: plan.argv.clone(),
            executable: plan.executable.path.clone(),
            reason: plan.reason,
        }
    }

    #[test]
    fn the_demos_own_plan_is_accepted() {
        assert_eq!(expected().check(&view(&demo_plan())).unwrap(), demo_plan());
    }

    #[test]
    fn the_same_question_asked_by_somebody_else_is_refused_by_its_id() {
        let mut plan = demo_plan();
        plan.random = [8; 16];
        let error = expected().check(&view(&plan)).unwrap_err();
        assert_eq!(error.to_string(), "the plan is not the demo's own: its id differs");
    }

    #[test]
    fn every_field_that_decides_what_runs_is_compared() {
        let changes: [fn(&mut Plan); 10] = [
            |plan| plan.requester_uid += 1,
            |plan| plan.run_as.uid = 7,
            |plan| plan.argv.push(b"x".to_vec()),
            |plan| plan.typed_argv.push(b"x".to_vec()),
            |plan| plan.executable.path = b"/bin/sh".to_vec(),
            |plan| plan.cwd.path = b"/tmp".to_vec(),
            |plan| plan.reason.clear(),
            |plan| plan.stdin = Some(Stdin { size: 1, sha256: Digest([1; 32]) }),
            // As a requester may set it; the word alone makes the difference.
            |plan| {
                plan.environment.insert("TZ".into(), "UTC".into());
                plan.environment_words.insert("TZ".into(), "UTC".into());
            },
            // As no requester may.
            |plan| drop(plan.environment.insert("LD_PRELOAD".into(), "/tmp/x".into())),
        ];
        for change in changes {
            let mut plan = demo_plan();
            change(&mut plan);
            let mut expected = expected();
            // Not caught by the id: every other comparison has to hold by itself.
            expected.request_id = plan_digest(&plan.encode().unwrap()).request_id().to_string();
            expected.check(&view(&plan)).unwrap_err();
        }
    }

    #[test]
    fn bytes_that_are_no_plan_are_refused() {
        let view = RequestView { plan: vec![0xff].into(), ..RequestView::default() };
        expected().check(&view).unwrap_err();
    }
}
