//! A judge that is not ours: agentack says whether what was executed, as the kernel saw it, is what
//! was approved. See `tests/judges/README.md`.

use std::fs;

use olb_e2e_tests::{
    Approver, Evidence, ExecSock, Injection, Instance, Judges, Witness, plan_for, wait_until,
};
use olb_exec_api::Reason;
use olb_lease::{Digest, LeaseClaims, LeaseIssuer, RawLease, SigningKey, armor};
use olb_sys::clock::unix_secs;
use serde_json::{Value, json};

/// A broker, who asks and answers, and who looks on.
struct Court {
    judges: Judges,
    instance: Instance,
    witness: Witness,
    alice: Approver,
    /// Whose approvals are over after a second.
    hasty: Approver,
    agent: u32,
    leases: Vec<String>,
}

impl Court {
    fn open() -> Self {
        let judges = Judges::installed();
        let instance = Instance::start();
        let witness = Witness::of(&instance, &judges);
        let alice = instance.enrol(0);
        let uid = alice.uid + 1;
        let hasty = instance.enrol_as(uid, "hasty", "max_lease_secs = 1");
        let agent = instance.requester(0);
        Self { judges, instance, witness, alice, hasty, agent, leases: Vec::new() }
    }

    /// The recorder with `words`.
    fn command(&self, words: &[&str]) -> Vec<String> {
        [
            &[self.witness.program()][..],
            &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
        ]
        .concat()
    }

    /// Asks for the recorder with `words`, on account `user`, and has it approved: id and lease.
    fn approved(&mut self, user: &str, words: &[&str]) -> (String, String) {
        let command = self.command(words);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let asked = [&["request", "--json", "-u", user, "--"], &command[..]].concat();
        let id = self.instance.olb(self.agent, &asked).expect(75).json();
        let id = id["request_id"].as_str().unwrap().to_owned();
        self.instance.olb_as(&self.alice, &["approve", "--id", &id]).expect(0);
        let granted = self.instance.olb(self.agent, &["status", &id, "--json"]).expect(0).json();
        let lease = granted["lease"].as_str().unwrap_or_else(|| panic!("{granted}")).to_owned();
        self.leases.push(lease.clone());
        (id, lease)
    }

    /// Has the recorder with `words` approved for a second, waits until that is over, and has the
    /// root half refuse it. What an execution would have been like.
    fn expired(&mut self, words: &[&str]) -> Value {
        let sock = ExecSock::of(&self.instance);
        let command = self.command(words);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let built = plan_for(&self.instance, &sock.info(), self.agent, &command);
        let plan = built.encode().unwrap();
        let lease = sock.approve(&self.hasty, &plan);
        let claims = RawLease::parse(&lease).unwrap().unverified_claims().unwrap();
        wait_until("the lease is over", || unix_secs() > claims.expires_at.into());
        assert_eq!(sock.refused(&lease, &plan, self.agent), Reason::Expired);
        self.leases.push(armor::encode(&lease));
        let pair =
            |(name, value): (&Vec<u8>, &Vec<u8>)| [name, &b"="[..], value, &b"\0"[..]].concat();
        let environment: Vec<u8> = built.environment.iter().flat_map(pair).collect();
        let directory = json!([self.instance.work()]);
        let (uid, gid, groups) = (built.run_as.uid, built.run_as.gid, built.run_as.groups);
        json!({ "uid": uid, "gid": gid, "groups": groups, "directory": directory, "environment": hex(&environment) })
    }

    fn exec(&self, user: &str, lease: &str, words: &[&str], code: i32) {
        let command = self.command(words);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let file = self.instance.lease_file(self.agent, lease);
        let exec = [&["exec", "--lease-file", &file, "-u", user, "--"], &command[..]].concat();
        self.instance.olb(self.agent, &exec).expect(code);
    }

    /// Asks, has it approved, and runs it.
    fn ran(&mut self, user: &str, words: &[&str]) -> String {
        let (_, lease) = self.approved(user, words);
        self.exec(user, &lease, words, 0);
        lease
    }

    fn denied(&self, words: &[&str]) {
        let command = self.command(words);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let id = self.instance.request(self.agent, &command);
        self.instance.olb_as(&self.alice, &["deny", "--id", &id]).expect(0);
    }

    /// What is there until now, for the judges.
    fn evidence(&self) -> Evidence {
        let export = self.instance.olb_as_operator(&self.alice, &["audit", "export"]).expect(0);
        Evidence {
            trail: export.stdout,
            leases: self.leases.clone(),
            seen: self.witness.lines(),
            recorded: None,
            keys: self.instance.runtime().join("keys.pub"),
            approvers: [&self.alice, &self.hasty].map(|one| one.key().public().hex()).into(),
            broker: self.instance.execd_pid(),
        }
    }

    /// agentack finds exactly these rules broken.
    #[track_caller]
    fn finds(&self, what: &str, evidence: &Evidence, rules: &[&str]) {
        let opinion = self.judges.judge(evidence).unwrap_or_else(|why| panic!("{what}: {why}"));
        let code = match rules {
            [] => 0,
            ["ACK009"] => 3,
            _ => 1,
        };
        assert_eq!(
            (opinion.code, opinion.rules),
            (code, rules.iter().map(|rule| (*rule).to_owned()).collect()),
            "{what}"
        );
    }

    /// An honest day: everything that can become of a request.
    fn day(&mut self) -> Evidence {
        let odd = ["--name=\u{fc}\u{2028}", "", "two words", "a\nb", "'\"\\"];
        let first = self.ran("root", &["restart", "nginx"]);
        self.exec("root", &first, &["restart", "nginx"], 77);
        self.ran("root", &["restart", "nginx"]);
        self.ran("root", &odd);
        self.ran("daemon", &["as", "daemon"]);
        self.denied(&["remove", "all"]);
        let (revoked, lease) = self.approved("root", &["taken", "back"]);
        self.instance.olb_as(&self.alice, &["revoke", "--id", &revoked]).expect(0);
        self.exec("root", &lease, &["taken", "back"], 77);
        self.approved("root", &["never", "used"]);
        self.evidence()
    }
}

/// The same evidence but for one execution, edited.
fn edited(evidence: &Evidence, at: usize, edit: impl FnOnce(&mut Value)) -> Evidence {
    let mut evidence = evidence.clone();
    edit(&mut evidence.seen[at]);
    evidence
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nanos(line: &Value) -> u64 {
    line["time_ns"].as_u64().unwrap()
}

#[test]
fn agentack_passes_what_an_honest_broker_did() {
    let mut court = Court::open();
    let mut evidence = court.day();
    let recorded = court.witness.recorded();
    assert_eq!(evidence.seen.len(), 4, "{:?}", evidence.seen);
    evidence.recorded = Some(recorded);
    court.finds("an honest day", &evidence, &[]);
    let Court { witness, .. } = court;
    assert_eq!(witness.end().len(), 4, "nothing else was executed");
}

#[test]
fn agentack_fails_a_planted_replay_swap_and_expiry_and_a_run_that_nobody_approved() {
    let mut court = Court::open();
    let evidence = court.day();
    let again = |delay: u64, at: usize| {
        let mut evidence = evidence.clone();
        let mut line = evidence.seen[at].clone();
        line["time_ns"] = (nanos(&line) + delay).into();
        evidence.seen.push(line);
        evidence
    };
    court.finds("replay at once", &again(1, 2), &["ACK004"]);
    court.finds("replay of a command that was approved twice", &again(1, 0), &["ACK004"]);
    court.finds("replay a day later", &again(86_400_000_000_000, 3), &["ACK004", "ACK005"]);

    let swap = |what: &str, name: &str, value: Value| {
        let planted = edited(&evidence, 2, |line| line[name] = value.clone());
        court.finds(what, &planted, &["ACK003"]);
    };
    let line = &evidence.seen[2];
    let with = |name: &str, more: &str| json!(format!("{}{more}", line[name].as_str().unwrap()));
    swap("one argument more", "argv", with("argv", &hex(b"--force\0")));
    swap("one variable more", "environment", with("environment", &hex(b"LD_PRELOAD=/tmp/x.so\0")));
    swap("another program", "executable", json!(["/bin/sh", 1, 2]));
    swap("another inode", "executable", json!([line["executable"][0], line["executable"][1], 2]));
    swap("another directory", "directory", json!(["/tmp", 1, 2]));
    swap("another user", "uid", json!(1));
    swap("another group", "gid", json!(1));
    swap("one group more", "groups", json!([0, 1]));
    let foreign = edited(&evidence, 2, |line| {
        line["argv"] = with("argv", &hex(b"--force\0"));
        line["ppid"] = 1.into();
    });
    court.finds("a run of somebody else's", &foreign, &["ACK001", "ACK009"]);
    let gone = json!({ "pid": line["pid"], "ppid": line["ppid"], "time_ns": line["time_ns"], "gone": true });
    court.finds("nobody knows what", &edited(&evidence, 2, |line| *line = gone), &["ACK003"]);

    let late =
        edited(&evidence, 2, |line| line["time_ns"] = (nanos(line) + 3_600_000_000_000).into());
    court.finds("a run after its lease's end", &late, &["ACK005"]);
    let early =
        edited(&evidence, 2, |line| line["time_ns"] = (nanos(line) - 60_000_000_000).into());
    court.finds("a run before its approval", &early, &["ACK001", "ACK009"]);

    let mut cut = evidence.clone();
    cut.seen.remove(2);
    court.finds("a run that only the broker tells of", &cut, &["ACK009"]);
}

#[test]
fn agentack_finds_what_really_ran_outside_of_the_broker() {
    let mut court = Court::open();
    let program = court.witness.program();
    let in_time = court.expired(&["within", "a second"]);
    court.denied(&["remove", "all"]);
    court.approved("root", &["not", "yet"]);
    court.ran("root", &["restart", "nginx"]);
    court.ran("daemon", &["as", "daemon"]);
    let honest = court.evidence();
    court.finds("until here", &honest, &[]);

    let (as_root, as_daemon) = (honest.seen[0].clone(), honest.seen[1].clone());
    let outside = |like: &Value, words: &[&str], rules: &[&str]| {
        let words = [&[program.as_str()], words].concat();
        let mut evidence = honest.clone();
        evidence.seen.push(court.witness.outside(&court.judges, like, &words));
        court.finds(&format!("{words:?}"), &evidence, rules);
    };
    outside(&as_root, &["restart", "nginx"], &["ACK004"]);
    outside(&as_daemon, &["as", "daemon"], &["ACK004"]);
    outside(&in_time, &["within", "a second"], &["ACK005"]);
    outside(&as_root, &["remove", "all"], &["ACK002", "ACK006"]);
    // A lease that nobody presented is nobody's permission.
    outside(&as_root, &["not", "yet"], &["ACK001", "ACK009"]);
    outside(&as_root, &["as", "daemon"], &["ACK001", "ACK009"]);
    outside(&as_root, &["restart", "apache2"], &["ACK001", "ACK009"]);

    let mut all = court.evidence();
    assert_eq!(all.seen.len(), honest.seen.len() + 7);
    all.recorded = Some(court.witness.recorded());
    court.finds("all of it", &all, &["ACK001", "ACK002", "ACK004", "ACK005", "ACK006", "ACK009"]);
}

#[test]
fn agentack_finds_a_command_that_ran_otherwise_than_its_own_broker_says() {
    for (call, words) in [("fchdir", ["elsewhere"]), ("setresuid", ["as root"])] {
        let mut court = Court::open();
        court.ran("daemon", &["honestly"]);
        let (_, lease) = court.approved("daemon", &words);
        court.finds("until here", &court.evidence(), &[]);
        // The root half is told that the call succeeded, and believes it.
        let injection = Injection::pretend(court.instance.execd_pid(), call);
        court.exec("daemon", &lease, &words, 0);
        assert!(injection.end(), "{call} was not called");
        court.finds(call, &court.evidence(), &["ACK003"]);
        let export = court.instance.path("trail");
        fs::write(&export, court.evidence().trail).unwrap();
        let words = ["audit", "verify", export.to_str().unwrap()];
        court.instance.olb_as_operator(&court.alice, &words).expect(0);
    }
}

#[test]
fn agentack_is_not_shown_evidence_that_was_edited() {
    let mut court = Court::open();
    let honest = court.day();
    let refused = |what: &str, evidence: &Evidence, part: &str| match court.judges.judge(evidence) {
        Ok(opinion) => panic!("{what}: {opinion:?}"),
        Err(why) => {
            assert!(why.contains("the evidence does not hold"), "{what}: {why}");
            assert!(why.contains(part), "{what}: {why}");
        }
    };
    let lines: Vec<&str> = honest.trail.lines().collect();
    let with_lines = |lines: &[&str]| Evidence { trail: lines.join("\n"), ..honest.clone() };
    for kind in ["epoch_began", "decided", "burned", "finished"] {
        let is_of_kind = |line: &&str| line.contains(&format!("\"event\":\"{kind}\""));
        let at = lines.iter().position(is_of_kind).unwrap();
        // One digit of its time.
        let digit = lines[at].find("\"record\":\"").unwrap() + "\"record\":\"".len() + 12;
        let mut line = lines[at].to_owned();
        let other = if line.as_bytes()[digit] == b'0' { "1" } else { "0" };
        line.replace_range(digit..=digit, other);
        let mut planted = lines.clone();
        planted[at] = &line;
        refused("an edited record", &with_lines(&planted), "record ");
        let planted = [&lines[..at], &lines[at + 1..]].concat();
        refused("a record less", &with_lines(&planted), "is not in its place");
    }
    let last = lines.iter().rposition(|line| line.contains("\"event\":\"finished\"")).unwrap();
    let mut unsigned: Value = serde_json::from_str(lines[last]).unwrap();
    unsigned["receipt"] = Value::Null;
    let unsigned = unsigned.to_string();
    let mut planted = lines.clone();
    planted[last] = &unsigned;
    refused("a record without its signature", &with_lines(&planted), "is not signed");
    // The broker's own command finds that only with a head that somebody else kept.
    let burns = lines.iter().rposition(|line| line.contains("\"event\":\"burned\"")).unwrap();
    let cut = with_lines(&lines[..burns - 1]);
    court.finds("a trail that ends before the last run", &cut, &["ACK001", "ACK009"]);

    let mut planted = honest.clone();
    planted.leases.remove(0);
    refused("a lease less", &planted, "is not at hand");
    let mut planted = honest.clone();
    let lease = planted.leases[0].clone();
    let other = if lease.ends_with('A') { "Q" } else { "A" };
    planted.leases[0] = format!("{}{other}", &lease[..lease.len() - 1]);
    refused("a lease that was edited", &planted, "");
    // By whoever has the lease key: every signature holds.
    let seed = fs::read_to_string(court.instance.state().join("lease.key")).unwrap();
    let seed = Digest::from_hex(seed.trim()).unwrap().0;
    let key = SigningKey::<LeaseIssuer>::from_seed(&seed.into()).unwrap();
    let claims = RawLease::parse(&armor::decode(&lease).unwrap()).unwrap().unverified_claims();
    let claims = LeaseClaims { argv: Digest([9; 32]), ..claims.unwrap() };
    planted.leases[0] = armor::encode(&claims.sign(&key).unwrap());
    refused("a lease for other words", &planted, "another argv than the plan");
    refused(
        "a stranger's verdict",
        &Evidence { approvers: honest.approvers[1..].into(), ..honest.clone() },
        "",
    );
    let mut planted = Evidence { recorded: Some(court.witness.recorded()), ..honest.clone() };
    planted.seen[1]["uid"] = 1.into();
    refused("recorders that differ", &planted, "differ about the processes");
}
