//! The root half is stopped, replaced and started again while an approved package manager is in the
//! middle of its work, as happens when the broker's own package is what is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use olb_e2e_tests::{Gate, Half, Recovery, Trail, wait_until};
use olb_lease::Outcome;

const CONTROL: &str = "Package: olb-test-package\nVersion: 1.0\nArchitecture: all\n\
     Maintainer: Tests <tests@example.com>\nDescription: waits while it is configured\n";

/// A package whose configuration runs `script`.
fn package(folder: &Path, script: &str) -> PathBuf {
    let (tree, file) = (folder.join("tree"), folder.join("test.deb"));
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::write(tree.join("DEBIAN/control"), CONTROL).unwrap();
    let postinst = tree.join("DEBIAN/postinst");
    fs::write(&postinst, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(&postinst, fs::Permissions::from_mode(0o755)).unwrap();
    let built = Command::new("dpkg-deb").arg("--build").arg(&tree).arg(&file).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    file
}

/// A root for packages of its own, so that the host's stay as they are.
fn package_root(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    for name in ["info", "updates", "triggers"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(name)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    root
}

fn installed(root: &Path) -> bool {
    let status = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    status.contains("Package: olb-test-package\nStatus: install ok installed\n")
}

/// Another file in the place of the program, as a package manager puts it there.
fn replace_program(at: &Recovery) {
    let program = at.instance.path("bin/olb-execd");
    let new = at.instance.path("bin/olb-execd.dpkg-new");
    fs::copy(&program, &new).unwrap();
    fs::rename(&new, &program).unwrap();
}

#[test]
fn a_root_half_that_is_upgraded_under_a_package_manager_lets_it_end_and_knows_its_code() {
    let mut at = Recovery::start();
    let gate = Gate::new(&at.instance);
    let folder = at.instance.work();
    let (deb, root) = (package(&folder, &gate.script()), package_root(&folder));
    let command = [
        "dpkg".to_owned(),
        format!("--root={}", root.display()),
        "--force-script-chrootless".to_owned(),
        "-i".to_owned(),
        deb.display().to_string(),
    ];
    let id = at.approved(&command);
    let (other, other_file) = at.command();
    let other_id = at.approved(&other);
    let client = gate.start_within(&at, &id, &command);

    let old = at.instance.execd_pid();
    let told = Command::new("kill").args(["-s", "TERM", &old.to_string()]).status();
    assert!(told.unwrap().success());
    wait_until("it has heard", || at.instance.read_log("execd").contains("stopping"));
    replace_program(&at);
    assert_eq!(at.exec(&other_id, &other).code, 69, "nothing new begins");
    let second = at.instance.try_start(Half::Root).expect_err("the old one is still there");
    assert_eq!(second.code(), Some(69));

    gate.open();
    client.end().expect(0);
    assert!(installed(&root), "dpkg came to its end");
    assert_eq!(at.instance.stop(Half::Root, "CONT").and_then(|status| status.code()), Some(0));
    at.revive(Half::Root);
    assert_eq!(gate.story(), ["started", "ended"]);
    assert_eq!(Trail::read(&at.sock).fate(&id).outcome, Some(Outcome::Exited(0)));
    let result = at.olb(&["result", &id, "--json"], &[]).expect(0).json();
    assert_eq!((&result["state"], &result["exit_code"]), (&"exited".into(), &0.into()));
    at.ran_once(&other_id, &other, &other_file);
}
