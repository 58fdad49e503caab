//! Plans for the model.

use std::collections::BTreeMap;

use olb_lease::{Audience, Directory, Executable, Plan, RunAs};

/// The bytes of a plan of `uid` for these words; `random` tells plans for the same words apart.
pub(super) fn plan(uid: u32, words: &[&str], random: u8) -> Vec<u8> {
    let argv: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let plan = Plan {
        random: [random; 16],
        host: "web-1".into(),
        audience: Audience([2; 32]),
        requester_uid: uid,
        typed_argv: argv.clone(),
        argv,
        executable: Executable {
            path: b"/usr/bin/systemctl".to_vec(),
            dev: 1,
            ino: 2,
            size: 3,
            ctime_secs: 4,
            ctime_nanos: 5,
        },
        environment: BTreeMap::new(),
        environment_words: BTreeMap::new(),
        cwd: Directory { path: b"/srv/app".to_vec(), dev: 1, ino: 9 },
        cwd_changeable: false,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: Vec::new(),
        unbound: Vec::new(),
        wall_clock_secs: 3600,
        whole: false,
        reason: "because".into(),
        session: "main".into(),
    };
    plan.encode().expect("a plan")
}
