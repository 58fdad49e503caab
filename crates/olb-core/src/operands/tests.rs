//! The built-in rules against a table of command lines, and the language against what people write.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const CASES: &str = include_str!("cases.txt");

/// A line of the table without its marks, and the marks.
struct Case {
    line: &'static str,
    argv: Vec<String>,
    operands: Vec<(usize, usize, char)>,
    whole: bool,
}

fn cases() -> Vec<Case> {
    let lines = CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(case).collect()
}

fn case(line: &'static str) -> Case {
    let (words, whole) = line.strip_suffix(" # whole").map_or((line, false), |line| (line, true));
    let (mut argv, mut operands) = (Vec::new(), vec![(0, 0, '<')]);
    for (at, word) in words.split(' ').enumerate() {
        let begins = word.find(['<', '[', '{']);
        let closed = word.ends_with(['>', ']', '}']) && word != "{print}";
        let Some(prefix) = begins.filter(|_| closed) else {
            argv.push(word.to_owned());
            continue;
        };
        argv.push(format!("{}{}", &word[..prefix], &word[prefix + 1..word.len() - 1]));
        if at > 0 {
            operands.push((at, prefix, word.as_bytes()[prefix].into()));
        }
    }
    Case { line, argv, operands, whole }
}

fn found(reading: &Reading<'_>) -> Vec<(usize, usize, char)> {
    let mark = |role: Role<'_>| match role {
        Role::Read => '<',
        Role::Named => '[',
        Role::Refused(_) => '{',
    };
    let operands = reading.operands.iter();
    operands.map(|operand| (operand.word, operand.prefix, mark(operand.role))).collect()
}

#[test]
fn the_built_in_rules_say_what_the_table_says() {
    let rules = Rules::built_in();
    let cases = cases();
    assert!(cases.len() > 250, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let reading = rules.examine(&case.argv);
        if found(&reading) != case.operands || reading.whole != case.whole {
            wrong.push(format!("{}\n  found {:?} {}", case.line, found(&reading), reading.whole));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_line_of_the_built_in_rules_is_hidden_behind_a_later_one() {
    let mut seen = BTreeSet::new();
    for rule in Rules::built_in().rules {
        for program in &rule.programs {
            let subcommands = match rule.subcommands.as_slice() {
                [] => vec![None],
                some => some.iter().cloned().map(Some).collect(),
            };
            for subcommand in subcommands {
                let key = format!("{program:?} {subcommand:?} {:?}", rule.conditions);
                assert!(seen.insert(key), "{program:?} {subcommand:?} is there twice");
            }
        }
    }
}

#[test]
fn a_refusal_says_what_to_do_instead() {
    let rules = Rules::built_in();
    let reading = rules.examine(&["systemctl", "link", "./x.service"]);
    let Role::Refused(advice) = reading.operands[1].role else { panic!("{reading:?}") };
    assert!(advice.contains("install(1)"), "{advice}");
}

fn rules(text: &str) -> Rules {
    let mut rules = Rules { rules: Vec::new() };
    rules.add("x.rules", text).unwrap();
    rules
}

fn roles(text: &str, line: &str) -> Vec<(usize, usize, char)> {
    let argv: Vec<&str> = line.split(' ').collect();
    found(&rules(text).examine(&argv))
}

#[test]
fn later_rules_win_over_earlier_ones_and_over_the_built_in() {
    let mut rules = Rules::built_in();
    rules.add("site.rules", "cat | all:named\n").unwrap();
    assert_eq!(found(&rules.examine(&["cat", "x"])), [(0, 0, '<'), (1, 0, '[')]);
    rules.add("zz.rules", "cat | all:read\n").unwrap();
    assert_eq!(found(&rules.examine(&["cat", "x"])), [(0, 0, '<'), (1, 0, '<')]);
    let text = "x > go | all:named\nx | all:read\n";
    assert_eq!(roles(text, "x go a"), [(0, 0, '<'), (1, 0, '<'), (2, 0, '<')]);
}

#[test]
fn a_rule_for_a_subcommand_has_the_options_of_its_program() {
    let text = "x | -f:read -o:named all:named\nx > go ? -q | -o:none first:read";
    assert_eq!(roles(text, "x -f a go -q -o b c d"), [(0, 0, '<'), (2, 0, '<'), (7, 0, '<')]);
    assert_eq!(roles(text, "x go c"), [(0, 0, '<'), (1, 0, '['), (2, 0, '[')]);
}

#[test]
fn a_word_that_may_be_no_name_is_said_to_be_one() {
    let rules = rules("x | first:named? rest:read/?");
    let reading = rules.examine(&["x", "list", "/srv"]);
    let doubtful: Vec<_> = reading.operands.iter().map(|one| one.may_be_no_name).collect();
    assert_eq!(doubtful, [false, true, true]);
    assert_eq!(found(&reading), [(0, 0, '<'), (1, 0, '['), (2, 0, '<')]);
}

#[test]
fn comments_and_empty_lines_are_passed_over() {
    assert_eq!(roles("\n# a | b | c | d\n  \n x | all:read \n", "x a").len(), 2);
}

#[test]
fn a_line_that_is_no_rule_is_named_with_file_and_number_and_adds_nothing() {
    for (line, problem) in [
        ("cp", Problem::Fields),
        ("cp | all:read | a | b", Problem::Fields),
        (" | all:read", Problem::NoProgram),
        ("> go | all:read", Problem::NoProgram),
        ("m*s | all:read", Problem::Star("m*s".into())),
        ("m** | all:read", Problem::Star("m**".into())),
        ("cp > | all:read", Problem::Condition),
        ("cp ? | all:read", Problem::Condition),
        ("cp > a > b | all:read", Problem::Condition),
        ("cp ? -a > b | all:read", Problem::Condition),
        ("cp ? a | all:read", Problem::NoOption("a".into())),
        ("cp | all:reed", Problem::Token("all:reed".into())),
        ("cp | hole", Problem::Token("hole".into())),
        ("cp | second:read", Problem::Token("second:read".into())),
        ("cp | command:x", Problem::Token("command:x".into())),
        ("cp | all:read!", Problem::Token("all:read!".into())),
        ("cp | all:flag", Problem::Token("all:flag".into())),
        ("cp | --a=b:read", Problem::Token("--a=b:read".into())),
        ("cp | all:refuse", Problem::NoAdvice),
        ("cp | -f:refuse/ |", Problem::NoAdvice),
    ] {
        let mut rules = rules("cat | all:read");
        let refused = rules.add("site.rules", &format!("a | all:named\n\n{line}\n")).unwrap_err();
        let want = RuleError { file: "site.rules".into(), line: 3, problem };
        assert_eq!(refused, want, "{line}");
        let text = refused.to_string();
        assert!(text.starts_with("site.rules, line 3: "), "{text}");
        assert_eq!(rules.rules.len(), 1, "{line}");
    }
}

#[test]
fn a_giant_file_is_refused() {
    let text = "#".repeat(RULES_BYTES_MAX + 1);
    let refused = Rules::built_in().add("x", &text).unwrap_err();
    assert_eq!(refused.problem, Problem::TooLong);
}

#[test]
fn files_count_in_the_order_of_their_names_and_a_bad_one_is_left_out() {
    let file = |name: &str, text: &[u8]| (name.to_owned(), text.to_vec());
    let (rules, errors) = Rules::with_files(vec![
        file("b.rules", b"frob | all:named"),
        file("c.rules", b"frob | all"),
        file("a.rules", b"frob | all:read"),
        file("d.rules", b"\xff"),
    ]);
    assert_eq!(found(&rules.examine(&["frob", "x"])), [(0, 0, '<'), (1, 0, '[')]);
    let named: Vec<_> = errors.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(named, ["c.rules", "d.rules"]);
}

#[test]
fn no_words_are_no_command() {
    assert_eq!(Rules::built_in().examine::<&[u8]>(&[]), Reading::default());
    assert_eq!(Rules::built_in().examine(&[""]), Reading::default());
}

#[test]
fn a_thousand_wrappers_are_looked_through() {
    let mut argv = vec!["env"; 1023];
    argv.push("./x");
    let rules = Rules::built_in();
    let last = rules.examine(&argv).operands.last().copied();
    let (role, may_be_no_name) = (Role::Read, false);
    assert_eq!(last, Some(Operand { word: 1023, prefix: 0, role, may_be_no_name }));
}

/// Words that mean something to some rule, and others.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let known = "sh cp tar env timeout nice xargs dd apt install dpkg -i -f -x -c -- - --file \
                 --file=x @x -d@x if=a of= xzf -xzf -C a=b ./x 5 systemctl link curl -F a=@b sed -i -e";
    let known: Vec<_> = known.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    prop_oneof![
        4 => proptest::sample::select(known),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn whatever_is_typed_every_operand_is_a_part_of_a_word(
        argv in proptest::collection::vec(word(), 0..16),
    ) {
        let rules = Rules::built_in();
        let reading = rules.examine(&argv);
        prop_assert!(reading.operands.is_sorted_by(|a, b| a.word < b.word));
        for operand in reading.operands {
            prop_assert!(argv.get(operand.word).is_some_and(|word| operand.prefix < word.len()));
        }
    }

    #[test]
    fn whatever_a_file_says_it_is_read_or_refused_with_its_line(text in "[a-z*|>?:/!@= \n-]{0,80}") {
        let mut rules = Rules::built_in();
        let before = rules.rules.len();
        match rules.add("x", &text) {
            Ok(()) => drop(rules.examine(&["a", "-b", "c"])),
            Err(error) => {
                prop_assert!((1..=text.lines().count()).contains(&error.line));
                prop_assert_eq!(rules.rules.len(), before);
            }
        }
    }
}
