//! A root half that is not root: one user is requester, approver and target, and nobody else is
//! anything.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use olb_e2e_tests::{Approver, ExecSock, Instance, Options, Reply, plan_for};
use olb_exec_api::{ClientFrame, Info, Reason};
use olb_lease::{Plan, RunAs, VerdictKind, environment};

/// A running root half of one user's own.
struct Own {
    instance: Instance,
    uid: u32,
    child: Child,
    sock: ExecSock,
    me: Approver,
}

impl Own {
    fn start() -> Self {
        let instance = Instance::with(Options { without_front: true, ..Options::default() });
        let uid = instance.stranger();
        let base = instance.path("own");
        let inside = |name: &str| base.join(name);
        let folder = |path: &Path| {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
            chown(path, Some(uid), Some(uid)).unwrap();
        };
        folder(&base);
        ["run", "state", "approvers.d"].iter().for_each(|name| folder(&inside(name)));
        let file = |path: PathBuf, text: String| {
            fs::write(&path, text).unwrap();
            chown(&path, Some(uid), Some(uid)).unwrap();
        };
        let me = Approver::new(uid, "me");
        let config = format!(
            "host = own\nfront_uid = {uid}\nruntime_dir = {}\nstate_dir = {}\n\
             approvers_dir = {}\nrequesters = {uid}\n",
            inside("run").display(),
            inside("state").display(),
            inside("approvers.d").display()
        );
        file(inside("execd.conf"), config);
        let enrolment = format!(
            "name = me\nuid = {uid}\nkey = {}\nrequesters = any\nrun_as = any\n\
             run_as_groups = any\n             max_lease_secs = 900\nmax_approvals_per_hour = 60\nnot_after = 0\nsecond = none\n",
            me.key().public().hex()
        );
        file(inside("approvers.d").join("me.conf"), enrolment);
        let mut command = Command::new(instance.path("bin/olb-execd"));
        command.arg("--config").arg(inside("execd.conf")).uid(uid).gid(uid);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let sock = ExecSock::of(&instance).at(inside("run/exec.sock")).speaking_as(uid);
        Self { instance, uid, child, sock, me }
    }

    fn plan(&self, info: &Info, run_as: u32) -> Plan {
        let account = environment::Account { name: "me", home: b"/", shell: b"/bin/sh" };
        Plan {
            run_as: RunAs { name: "me".into(), uid: run_as, gid: run_as, groups: vec![run_as] },
            environment: environment::base(account),
            ..plan_for(&self.instance, info, self.uid, &["/usr/bin/id", "-u"])
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

//
#[test]
fn one_user_may_approve_what_it_asks_for_and_only_as_itself() {
    let own = Own::start();
    let info = own.sock.info();
    assert!(!info.boundary, "and it says so");
    for other in [0, own.instance.requester(0)] {
        let plan = own.plan(&info, other).encode().unwrap();
        let refused = own.sock.decide_as(&own.me, VerdictKind::Approve, &plan, info.epoch);
        assert_eq!(refused.unwrap_err().reason, Reason::Unsupported, "as uid {other}");
    }
    let plan = own.plan(&info, own.uid).encode().unwrap();
    let lease = own.sock.approve(&own.me, &plan);
    let (replies, mut client) = own.sock.execute(&lease, &plan, own.uid);
    let Some((ClientFrame::Started, fds)) = client.frame() else { panic!("not started") };
    let mut text = String::new();
    fs::File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, format!("{}\n", own.uid));
    assert!(matches!(replies.last(), Some(Reply::Outcome(_))));
}
