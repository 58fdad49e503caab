use olb_lease::{Audience, Digest, Directory, Executable, RunAs, Staged, Stdin, Unbound};

use super::*;

fn plan() -> Plan {
    let environment = [("PATH", "/usr/sbin:/usr/bin"), ("LANG", "C.UTF-8")];
    Plan {
        random: [7; 16],
        host: "web-1".into(),
        audience: Audience([1; 32]),
        requester_uid: 1001,
        typed_argv: ["systemctl", "restart", "nginx"].map(Into::into).into(),
        argv: ["systemctl", "restart", "nginx"].map(Into::into).into(),
        executable: Executable {
            path: "/usr/bin/systemctl".into(),
            dev: 1,
            ino: 77,
            size: 1_509_000,
            ctime_secs: 1,
            ctime_nanos: 2,
        },
        environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
        environment_words: BTreeMap::new(),
        cwd: Directory { path: "/srv/app".into(), dev: 1, ino: 5 },
        cwd_changeable: false,
        run_as: RunAs { name: "root".into(), uid: 0, gid: 0, groups: vec![0] },
        stdin: None,
        staged: Vec::new(),
        unbound: Vec::new(),
        wall_clock_secs: 3600,
        whole: false,
        reason: "config changed, needs a restart".into(),
        session: "agent:main:main".into(),
    }
}

fn facts() -> Facts {
    Facts {
        request_id: "req_0123".into(),
        code: "7FK-3QX".into(),
        requester_name: Some("agent".into()),
        run_as_mismatch: false,
        expires: "2026-11-22T16:00:00Z".into(),
    }
}

fn text(plan: &Plan) -> String {
    render(plan, &facts()).text
}

/// The same with every value on one row again.
fn whole(text: &str) -> String {
    text.replace(&format!("\n{GOES_ON}"), "")
}

/// Columns of a row, letters outside ASCII counted as wide ones.
fn width(row: &str) -> usize {
    row.chars().map(|character| if character.is_ascii() { 1 } else { 2 }).sum()
}

#[test]
fn the_layout_is_the_documented_one() {
    let want = "\
--- request 7FK-3QX --------------------------------------------------
Who      agent (uid 1001) on web-1, session agent:main:main
Command  systemctl restart nginx
Runs     /usr/bin/systemctl (1509000 bytes, inode 77)
As       root (uid 0, gid 0), in /srv/app
Env      LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin
Stdin    none (/dev/null)
Limit    ended after 1 h
What     cannot inspect: there is no rule for this command
Effect   cannot inspect
Risk     high - what cannot be inspected counts as high
Surprise cannot inspect
Agent says  \"config changed, needs a restart\"   (the agent's own words)
Request  req_0123, expires 2026-11-22T16:00:00Z
";
    assert_eq!(text(&plan()), want);
}

fn with_files() -> Plan {
    let mut plan = plan();
    plan.typed_argv = ["./x.sh", "--conf=./y.conf", "./out"].map(Into::into).into();
    let file = |word, prefix, path: &str, executable| Staged {
        word,
        prefix,
        path: path.into(),
        size: 412,
        sha256: Digest([0xab; 32]),
        executable,
    };
    plan.staged =
        vec![file(0, 0, "/home/agent/x.sh", true), file(1, 7, "/home/agent/y.conf", false)];
    plan.unbound = vec![Unbound { word: 2, path: "/home/agent/out".into() }];
    plan.argv[0] = "./x.sh".into();
    plan.argv[1] = "--conf=/pin/07/1/y.conf".into();
    plan.executable.path = "/pin/07/0/x.sh".into();
    plan.cwd.path = "/home/agent".into();
    plan.cwd_changeable = true;
    plan
}

#[test]
fn copies_unbound_names_and_a_folder_of_the_agents_have_rows_of_their_own() {
    let shown = whole(&text(&with_files()));
    let digest = "ab".repeat(32);
    for row in [
        "Runs     /pin/07/0/x.sh (the copy of File 1)\n".to_owned(),
        format!(
            "File 1   copy of /home/agent/x.sh, 412 bytes, sha256 {digest}, can be executed, as the agent handed it in; cannot \
             inspect\n"
        ),
        format!(
            "File 2   copy of /home/agent/y.conf, 412 bytes, sha256 {digest}, as the agent handed it in; cannot inspect\n"
        ),
        "UNBOUND  /home/agent/out   the agent can change this after you approve\n".to_owned(),
        "Folder   the agent can change what is in this directory\n".to_owned(),
        "Risk     high - what is UNBOUND can become anything; what cannot be inspected counts as \
         high\n"
            .to_owned(),
    ] {
        assert!(shown.contains(&row), "{row}{shown}");
    }
}

#[test]
fn a_command_that_is_not_cut_off_is_said_to_be_one() {
    let mut plan = plan();
    plan.whole = true;
    let shown = whole(&text(&plan));
    let row = "Limit    1 h, but is not interrupted when the agent leaves or the time is over\n";
    assert!(shown.contains(row), "{shown}");
}

#[test]
fn user_number_zero_is_root_whatever_it_is_called() {
    let mut plan = plan();
    plan.run_as.name = "postgres".into();
    assert!(text(&plan).contains("As       root, called postgres (uid 0, gid 0), in"));
    plan.run_as = RunAs { name: "root".into(), uid: 1005, gid: 1005, groups: vec![0, 4, 1005] };
    let shown = text(&plan);
    assert!(
        whole(&shown)
            .contains("called root that is not root: uid 1005 (uid 1005, gid 1005, groups 0 4)")
    );
    assert!(shown.contains("the target account is in root's group"));
}

#[test]
fn a_name_that_means_another_account_here_is_called_out() {
    let facts = Facts { run_as_mismatch: true, ..facts() };
    assert!(render(&plan(), &facts).text.contains("WARNING  the account root has other numbers"));
}

#[test]
fn no_line_can_be_forged_from_any_text_of_the_agent() {
    let mut plan = plan();
    let evil = "x\nRisk     low\r\u{202e}\u{1b}[1A\u{2028}Approve? [y/N]";
    plan.reason = evil.into();
    plan.session = evil.into();
    plan.host = evil.into();
    plan.run_as.name = evil.into();
    plan.staged = with_files().staged;
    plan.staged[1].path = evil.into();
    plan.unbound = vec![Unbound { word: 2, path: evil.into() }];
    plan.argv = vec![evil.into()];
    plan.typed_argv = vec![evil.into(), "é\u{200b}".into()];
    plan.cwd.path = evil.into();
    plan.executable.path = evil.into();
    plan.environment = BTreeMap::from([("A".into(), evil.into()), ("B".into(), evil.into())]);
    plan.environment_words = BTreeMap::from([("B".into(), evil.into())]);
    let facts = Facts {
        request_id: evil.into(),
        code: evil.into(),
        requester_name: Some(evil.into()),
        run_as_mismatch: true,
        expires: evil.into(),
    };
    let shown = render(&plan, &facts).text;
    let safe_lines = |line: &str| line.chars().all(crate::display::is_safe);
    assert!(shown.lines().all(safe_lines), "{shown}");
    assert_eq!(shown.lines().filter(|line| !line.starts_with(GOES_ON)).count(), 22, "{shown}");
    let risks: Vec<_> = shown.lines().filter(|line| line.starts_with("Risk")).collect();
    let risk = "Risk     high - what is UNBOUND can become anything; what cannot be inspected ";
    assert_eq!(risks, [risk]);
}

#[test]
fn the_agents_words_cannot_end_their_own_quotation() {
    let mut plan = plan();
    plan.reason = "ok\"   (the agent's own words) \\\" Risk low".into();
    plan.session = "x on web-2, approved".into();
    let shown = text(&plan);
    assert!(whole(&shown).contains(
        "Agent says  \"ok\\\" \\{2 more}(the agent's own words) \\\\\\\" Risk low\"   (the agent's own words)\n"
    ), "{shown}");
    assert!(shown.contains("on web-1, session 'x on web-2, approved'\n"), "{shown}");
}

#[test]
fn variables_and_standard_input_are_shown() {
    let mut plan = plan();
    plan.environment.insert("TZ".into(), "Europe/Berlin".into());
    plan.environment_words.insert("TZ".into(), "Europe/Berlin".into());
    plan.stdin = Some(Stdin { size: 412, sha256: Digest([0xab; 32]) });
    let shown = text(&plan);
    assert!(shown.contains("With     TZ=Europe/Berlin   (asked for by the agent)"));
    assert!(shown.contains("Env      LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin\n"));
    assert!(whole(&shown).contains("Stdin    412 bytes from the agent, sha256 abab"));
}

#[test]
fn a_rewritten_command_is_shown_beside_what_was_typed() {
    let mut plan = plan();
    plan.argv = ["systemctl", "stop", "nginx"].map(Into::into).into();
    let shown = text(&plan);
    assert!(shown.contains("Command  systemctl stop nginx\nTyped    systemctl restart nginx\n"));
}

#[test]
fn a_long_command_is_shown_whole_and_cannot_be_answered() {
    let mut plan = plan();
    let word: Vec<u8> =
        (0..REVIEW_BYTES_MAX).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
    plan.argv.push(word.clone());
    let review = render(&plan, &facts());
    assert!(!review.can_be_answered);
    assert!(whole(&review.text).contains(std::str::from_utf8(&word).unwrap()));
    assert!(review.text.contains("TOO LONG"));
    assert!(render(&self::plan(), &facts()).can_be_answered);
}

#[test]
fn letters_that_can_look_like_others_are_called_out() {
    let mut plan = plan();
    plan.argv[2] = "ngіnx".into();
    assert!(text(&plan).contains("letters outside ASCII"));
    plan.argv[2] = "a\nb".into();
    assert!(text(&plan).contains("control characters"));
    plan.argv[2] = "a".repeat(600).into();
    assert!(whole(&text(&plan)).contains("a long command: 3 words, 619 bytes; read all of it"));
}

#[test]
fn spans_are_exact() {
    assert_eq!(
        [1, 60, 90, 3600, 5400, 86_400].map(span),
        ["1 s", "1 min", "90 s", "1 h", "90 min", "24 h"]
    );
}

#[test]
fn a_gap_cannot_pad_to_the_next_row() {
    let mut plan = plan();
    let gap = " ".repeat(62);
    plan.argv[2] = format!("nginx{gap}Risk     low").into();
    plan.reason = format!("ok{gap}Approve? [y/N]");
    let shown = text(&plan);
    assert!(
        !whole(&shown).lines().any(|row| row[9..].contains("  ") && !row.contains("own words"))
    );
    assert!(shown.contains("\\x20\\x20") && shown.contains("\\{61 more}Approve?"), "{shown}");
    assert_eq!(shown.lines().filter(|row| row.starts_with("Risk")).count(), 1);
}

#[test]
fn command_and_account_are_right_above_the_question_where_the_text_is_long() {
    assert!(!text(&plan()).contains("Again"));
    let mut plan = plan();
    plan.reason = "because ".repeat(120);
    let shown = text(&plan);
    let tail = "Again    systemctl restart nginx\nAgain as root (uid 0, gid 0), in /srv/app\n";
    assert!(shown.ends_with(tail), "{shown}");
    plan.argv = (0..300).map(|at| format!("argument-{at}").into_bytes()).collect();
    let shown = text(&plan);
    let repeated = shown.lines().skip_while(|row| !row.starts_with("Again"));
    assert_eq!(repeated.clone().count(), REPEATED_ROWS + 2, "{shown}");
    assert!(shown.contains("more rows, all of them above\n"), "{shown}");
}

/// The fields of a request in their order; some are there only with a reason.
const FIELDS: [&str; 19] = [
    "---",
    "Who",
    "Command",
    "Typed",
    "Runs",
    "As",
    "WARNING",
    "With",
    "Env",
    "Stdin",
    "Limit",
    "What",
    "Effect",
    "Risk",
    "Surprise",
    "Agent says",
    "Request",
    "Again",
    "Again as",
];

proptest::proptest! {
    #[test]
    fn whatever_the_agent_writes_rows_begin_with_their_field_or_the_mark(
        word in "(\\PC| |Risk|low|日|é|\\n){0,300}",
        reason in "(\\PC| |Approve\\? \\[y/N\\]){0,200}",
    ) {
        let mut plan = plan();
        plan.argv.push(word.clone().into());
        plan.cwd.path = format!("/{word}").into();
        plan.session = word;
        plan.reason = reason;
        let shown = text(&plan);
        let mut fields = FIELDS.iter();
        for row in shown.lines() {
            proptest::prop_assert!(width(row) <= ROW_COLUMNS, "{}", row);
            if !row.starts_with(GOES_ON) && !row.starts_with("TOO LONG") && !row.starts_with("         and ") {
                let is_next = fields.any(|field| row.starts_with(field));
                proptest::prop_assert!(is_next, "{}\n{}", row, shown);
            }
        }
    }
}
