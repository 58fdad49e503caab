use super::*;

fn args(dir: &Path) -> EnrollArgs {
    EnrollArgs {
        user: None,
        name: Some("alice".into()),
        key: Some(key()),
        requesters: "any".into(),
        run_as: "0,33".into(),
        run_as_groups: Some("0,33".into()),
        max_lease_secs: 900,
        max_approvals_per_hour: 60,
        not_after: 0,
        replaces: None,
        approvers_dir: Some(dir.to_owned()),
        json: false,
    }
}

fn key() -> String {
    olb_lease::SigningKey::<Approver>::from_seed(&[3; 32].into()).unwrap().public().hex()
}

#[test]
fn the_file_has_every_key_in_the_documented_form() {
    let text = file(&args(Path::new("/x")), "alice", 1000, &key(), "0,33");
    let fields: Vec<_> = text.lines().map(|line| line.split(" = ").next().unwrap()).collect();
    let want = [
        "name",
        "uid",
        "key",
        "requesters",
        "run_as",
        "run_as_groups",
        "max_lease_secs",
        "max_approvals_per_hour",
        "not_after",
        "second",
    ];
    assert_eq!(fields, want);
    assert!(text.contains("\nuid = 1000\n") && text.contains("\nrun_as = 0,33\n"));
}

#[test]
fn a_key_takes_the_place_of_another_with_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("desk.conf");
    let old = public(&key()).unwrap();
    let text = format!("# by hand\n{}", file(&args(dir.path()), "alice", 1000, &key(), "0,33"));
    fs::write(&path, &text).unwrap();
    let seed = [4; 32].into();
    let new = olb_lease::SigningKey::<Approver>::from_seed(&seed).unwrap().public().clone();
    assert_eq!(succeed(dir.path(), "desk", &new).err().unwrap().code, 64, "not by file name");
    for name in ["alice", &old.kid().hex()] {
        fs::write(&path, &text).unwrap();
        assert_eq!(succeed(dir.path(), name, &new).unwrap().kid, new.kid().hex());
        assert_eq!(fs::read_to_string(&path).unwrap(), text.replace(&key(), &new.hex()));
    }
    fs::write(dir.path().join("bob.conf"), text.replace("alice", "bob")).unwrap();
    assert_eq!(succeed(dir.path(), "bob", &new).err().unwrap().code, 64, "enrolled already");
    fs::write(dir.path().join(format!("{}.revoked", old.kid().hex())), "").unwrap();
    assert_eq!(succeed(dir.path(), "alice", &old).err().unwrap().name, "revoked");
}

#[test]
fn one_key_is_enrolled_once() {
    let dir = tempfile::tempdir().unwrap();
    assert!(check_key_is_new(&dir.path().join("none"), "alice", &key()).is_ok(), "no folder yet");
    assert!(check_key_is_new(dir.path(), "alice", &key()).is_ok(), "nobody yet");
    let other = key().replace(&key()[..2], "00");
    fs::write(dir.path().join("carol.conf"), format!("name = carol\nkey = {other}\n")).unwrap();
    fs::write(dir.path().join("dave.conf"), format!("name = {0}\n# key = {0}\n", key())).unwrap();
    assert!(check_key_is_new(dir.path(), "alice", &key()).is_ok(), "other keys only");
    fs::write(dir.path().join("bob.conf"), format!("name = bob\nkey = {}\n", key())).unwrap();
    assert_eq!(check_key_is_new(dir.path(), "alice", &key()).unwrap_err().code, 64);
    assert!(check_key_is_new(dir.path(), "bob", &key()).is_ok());
}

#[test]
fn names_that_could_leave_the_folder_are_refused() {
    for name in ["", "../x", "a/b", ".hidden", "-x", "a b", "é", &"a".repeat(65)] {
        assert!(check_name(name).is_err(), "{name}");
    }
    assert!(check_name("alice.smith_2-x").is_ok());
}

#[test]
fn lists_are_any_or_uids() {
    for text in ["any", "0", "1001,1002"] {
        assert!(check_list("--run-as", text).is_ok(), "{text}");
    }
    for text in ["", "root", "1,", "-1", "+1", "4294967295", "1, 2", "any,1"] {
        assert!(check_list("--run-as", text).is_err(), "{text}");
    }
}

#[test]
fn requesters_are_read_from_the_configuration_beside() {
    let dir = tempfile::tempdir().unwrap();
    let approvers = dir.path().join("approvers.d");
    assert!(requesters_beside(&approvers).is_empty());
    fs::write(dir.path().join("execd.conf"), "host = x\nrequesters = 1001, 1002\n").unwrap();
    assert_eq!(requesters_beside(&approvers), [1001, 1002]);
}

#[test]
fn a_requester_is_never_enrolled() {
    if olb_sys::harden::effective_uid() != 0 {
        eprintln!("skipped: enrolling is for root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let approvers = dir.path().join("approvers.d");
    fs::create_dir(&approvers).unwrap();
    fs::write(dir.path().join("execd.conf"), "requesters = 0\n").unwrap();
    assert_eq!(enroll(&args(&approvers)).err().unwrap().name, "self_approval");
    fs::write(dir.path().join("execd.conf"), "requesters = 1001\n").unwrap();
    assert_eq!(enroll(&args(&approvers)).ok().unwrap().key, key());
    assert!(approvers.join("alice.conf").exists());
}
