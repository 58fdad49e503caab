//! What the unit tests of several modules need.

use std::collections::BTreeMap;

use olb_exec_api::Info;
use olb_lease::{Audience, Directory, Epoch, Executable, Plan, RunAs, plan_digest};
use olb_wire::RequestView;

/// A plan for `systemctl restart nginx` as root.
pub(crate) fn plan() -> Plan {
    let argv: Vec<Vec<u8>> = ["systemctl", "restart", "nginx"].map(Into::into).into();
    Plan {
        random: [7; 16],
        host: "web-1".into(),
        audience: Audience([1; 32]),
        requester_uid: 1001,
        typed_argv: argv.clone(),
        argv,
        executable: Executable {
            path: "/usr/bin/systemctl".into(),
            dev: 1,
            ino: 77,
            size: 1_509_000,
            ctime_secs: 1,
            ctime_nanos: 2,
        },
        environment: BTreeMap::new(),
        environment_words: BTreeMap::new(),
        cwd: Directory { path: "/srv/app".into(), dev: 1, ino: 5 },
        cwd_changeable: false,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: Vec::new(),
        unbound: Vec::new(),
        wall_clock_secs: 3600,
        whole: false,
        reason: "config changed".into(),
        session: String::new(),
    }
}

/// The broker on web-1, with nobody enrolled.
pub(crate) fn info() -> Info {
    Info {
        host: "web-1".into(),
        audience: Audience([1; 32]),
        epoch: Epoch([1; 16]),
        lease_key: [3; 32],
        audit_key: [4; 32],
        sequence: 1,
        boundary: true,
        requesters: Vec::new(),
        enrolments: Vec::new(),
        limits: Vec::new(),
        staging: Vec::new(),
    }
}

/// A request for [`plan`], half an hour before it expires unanswered.
pub(crate) fn view(state: &str) -> RequestView {
    let bytes = plan().encode().unwrap();
    RequestView {
        request_id: plan_digest(&bytes).request_id().to_string(),
        code: "7FK-3QX".into(),
        state: state.into(),
        requester_uid: 1001,
        plan: bytes.into(),
        created_at: 1_795_361_400,
        expires_at: 1_795_363_200,
        ..RequestView::default()
    }
}
