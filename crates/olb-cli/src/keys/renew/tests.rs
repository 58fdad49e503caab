use olb_exec_api::Enrolment;

use super::*;
use crate::testing;

fn info(enrolled: &[&PublicKey<Approver>]) -> Info {
    let one = |key: &&PublicKey<Approver>| Enrolment {
        name: "me".into(),
        uid: olb_sys::harden::effective_uid(),
        key: *key.as_bytes(),
        kid: key.kid(),
        lease_lifetime_secs: 900,
    };
    Info { enrolments: enrolled.iter().map(one).collect(), ..testing::info() }
}

fn files(dir: &Path) -> Files {
    let files = Files::of(dir.join("approver.key"));
    let (seed, _) = seed::fresh::<Approver>().unwrap();
    write_new_private(&files.key, &seed::to_hex(&seed), 0o600).unwrap();
    files
}

fn public(path: &Path) -> Option<PublicKey<Approver>> {
    read(path).unwrap().map(|key| key.public().clone())
}

fn hex(path: &Path) -> Option<String> {
    public(path).map(|key| key.hex())
}

#[test]
fn a_new_key_takes_over_when_it_is_enrolled_and_the_old_one_goes_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let old = public(&files.key).unwrap();
    let begun = files.begin().unwrap();
    let new = begun.new.clone();
    assert_eq!(hex(&files.key), Some(old.hex()), "the old one goes on");
    assert_eq!(files.begin().unwrap().new.hex(), new.hex(), "asked again, the same one");
    assert!(begun.text().contains(&format!("--replaces {} --key {}", old.kid().hex(), new.hex())));

    assert_eq!(files.finish(&info(&[&old])).unwrap_err().name, "not_enrolled");
    assert_eq!(hex(&files.key), Some(old.hex()));
    let mut of_another = info(&[&new]);
    of_another.enrolments[0].uid += 1;
    assert_eq!(files.finish(&of_another).unwrap_err().name, "not_enrolled", "not as ours");
    assert_eq!(hex(&files.key), Some(old.hex()));
    files.finish(&info(&[&new])).unwrap();
    assert_eq!((hex(&files.key), hex(&files.old)), (Some(new.hex()), Some(old.hex())));
    assert_eq!(hex(&files.new), None);
    assert_eq!(files.finish(&info(&[&new])).unwrap_err().code, 64, "nothing waits");

    assert_eq!(files.begin().unwrap_err().name, "old_key_kept", "never a third one");
    assert_eq!(files.forget(&info(&[&old, &new])).unwrap_err().name, "old_key_kept");
    for _ in 0..2 {
        files.forget(&info(&[&new])).unwrap();
        assert_eq!((hex(&files.key), hex(&files.old)), (Some(new.hex()), None));
    }
}

#[test]
fn what_was_interrupted_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let old = public(&files.key).unwrap();
    let new = files.begin().unwrap().new;
    fs::hard_link(&files.key, &files.old).unwrap();
    assert_eq!(hex(&files.key), Some(old.hex()));
    assert_eq!(files.begin().unwrap().new.hex(), new.hex());
    assert_eq!(files.forget(&info(&[&new])).unwrap_err().code, 64, "it is the only one in use");
    files.finish(&info(&[&new])).unwrap();
    assert_eq!((hex(&files.key), hex(&files.old)), (Some(new.hex()), Some(old.hex())));
}

#[test]
fn an_older_key_that_is_kept_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let new = files.begin().unwrap().new;
    let (seed, kept) = seed::fresh::<Approver>().unwrap();
    write_new_private(&files.old, &seed::to_hex(&seed), 0o600).unwrap();
    let before = hex(&files.key);
    assert_eq!(files.finish(&info(&[&new])).unwrap_err().name, "old_key_kept");
    assert_eq!((hex(&files.key), hex(&files.old)), (before, Some(kept.public().hex())));
}

#[test]
fn without_a_key_there_is_nothing_to_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::of(dir.path().join("approver.key"));
    assert_eq!(files.begin().unwrap_err().name, "no_key");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
