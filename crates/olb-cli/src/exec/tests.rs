use std::io::Write as _;

use olb_exec_api::Recorded;
use olb_sys::pipe::pipe;

use super::*;
use crate::trust::tests::{finished, keys, receipt, run_of};

const PLAN: PlanDigest = PlanDigest([5; 32]);
const RUN: Run = run_of(PLAN);

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

#[test]
fn the_hot_path_reads_what_clap_would() {
    use clap::Parser as _;
    for line in [
        "--lease-file l -- systemctl restart nginx",
        "--id 7FK-3QX -- id -u",
        "--id req_x --outcome-file o --",
        "--outcome-file o --lease-file l -- --help --id x",
    ] {
        let fast = parse(&words(line)).unwrap();
        let all = words(&format!("olb exec {line}"));
        let all = all.into_iter().filter(|word| !word.is_empty());
        let crate::args::Command::Exec(slow) = crate::args::Cli::parse_from(all).command else {
            panic!("not exec");
        };
        assert_eq!(format!("{fast:?}"), format!("{slow:?}"), "{line}");
    }
}

#[test]
fn whatever_else_is_typed_is_left_to_clap() {
    for line in
        ["--help", "-- id", "--lease-file", "--lease-file l --id x -- id", "-u www -- id", "id"]
    {
        assert!(parse(&words(line)).is_none(), "{line}");
    }
}

#[test]
fn a_lease_that_does_not_read_is_malformed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    for text in [String::new(), "olbl1_x".into(), "x".repeat(10_000)] {
        std::fs::write(&path, text).unwrap();
        let failure = read_lease(path.clone()).unwrap_err();
        assert_eq!((failure.code, failure.name), (64, "malformed"));
    }
    std::fs::write(&path, armor::encode(&[1; olb_lease::LEASE_BYTES]) + "\n").unwrap();
    assert_eq!(read_lease(path).unwrap(), [1; olb_lease::LEASE_BYTES]);
}

#[test]
fn a_receipt_that_proves_the_end_gives_the_commands_code() {
    for (outcome, want) in [
        (Outcome::Exited(3), 3),
        (Outcome::Killed(9), 137),
        (Outcome::SpawnFailed(2), 127),
        (Outcome::SpawnFailed(8), 126),
    ] {
        let receipt = receipt(finished(PLAN, outcome, b""));
        let proved = check(&keys(), &receipt, RUN, None).unwrap();
        assert_eq!(end(PLAN, &proved).unwrap(), want);
    }
}

//
#[test]
fn without_a_receipt_for_this_plan_the_outcome_is_unknown() {
    let good = receipt(finished(PLAN, Outcome::Exited(0), b""));
    let other = receipt(finished(PlanDigest([6; 32]), Outcome::Exited(0), b""));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let refusal = Refusal::new(Reason::Denied, "nothing ran");
    for last in [None, Some(ClientFrame::Started), Some(ClientFrame::Refused(refusal))] {
        let failure = receipt_of(last).unwrap_err();
        assert_eq!((failure.code, failure.name), (70, "outcome_unknown"));
    }
    for bad in [&other, &forged] {
        let failure = check(&keys(), bad, RUN, None).unwrap_err();
        assert_eq!((failure.code, failure.name), (70, "outcome_unknown"));
    }
    let unknown = receipt(finished(PLAN, Outcome::Unknown { may_be_running: true }, b""));
    let proved = check(&keys(), &unknown, RUN, None).unwrap();
    assert_eq!(end(PLAN, &proved).unwrap_err().code, 70);
    let none = BrokerKeys::default();
    assert_eq!(check(&none, &good, RUN, None).unwrap_err().code, 70);
}

#[test]
fn without_a_lease_nothing_succeeds_whatever_the_broker_says() {
    for (state, want) in [("approved", 75), ("exited", 77), ("killed", 77), ("pending", 75)] {
        let view =
            RequestView { state: state.into(), exit_code: Some(0), ..RequestView::default() };
        assert_eq!(no_lease(Box::new(view)).code, want, "{state}");
    }
}

//
#[test]
fn output_that_is_not_what_the_receipt_says_is_not_believed() {
    let sink = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    for (arrived, is_right) in [(&b"hello"[..], true), (b"hell", false), (b"hello!", false)] {
        let (out_read, out_write) = pipe().unwrap();
        let (err_read, err_write) = pipe().unwrap();
        std::fs::File::from(out_write).write_all(arrived).unwrap();
        drop(err_write);
        let mut streams =
            [Stream::new(out_read, sink.as_fd()), Stream::new(err_read, sink.as_fd())];
        let (client, broker) = std::os::unix::net::UnixStream::pair().unwrap();
        let client = relay::Frames::new(client, olb_sys::harden::effective_uid());
        drop(broker);
        let copied = std::thread::scope(|scope| {
            let copy = || relay::relay(&client, &Signals::take().unwrap(), &mut streams).unwrap();
            scope.spawn(copy).join().unwrap()
        });
        assert_eq!(copied, None);
        let receipt = receipt(finished(PLAN, Outcome::Exited(0), b"hello"));
        let result = check(&keys(), &receipt, RUN, Some(&streams));
        assert_eq!(result.is_ok(), is_right, "{arrived:?}");
    }
}

#[test]
fn a_burned_lease_tells_the_recorded_outcome_once_it_is_proved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcome");
    let mut file = OutcomeFile::create(Some(&path)).unwrap();
    let recorded = Recorded {
        receipt: receipt(finished(PLAN, Outcome::Exited(0), b"0\n")),
        stdout_tail: b"0\n".into(),
        stderr_tail: Vec::new(),
    };
    let mut refusal = Refusal::new(Reason::AlreadyBurned, "this lease was used before");
    refusal.recorded = Some(recorded);
    let failure = refused(&keys(), &refusal, RUN, &mut file);
    assert_eq!((failure.code, failure.name), (77, "already_burned"));
    assert_eq!(failure.text, "this lease was used before (recorded: exit 0, 2 bytes of output)");
    let object: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&object["error"], &object["exit_code"]), (&"already_burned".into(), &0.into()));
    let failure = refused(&keys(), &refusal, run_of(PlanDigest([6; 32])), &mut file);
    assert!(failure.text.ends_with("(the recorded outcome could not be verified)"));
}
