//! Files of the agent's own, from the command line to the command: what was approved runs, whatever
//! becomes of the file; what cannot be bound is said to be so.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use olb_e2e_tests::{APPROVED, Home, OTHER, Options, ROOMY, THIRD, Way, swapping};
use olb_lease::sha256;

#[test]
fn what_was_approved_runs_though_the_file_is_swapped_in_a_tight_loop() {
    let home = Home::start();
    fs::create_dir(home.path("folder")).unwrap();
    home.own("folder", 0o755);
    for round in 0..20 {
        home.write("folder/x.sh", APPROVED);
        let (run, id) = home.waiting(&["sh", "folder/x.sh"]);
        let output = swapping(&home, "folder/x.sh", Way::Any, || {
            home.approve(&id);
            run.wait_with_output().unwrap()
        });
        let output = (output.status.code(), String::from_utf8(output.stdout).unwrap());
        assert_eq!(output, (Some(0), "approved\n".into()), "round {round}");
    }
    home.nothing_is_left();
}

#[test]
fn what_was_read_in_the_middle_of_a_swap_is_what_is_shown_and_what_runs() {
    let home = Home::with(Options { brokerd: ROOMY.into(), ..Options::default() });
    home.write("x.sh", APPROVED);
    let command = ["sh", "./x.sh"];
    let (mut ran, mut refused) = (0, 0);
    swapping(&home, "x.sh", Way::Seamless, || {
        for _ in 0..100 {
            let asked = home.olb(&[&["request", "--json", "--"], &command[..]].concat());
            if asked.code == 64 {
                assert!(asked.json()["message"].as_str().unwrap().contains("x.sh"), "{asked:?}");
                refused += 1;
                continue;
            }
            let asked = asked.expect(75).json();
            let id = asked["request_id"].as_str().unwrap();
            let files = asked["files"].as_array().unwrap();
            if let Some(file) = files.first() {
                home.approve(id);
                let done = home.olb(&["exec", "--id", id]);
                let content = file["sha256"].as_str().unwrap();
                let of = |text: &str| olb_lease::Digest(sha256(text.as_bytes())).hex();
                let want =
                    [("", ""), (OTHER, "other\n"), (APPROVED, "approved\n"), (THIRD, "third\n")];
                let want = want.into_iter().find(|(text, _)| of(text) == content);
                assert_eq!(Some(done.expect(0).stdout.as_str()), want.map(|(_, output)| output));
                ran += 1;
            } else {
                // Between two looks it was another file each time: then its name is called unbound.
                assert_eq!(asked["unbound"].as_array().unwrap().len(), 1, "{asked}");
                home.olb(&["cancel", id]).expect(0);
            }
        }
    });
    println!("{ran} ran, {refused} were refused because the file changed");
    assert!(ran > 0);
}

#[test]
fn the_human_sees_what_is_copied_from_where_and_what_runs() {
    let home = Home::start();
    home.write("x.sh", APPROVED);
    let shown = home.shown(&home.ask(&["sh", "./x.sh"]));
    let (path, digest) = (home.path("x.sh"), olb_lease::Digest(sha256(APPROVED.as_bytes())).hex());
    let pin = home.instance.path("pin");
    for part in [
        format!("Command  sh {}/", pin.display()),
        "Typed    sh ./x.sh\n".into(),
        format!("File 1   copy of {}, {} bytes, sha256 {digest}", path.display(), APPROVED.len()),
        "Folder   the agent can change what is in this directory\n".into(),
    ] {
        assert!(shown.contains(&part), "{part}\n{shown}");
    }
}

#[test]
fn a_program_of_the_agents_own_runs_as_it_was_approved() {
    let home = Home::start();
    home.write("tool", "#!/bin/sh\necho \"$1\" as \"$(id -u)\"\n");
    home.own("tool", 0o755);
    let ran = home.done(&["./tool", "hello"]).expect(0);
    assert_eq!(ran.stdout, "hello as 0\n");
    home.nothing_is_left();
}

#[test]
fn what_is_copied_into_the_system_is_what_was_approved() {
    let home = Home::start();
    home.write("site.conf", "approved");
    let target = home.instance.work().join("site.conf");
    let command = ["cp", "./site.conf", target.to_str().unwrap()];
    let (run, id) = home.waiting(&command);
    home.write("site.conf", "other");
    home.approve(&id);
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(fs::read_to_string(&target).unwrap(), "approved");
    assert_eq!(fs::metadata(&target).unwrap().uid(), 0);
}

#[test]
fn a_package_is_installed_as_it_was_approved_and_is_not_cut_off() {
    let home = Home::start();
    for folder in ["deb", "deb/DEBIAN", "deb/opt"] {
        fs::create_dir(home.path(folder)).unwrap();
    }
    let control = "Package: olb-test\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.example>\n\
                   Description: a test\n";
    home.write("deb/DEBIAN/control", control);
    home.write("deb/opt/olb-test", "approved");
    let build = |name: &str| {
        let words = ["--root-owner-group", "--build", "deb", name];
        let mut build = std::process::Command::new("dpkg-deb");
        assert!(build.args(words).current_dir(home.path("")).output().unwrap().status.success());
        home.own(name, 0o644);
    };
    build("x.deb");
    let root = home.instance.work().join("root");
    for folder in
        ["", "var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/updates"]
    {
        fs::create_dir(root.join(folder)).unwrap();
    }
    for name in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(name), "").unwrap();
    }
    let to = format!("--root={}", root.display());
    let (run, id) = home.waiting(&["dpkg", &to, "--log=/dev/null", "-i", "./x.deb"]);
    let shown = home.shown(&id);
    assert!(shown.contains("is not interrupted when the agent leaves"), "{shown}");
    home.write("deb/opt/olb-test", "other");
    build("x.deb");
    home.approve(&id);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(root.join("opt/olb-test")).unwrap(), "approved");
}

#[test]
fn names_behind_an_option_or_an_at_sign_are_copied_too_also_by_rules_of_the_administrators() {
    let home = Home::start();
    let rules = home.instance.path("operands.d");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("site.rules"), "printf | @:read --file:read\n").unwrap();
    home.write("pattern", "needle\n");
    home.write("text", "hay\nneedle\n");
    for pattern in ["--file=./pattern", "-fpattern", "-f./pattern"] {
        let ran = home.done(&["grep", pattern, "text"]).expect(0);
        assert_eq!(ran.stdout, "needle\n", "{pattern}");
    }
    let ran = home.done(&["printf", "%s\n", "--file=text"]).expect(0);
    let pin = home.instance.path("pin").display().to_string();
    assert!(ran.stdout.starts_with(&format!("--file={pin}/")), "{ran:?}");
    // A folder called @ would be theirs to make.
    let told = home.olb(&["request", "--", "printf", "%s", "@./text"]).expect(64).stderr;
    assert!(told.contains("ask from one that only root can change"), "{told}");
    let word = format!("@{}", home.path("text").display());
    let ran = home.olb(&["request", "--json", "-C", "/", "--", "printf", "%s", &word]);
    let id = ran.expect(75).json()["request_id"].as_str().unwrap().to_owned();
    home.approve(&id);
    let ran = home.olb(&["exec", "--id", &id, "-C", "/", "--", "printf", "%s", &word]).expect(0);
    assert!(
        ran.stdout.starts_with(&format!("@{pin}/")) && ran.stdout.ends_with("/0/text"),
        "{ran:?}"
    );
}

#[test]
fn a_retry_after_the_file_changed_is_refused_by_name_and_burns_nothing() {
    let home = Home::start();
    home.write("x.sh", APPROVED);
    let id = home.ask(&["sh", "./x.sh"]);
    home.approve(&id);
    let lease = home.olb(&["request", "--", "sh", "./x.sh"]).expect(0).stdout;
    let file = home.instance.lease_file(home.agent, &lease);
    let exec = ["exec", "--lease-file", &file, "--", "sh", "./x.sh"];
    for change in [OTHER, ""] {
        home.write("x.sh", change);
        let told = home.olb(&exec).expect(77).stderr;
        let sentence =
            format!("{} changed since it was approved; ask again", home.path("x.sh").display());
        assert!(told.contains(&sentence), "{told}");
    }
    fs::remove_file(home.path("x.sh")).unwrap();
    assert!(home.olb(&exec).expect(77).stderr.contains("changed since it was approved"));
    home.write("x.sh", OTHER);
    assert_ne!(home.ask(&["sh", "./x.sh"]), id, "another content is another request");
    home.write("x.sh", APPROVED);
    assert_eq!(home.olb(&exec).expect(0).stdout, "approved\n");
}

#[test]
fn a_name_that_is_written_to_is_shown_as_unbound_with_high_risk_and_runs() {
    let home = Home::start();
    let id = home.ask(&["touch", "./made"]);
    let shown = home.shown(&id);
    let row = format!(
        "UNBOUND  {}   the agent can change this after you approve\n",
        home.path("made").display()
    );
    assert!(shown.contains(&row) && shown.contains("Risk     high - what is UNBOUND"), "{shown}");
    // It is there by now, and somebody else's.
    home.write("made", "");
    home.approve(&id);
    home.olb(&["exec", "--id", &id, "--", "touch", "./made"]).expect(0);
}

#[test]
fn what_no_rule_knows_is_refused_until_it_is_listed_as_unbound() {
    let home = Home::start();
    home.write("data", "x");
    let told = home.olb(&["request", "--", "test", "-s", "./data"]).expect(64).stderr;
    assert!(told.contains("./data") && told.contains("--allow-unbound"), "{told}");
    let words = ["request", "--json", "--allow-unbound", "--", "test", "-s", "./data"];
    let id = home.olb(&words).expect(75).json()["request_id"].as_str().unwrap().to_owned();
    assert!(home.shown(&id).contains("UNBOUND  "));
    home.approve(&id);
    home.olb(&["exec", "--id", &id, "--", "test", "-s", "./data"]).expect(0);
}

//
