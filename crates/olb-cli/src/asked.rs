//! Whether what the broker holds is what this process asked for. The front builds the plan, and is
//! not trusted with it: a plan for other words would be the requester's to answer for.

mod files;

use std::collections::BTreeMap;

use olb_exec_api::Reason;
use olb_lease::{
    Digest, Directory, LeaseClaims, Plan, RawLease, argv_digest, cwd_digest, plan_digest, sha256,
};
use olb_sys::account::{group_by_name, user_by_name};
use olb_wire::Command;

use crate::bind;
use crate::client::{Runtime, Socket};
use crate::failure::Failure;
use crate::select::Selector;
use crate::trust::BrokerKeys;

/// Compares everything about `plan` that `command` says.
///
/// # Errors
/// Something differs.
pub(crate) fn check_plan(keys: &BrokerKeys, command: &Command, plan: &[u8]) -> Result<(), Failure> {
    let is_it = Plan::decode(plan).is_ok_and(|plan| is_for(keys, command, &plan));
    if is_it { Ok(()) } else { Err(other("request")) }
}

/// What `lease` claims, which has to be about `command` where that was typed. Whose signature it has
/// is another question.
///
/// # Errors
/// It does not read, or it is for another command.
pub(crate) fn claims_for(
    command: Option<&Command>,
    plan: Option<&Plan>,
    lease: &[u8],
) -> Result<LeaseClaims, Failure> {
    let claims = claims(lease)?;
    let is_for = |command: &Command| {
        // Where copies of files are bound, the words that run are not those that were typed.
        let argv = plan.filter(|plan| files::is_for(command, plan)).map(|plan| plan.argv.clone());
        let argv = argv.unwrap_or_else(|| argv_of(command));
        claims.argv == argv_digest(&argv) && claims.cwd == cwd_digest(&cwd_of(command))
    };
    match command {
        Some(command) if !is_for(command) => Err(Failure::refused(
            "mismatch",
            "the command or its folder is not what was approved; ask again for what you want to run",
        )),
        Some(_) | None => Ok(claims),
    }
}

fn claims(lease: &[u8]) -> Result<LeaseClaims, Failure> {
    let claims = RawLease::parse(lease).and_then(|lease| lease.unverified_claims());
    claims.map_err(|error| {
        let reason = Reason::Malformed;
        let text = format!("{error}; ask for the command again");
        Failure::new(reason.exit_code(), reason.name(), text)
    })
}

/// Where `lease` is for a command with files, reads them once more into `command`: they have to be
/// what was approved. The plan comes from the front, and counts because the lease names its digest.
///
/// # Errors
/// A file is another one now, or cannot be read.
pub(crate) fn read_files_again(
    runtime: &Runtime,
    command: Option<&mut Command>,
    lease: &[u8],
) -> Result<Option<Plan>, Failure> {
    let (Some(command), claims) = (command, claims(lease)?) else { return Ok(None) };
    let typed = argv_of(command);
    // Of all words only the program's stays as it was typed where a copy takes its place.
    let looked_at = if claims.argv == argv_digest(&typed) { 1 } else { typed.len() };
    if !bind::names_files_of_others(runtime, command, looked_at) {
        return Ok(None);
    }
    let shown = runtime.show(Socket::Request, &Selector::Full(claims.plan.request_id()));
    // Without the plan the words are compared as they are.
    let Ok(view) = shown else { return Ok(None) };
    let plan = Plan::decode(&view.plan).ok().filter(|_| plan_digest(&view.plan) == claims.plan);
    match plan.filter(|plan| plan.typed_argv == typed && !plan.staged.is_empty()) {
        Some(plan) => {
            command.staged = files::read_again(&plan)?;
            Ok(Some(plan))
        }
        None => Ok(None),
    }
}

/// Whether the broker signed `lease`.
///
/// # Errors
/// It did not.
pub(crate) fn check_signature(keys: &BrokerKeys, lease: &[u8]) -> Result<(), Failure> {
    let is_signed = |key| RawLease::parse(lease).and_then(|raw| raw.verify(key)).is_ok();
    if keys.lease.iter().any(is_signed) {
        return Ok(());
    }
    Err(Failure::refused(
        Reason::BadSignature.name(),
        "the lease was not signed by this broker; ask for the command again",
    ))
}

fn other(what: &str) -> Failure {
    Failure::mismatch(format!(
        "the broker answered with a {what} for another command than the one typed; believe nothing \
         that it says of it, and have the broker looked at"
    ))
}

fn argv_of(command: &Command) -> Vec<Vec<u8>> {
    command.argv.iter().map(|word| word.to_vec()).collect()
}

fn cwd_of(command: &Command) -> Directory {
    Directory { path: command.cwd.to_vec(), dev: command.cwd_dev, ino: command.cwd_ino }
}

fn is_for(keys: &BrokerKeys, command: &Command, plan: &Plan) -> bool {
    let argv = argv_of(command);
    let mut words = BTreeMap::new();
    for word in &command.environment_words {
        if let Some(at) = word.iter().position(|byte| *byte == b'=') {
            words.insert(word[..at].to_vec(), word[at + 1..].to_vec());
        }
    }
    let stdin = command.stdin.as_ref().map(|bytes| Digest(sha256(bytes)));
    plan.typed_argv == argv
        && files::is_for(command, plan)
        && plan.unbound == files::unbound_of(command)
        // That it can be changed may be said where it cannot, not the other way round.
        && (plan.cwd_changeable || !command.cwd_changeable)
        && plan.cwd == cwd_of(command)
        && plan.environment_words == words
        && plan.stdin.as_ref().map(|stdin| stdin.sha256) == stdin
        && is_user(keys, command.user.as_deref(), plan)
        && is_group(command.group.as_deref(), plan)
}

/// Whether the target account is the one named. An account that is not known here, as in a
/// container, is known by its name only; approver and root half look at the numbers.
fn is_user(keys: &BrokerKeys, user: Option<&str>, plan: &Plan) -> bool {
    let target = &plan.run_as;
    let Some(name) = user else {
        // Without a boundary everybody runs commands as themselves.
        let own = keys.root_half();
        return target.uid == own;
    };
    match name.strip_prefix('#') {
        Some(number) => number.parse() == Ok(target.uid),
        None => match user_by_name(name) {
            Ok(Some(account)) => account.uid == target.uid,
            Ok(None) | Err(_) => name == target.name,
        },
    }
}

fn is_group(group: Option<&str>, plan: &Plan) -> bool {
    let gid = plan.run_as.gid;
    match group.map(|name| (name, name.strip_prefix('#'))) {
        None => true,
        Some((_, Some(number))) => number.parse() == Ok(gid),
        Some((name, None)) => match group_by_name(name) {
            Ok(Some(found)) => found == gid,
            Ok(None) | Err(_) => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use olb_lease::{
        Cti, Epoch, LeaseIssuer, PlanDigest, SigningKey, Staged, Stdin, Unbound, VerdictDigest,
    };

    use super::*;
    use crate::testing::plan;

    fn keys() -> BrokerKeys {
        let lease = vec![issuer().public().clone()];
        BrokerKeys { lease, is_from_root: true, ..BrokerKeys::default() }
    }

    fn issuer() -> SigningKey<LeaseIssuer> {
        SigningKey::from_seed(&[4; 32].into()).unwrap()
    }

    /// What the test plan was asked for with.
    fn command() -> Command {
        Command {
            argv: ["systemctl", "restart", "nginx"]
                .map(|word| word.as_bytes().to_vec().into())
                .into(),
            cwd: b"/srv/app".to_vec().into(),
            cwd_dev: 1,
            cwd_ino: 5,
            environment_words: Vec::new(),
            user: None,
            group: None,
            stdin: None,
            cwd_changeable: false,
            staged: Vec::new(),
            unbound: Vec::new(),
        }
    }

    fn lease_of(plan: &Plan) -> LeaseClaims {
        LeaseClaims {
            audience: plan.audience,
            expires_at: 1_795_363_500,
            issued_at: 1_795_363_100,
            cti: Cti([1; 16]),
            argv: argv_digest(&plan.argv),
            requester_uid: plan.requester_uid,
            environment: Digest([3; 32]),
            cwd: cwd_digest(&plan.cwd),
            plan: PlanDigest([5; 32]),
            verdict: VerdictDigest([6; 32]),
            epoch: Epoch([7; 16]),
        }
    }

    #[test]
    fn a_plan_for_anything_else_is_not_what_was_asked_for() {
        let check = |command: &Command, plan: &Plan| {
            check_plan(&keys(), command, &plan.encode().unwrap()).map_err(|failure| failure.code)
        };
        assert_eq!(check(&command(), &plan()), Ok(()));
        let changes: [fn(&mut Plan); 9] = [
            |plan| plan.argv[1] = "stop".into(),
            |plan| plan.typed_argv[1] = "stop".into(),
            |plan| plan.argv.push("x".into()),
            |plan| plan.cwd.path = "/srv".into(),
            |plan| plan.cwd.ino = 6,
            |plan| drop(plan.environment_words.insert("TZ".into(), "UTC".into())),
            |plan| plan.stdin = Some(Stdin { size: 0, sha256: Digest(sha256(b"")) }),
            |plan| plan.run_as.uid = 33,
            |plan| plan.run_as.uid = 1001,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut changed = plan();
            change(&mut changed);
            if !changed.environment_words.is_empty() {
                changed.environment.insert("TZ".into(), "UTC".into());
            }
            assert_eq!(check(&command(), &changed), Err(70), "change {at}");
        }
        let mut asked = command();
        asked.environment_words.push(b"TZ=a=b".to_vec().into());
        let mut with = plan();
        with.environment.insert("TZ".into(), "a=b".into());
        with.environment_words.insert("TZ".into(), "a=b".into());
        assert_eq!(check(&asked, &with), Ok(()));
        assert_eq!(check(&asked, &plan()), Err(70));
    }

    /// The command and the plan with a copy in the place of a word.
    fn with_a_file() -> (Command, Plan) {
        let mut command = command();
        command.argv[2] = b"-f./x".to_vec().into();
        let file = olb_wire::StagedWord {
            word: 2,
            prefix: 2,
            path: b"/srv/app/x".to_vec().into(),
            size: 3,
            sha256: vec![3; 32].into(),
            executable: false,
        };
        command.staged.push(file);
        command
            .unbound
            .push(olb_wire::UnboundWord { word: 1, path: b"/srv/app/restart".to_vec().into() });
        let mut plan = plan();
        plan.typed_argv[2] = "-f./x".into();
        plan.argv[2] = format!("-f/pin/{}/0/x", "07".repeat(16)).into();
        let path: Vec<u8> = "/srv/app/x".into();
        let sha256 = Digest([3; 32]);
        plan.staged = vec![Staged { word: 2, prefix: 2, path, size: 3, sha256, executable: false }];
        plan.unbound = vec![Unbound { word: 1, path: "/srv/app/restart".into() }];
        (command, plan)
    }

    //
    #[test]
    fn a_plan_with_files_has_those_that_were_handed_in_and_nothing_else_rewritten() {
        let (command, good) = with_a_file();
        let check = |plan: &Plan| check_plan(&keys(), &command, &plan.encode().unwrap()).is_ok();
        assert!(check(&good));
        let changes: [fn(&mut Plan); 10] = [
            |plan| plan.staged[0].sha256 = Digest([4; 32]),
            |plan| plan.staged[0].size = 4,
            |plan| plan.staged[0].path = "/srv/app/y".into(),
            |plan| plan.staged[0].executable = true,
            |plan| drop(plan.staged.pop()),
            |plan| plan.unbound[0].path = "/srv/app/x".into(),
            |plan| drop(plan.unbound.pop()),
            |plan| plan.argv[1] = "stop".into(),
            |plan| plan.argv[2] = "-f./x".into(),
            |plan| plan.argv[2] = format!("-f/pin/{}/1/x", "07".repeat(16)).into(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut changed = good.clone();
            change(&mut changed);
            assert!(!check(&changed), "change {at}");
        }
        let mut unsaid = command.clone();
        unsaid.staged.clear();
        assert!(check_plan(&keys(), &unsaid, &good.encode().unwrap()).is_err());
    }

    //
    #[test]
    fn a_lease_for_copies_counts_with_the_plan_that_tells_of_them() {
        let (command, plan) = with_a_file();
        let lease = lease_of(&plan).sign(&issuer()).unwrap();
        let claims = |plan: Option<&Plan>| claims_for(Some(&command), plan, &lease);
        assert!(claims(Some(&plan)).is_ok());
        assert_eq!(claims(None).unwrap_err().code, 77);
        let mut other = plan.clone();
        other.staged[0].sha256 = Digest([4; 32]);
        assert_eq!(claims(Some(&other)).unwrap_err().code, 77);
    }

    #[test]
    fn an_account_is_compared_by_number_wherever_it_can_be() {
        let user = |user: &str| Command { user: Some(user.into()), ..command() };
        let mut elsewhere = plan();
        elsewhere.run_as.name = "no-such-account-here".into();
        elsewhere.run_as.uid = 4_000_001;
        for (command, plan, fits) in [
            (user("root"), plan(), true),
            (user("#0"), plan(), true),
            (user("#1"), plan(), false),
            (user("daemon"), plan(), false),
            (user("no-such-account-here"), elsewhere.clone(), true),
            (user("root"), elsewhere, false),
            (Command { group: Some("#0".into()), ..command() }, plan(), true),
            (Command { group: Some("#7".into()), ..command() }, plan(), false),
            (Command { group: Some("daemon".into()), ..command() }, plan(), false),
        ] {
            assert_eq!(is_for(&keys(), &command, &plan), fits, "{command:?}");
        }
    }

    #[test]
    fn a_lease_counts_with_the_brokers_signature_and_for_the_typed_command_only() {
        let good = lease_of(&plan()).sign(&issuer()).unwrap();
        let claims = |command: Option<&Command>, lease: &[u8]| {
            claims_for(command, None, lease).map_err(|failure| (failure.code, failure.name))
        };
        assert!(claims(Some(&command()), &good).is_ok() && claims(None, &good).is_ok());
        let mut stop = command();
        stop.argv[1] = b"stop".to_vec().into();
        let moved = Command { cwd_ino: 6, ..command() };
        for other in [stop, moved] {
            assert_eq!(claims(Some(&other), &good).unwrap_err(), (77, "mismatch"));
        }
        assert_eq!(claims(None, &good[1..]).unwrap_err(), (64, "malformed"));
        assert!(check_signature(&keys(), &good).is_ok());
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        let stranger = SigningKey::from_seed(&[5; 32].into()).unwrap();
        let foreign = lease_of(&plan()).sign(&stranger).unwrap();
        for bad in [forged, foreign] {
            let failure = check_signature(&keys(), &bad).unwrap_err();
            assert_eq!((failure.code, failure.name), (77, "bad_signature"));
        }
    }
}
