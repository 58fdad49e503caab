//! Command lines of sudo, as agents type them.

mod getopt;

use std::collections::BTreeSet;

use olb_core::sudo::{BYTES_MAX, Invocation, Listing, Probe, Refusal, Run, WORDS_MAX, parse};
use olb_review::display::is_safe;

use getopt::Reading;

/// A sentence fits into a few rows of a terminal.
const SENTENCE_BYTES_MAX: usize = 240;
/// What would be read as options and variables, were anything behind the command's name read.
const LURES: [&[u8]; 5] = [b"-u", b"nobody", b"-E", b"LURE=1", b"--"];

/// Words that end with a NUL byte each, as in `/proc/PID/cmdline`; the last one may lack it.
fn words(data: &[u8]) -> Vec<&[u8]> {
    let data = data.strip_suffix(&[0]).unwrap_or(data);
    if data.is_empty() { Vec::new() } else { data.split(|byte| *byte == 0).collect() }
}

/// Bytes as the words of a command line. Accepted means: every word is accounted for, as another
/// reading of the same line tells; the command is the end of the line, untouched and unread; and the
/// one spelling of what was understood means the same. Refused means: one sentence in safe
/// characters.
///
/// # Panics
/// One of these does not hold.
pub fn sudo_args(data: &[u8]) {
    let words = words(data);
    match parse(&words) {
        Ok(invocation) => accepted(&words, &invocation),
        Err(refusal) => refused(&words, &refusal),
    }
}

fn fits<W: AsRef<[u8]>>(words: &[W]) -> bool {
    let bytes: usize = words.iter().map(|word| word.as_ref().len()).sum();
    words.len() <= WORDS_MAX && bytes <= BYTES_MAX
}

fn accepted(words: &[&[u8]], invocation: &Invocation) {
    assert!(fits(words), "over a limit");
    let spelling = invocation.to_words();
    // It can have a few words more than what was typed.
    let back = parse(&spelling);
    let expected = if fits(&spelling) { Ok(invocation) } else { Err(&Refusal::Long) };
    assert_eq!(back.as_ref(), expected, "the spelling means something else");

    let typed = Reading::of(words).expect("the line can be read at all");
    let canonical: Vec<&[u8]> = spelling.iter().map(Vec::as_slice).collect();
    let again = Reading::of(&canonical).expect("the spelling can be read");
    assert_eq!(typed, again, "something was dropped or made up");

    let command = command(invocation);
    assert_eq!(typed.command, command, "another command");
    if let Some((name, _)) = typed.command.split_first() {
        let head = &words[..words.len() - command.len()];
        let typed = [head, &[*name][..], &LURES[..]].concat();
        let head = &spelling[..spelling.len() - command.len()];
        let expected: Vec<&[u8]> =
            head.iter().map(Vec::as_slice).chain([*name]).chain(LURES).collect();
        if fits(&typed) {
            let lured = parse(&typed).expect("accepted as before");
            assert_eq!(lured.to_words(), expected, "arguments were read");
        }
    }
    if let Invocation::Run(Run { surroundings, .. }) = invocation {
        let assigned = surroundings.assignments.iter().map(|one| &one.name);
        let mut once = BTreeSet::new();
        let twice = assigned.chain(&surroundings.preserve).find(|name| !once.insert(*name));
        assert_eq!(twice, None, "a variable has two values");
    }
    if let Some(why) = invocation.unsupported() {
        sentence(&why.to_string());
    }
}

/// What is behind the options.
fn command(invocation: &Invocation) -> Vec<&[u8]> {
    let command: &[Vec<u8>] = match invocation {
        Invocation::Run(run) | Invocation::Probe(Probe::Nothing(run)) => {
            let Run { command, .. } = run;
            assert!(!command.is_empty(), "nothing to run");
            command
        }
        Invocation::Probe(Probe::List(Listing { command, .. })) => command,
        Invocation::Shell(shell) => &shell.command,
        Invocation::Edit(edit) => &edit.files,
        Invocation::Probe(Probe::Validate(_))
        | Invocation::ResetTimestamp
        | Invocation::RemoveTimestamp
        | Invocation::Version
        | Invocation::Help => &[],
    };
    command.iter().map(Vec::as_slice).collect()
}

fn refused(words: &[&[u8]], refusal: &Refusal) {
    sentence(&refusal.to_string());
    let over = words.len() > WORDS_MAX || words.concat().len() > BYTES_MAX;
    assert_eq!(over, *refusal == Refusal::Long, "the limits are not those that are told");
    assert_ne!(*refusal, Refusal::Nul, "no word has one");
}

fn sentence(text: &str) {
    assert!((1..=SENTENCE_BYTES_MAX).contains(&text.len()), "{text}");
    assert!(text.chars().all(is_safe), "a character that can act on a terminal: {text:?}");
}
