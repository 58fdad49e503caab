use super::*;

/// Command lines, what sudo 1.9.13p3 was observed to do with them, and what they are here.
const TABLE: &str = include_str!("observed.txt");

/// Words of a line: separated by one space each, `'...'` for a word with something odd in it.
fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut words, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap(),
            None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        words.push(word.into());
        rest = behind.strip_prefix(' ').unwrap_or(behind);
    }
    words
}

fn line(words: &[Vec<u8>]) -> String {
    let plain = |letter: char| letter.is_ascii_graphic() && !"#$|'".contains(letter);
    let quoted = |word: &Vec<u8>| {
        let word = String::from_utf8(word.clone()).unwrap();
        if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{word}'") }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn kind(invocation: &Invocation) -> &'static str {
    match invocation {
        Invocation::Run(_) => "run",
        Invocation::Shell(_) => "shell",
        Invocation::Edit(_) => "edit",
        Invocation::Probe(_) => "probe",
        Invocation::ResetTimestamp | Invocation::RemoveTimestamp => "done",
        Invocation::Version | Invocation::Help => "text",
    }
}

fn outcome(typed: &[Vec<u8>]) -> String {
    match parse(typed) {
        Ok(invocation) => format!("{}: {}", kind(&invocation), line(&invocation.to_words())),
        Err(refusal) => format!("no: {refusal}"),
    }
}

/// Words, what sudo did, what happens here.
fn rows() -> impl Iterator<Item = [&'static str; 3]> {
    let rows = TABLE.lines().filter(|row| !row.starts_with('#'));
    rows.map(|row| row.split(" | ").collect::<Vec<_>>().try_into().expect(row))
}

fn accepted() -> impl Iterator<Item = (&'static str, Invocation)> {
    rows().filter_map(|[typed, ..]| parse(&words(typed)).ok().map(|one| (typed, one)))
}

fn refusal(typed: &str) -> String {
    parse(&words(typed)).unwrap_err().to_string()
}

#[test]
fn every_observed_command_line_is_what_the_table_says() {
    assert!(rows().count() > 300);
    for [typed, _, expected] in rows() {
        assert_eq!(outcome(&words(typed)), expected, "{typed}");
    }
}

#[test]
fn what_sudo_refuses_is_refused() {
    let mut refused = 0;
    for [typed, sudo, _] in rows() {
        match sudo {
            "refused" => assert!(parse(&words(typed)).is_err(), "{typed}"),
            "taken" | "lookup" => continue,
            other => panic!("{typed}: {other}"),
        }
        refused += 1;
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn the_one_spelling_parses_back_to_the_same_value() {
    assert!(accepted().count() > 150);
    for (typed, invocation) in accepted() {
        let canonical = invocation.to_words();
        assert_eq!(parse(&canonical).as_ref(), Ok(&invocation), "{typed}");
    }
}

#[test]
fn a_command_and_its_arguments_are_never_touched() {
    for (typed, invocation) in accepted() {
        let command = match invocation {
            Invocation::Run(Run { command, .. })
            | Invocation::Shell(Shell { command, .. })
            | Invocation::Probe(Probe::List(Listing { command, .. }))
            | Invocation::Probe(Probe::Nothing(Run { command, .. })) => command,
            Invocation::Edit(Edit { files, .. }) => files,
            Invocation::Probe(Probe::Validate(_))
            | Invocation::ResetTimestamp
            | Invocation::RemoveTimestamp
            | Invocation::Version
            | Invocation::Help => Vec::new(),
        };
        assert!(words(typed).ends_with(&command), "{typed}");
    }
}

#[test]
fn words_of_any_bytes_reach_the_command_and_the_values_as_they_are() {
    let typed: [&[u8]; 6] = [b"-p\xff", b"-D/\xfe", b"X=\xfd\n", b"\xfc", b"", b"-n\x01"];
    let Ok(Invocation::Run(run)) = parse(&typed) else { panic!("a command") };
    assert_eq!(run.options.prompt.as_deref(), Some(&b"\xff"[..]));
    assert_eq!(run.surroundings.chdir.as_deref(), Some(&b"/\xfe"[..]));
    assert_eq!(run.surroundings.assignments[0].value, b"\xfd\n");
    assert_eq!(run.command, [&b"\xfc"[..], b"", b"-n\x01"]);
    assert!(run.options.accepted.is_empty());
}

#[test]
fn what_a_refusal_repeats_is_short_and_printable() {
    let odd = format!("--\u{1b}[2J\u{202e}{}", "x".repeat(200)).into_bytes();
    let one_line = |text: &str| {
        assert!(text.len() < 200, "{text}");
        assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{text}");
    };
    one_line(&parse(&[odd]).unwrap_err().to_string());
    let long = [b"A".repeat(3000), b"=1".to_vec()].concat();
    one_line(&parse(&[&long, &long, &b"id".to_vec()]).unwrap_err().to_string());
    for [typed, ..] in rows() {
        if let Err(refusal) = parse(&words(typed)) {
            one_line(&refusal.to_string());
        }
    }
}

#[test]
fn more_than_a_request_can_hold_is_refused_before_it_is_read() {
    let many = vec![b"-x"; WORDS_MAX];
    assert!(matches!(parse(&many), Err(Refusal::Unknown { .. })));
    assert_eq!(parse(&vec![b"-x"; WORDS_MAX + 1]), Err(Refusal::Long));
    let long = [vec![b'a'; BYTES_MAX]];
    assert!(matches!(parse(&long), Ok(Invocation::Run(_))));
    assert_eq!(parse(&[&long[0][..], b"a"]), Err(Refusal::Long));
}

#[test]
fn a_nul_byte_is_refused_wherever_it_is() {
    for typed in [&[&b"a"[..], b"\0"][..], &[b"X=\0", b"a"], &[b"-u\0", b"a"]] {
        assert_eq!(parse(typed), Err(Refusal::Nul));
    }
}

#[test]
fn a_shell_and_an_editor_are_understood_and_said_to_be_unsupported() {
    let said = |typed: &str| parse(&words(typed)).unwrap().unsupported().map(|why| why.to_string());
    let shell =
        "'sudo -i' opens a shell that no human can review; ask for the one command you need";
    assert_eq!(said("-i").as_deref(), Some(shell));
    assert_eq!(said("-nu nobody -i"), said("--login"));
    assert!(said("-s systemctl restart nginx").unwrap().contains("leave '-s' out"));
    assert!(said("-e /etc/hosts").unwrap().contains("sudo tee FILE"));
    for typed in ["true", "-n true", "-l", "-v", "-k", "-K", "-V", "-h"] {
        assert_eq!(said(typed), None, "{typed}");
    }
}

#[test]
fn only_a_bare_true_without_a_prompt_is_a_probe() {
    for typed in ["-n true", "-n /bin/true", "-nu nobody -- true"] {
        let probe = matches!(parse(&words(typed)), Ok(Invocation::Probe(Probe::Nothing(_))));
        assert!(probe, "{typed}");
    }
    for typed in ["true", "-n true x", "-n ./true", "-n /tmp/true", "-n -s true", "-n id"] {
        assert!(!matches!(parse(&words(typed)), Ok(Invocation::Probe(_))), "{typed}");
    }
}

#[test]
fn a_password_on_standard_input_is_said_so() {
    let Ok(Invocation::Run(run)) = parse(&words("-S tee /etc/motd")) else { panic!("a command") };
    assert!(run.options.accepted.contains(&Accepted::PasswordOnStdin));
}

#[test]
fn dashes_are_never_a_value_and_the_end_of_the_options_at_once() {
    // sudo takes -- for the prompt, and then X=1 for the command.
    assert_eq!(refusal("-p -- X=1 probe"), "'-p' needs a value; type '-p PROMPT'");
    let attached = parse(&words("-p-- X=1 probe")).unwrap();
    assert_eq!(line(&attached.to_words()), "--prompt=-- X=1 -- probe");
}
