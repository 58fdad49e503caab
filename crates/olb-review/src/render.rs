//! The request as the approver is asked about it. Every field of the plan has its place; none is
//! shortened, and none can look like another: a row begins with the name of its field, or with the
//! mark of a row that goes on.

use std::collections::BTreeMap;

use olb_lease::Plan;

use crate::display::spaced;
use crate::quote::{assignment, command, counted, word};

/// A longer text does not fit what a person reads on a terminal before answering: it is shown, but
/// cannot be approved by answering. In bytes.
pub const REVIEW_BYTES_MAX: usize = 8 * 1024;
/// From this size on the text says how much of it there is, in bytes.
const LONG_COMMAND_BYTES: usize = 512;
/// Width of the line above the request.
const RULE_COLUMNS: usize = 70;
/// Rows are at most this wide: a terminal that breaks them itself would begin the next one with
/// whatever the requester likes.
const ROW_COLUMNS: usize = 80;
/// Begins every further row of a value.
const GOES_ON: &str = "         | ";
/// A longer code is none.
const CODE_CHARACTERS_MAX: usize = 16;
/// With more rows the beginning may be off the screen when the question comes.
const SCREEN_ROWS: usize = 20;
/// Of a long command so many rows are repeated.
const REPEATED_ROWS: usize = 8;

/// What the showing process knows besides the plan. Nothing here is bound: it helps to read.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `req_...`, recomputed from the plan's bytes.
    pub request_id: String,
    /// The short code under which the request is known.
    pub code: String,
    /// Name of the requester's account on this host.
    pub requester_name: Option<String>,
    /// The account of the target's name has other numbers here than the plan has.
    pub run_as_mismatch: bool,
    /// When the request expires, for people.
    pub expires: String,
}

/// The text, and whether it may be decided by answering below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Lines, each with its newline. Safe for a terminal.
    pub text: String,
    /// False where the text is longer than [`REVIEW_BYTES_MAX`].
    pub can_be_answered: bool,
}

/// Renders `plan`.
#[must_use]
pub fn render(plan: &Plan, facts: &Facts) -> Review {
    let mut lines = Lines::default();
    let code: String = spaced(facts.code.as_bytes()).chars().take(CODE_CHARACTERS_MAX).collect();
    lines.rule(&format!("request {code}"));
    lines.field("Who", &who(plan, facts));
    let target = format!("{}, in {}", run_as(plan), word(&plan.cwd.path));
    lines.field("Command", &command(&plan.argv));
    if plan.typed_argv != plan.argv {
        lines.field("Typed", &command(&plan.typed_argv));
    }
    lines.field("Runs", &runs(plan));
    files(plan, &mut lines);
    lines.field("As", &target);
    if plan.cwd_changeable {
        lines.field("Folder", "the agent can change what is in this directory");
    }
    if facts.run_as_mismatch {
        let name = spaced(plan.run_as.name.as_bytes());
        lines.field("WARNING", &format!("the account {name} has other numbers on this host"));
    }
    environment(plan, &mut lines);
    lines.field("Stdin", &stdin(plan));
    lines.field("Limit", &limit(plan));
    lines.field("What", "cannot inspect: there is no rule for this command");
    lines.field("Effect", "cannot inspect");
    lines.field("Risk", risk(plan));
    lines.field("Surprise", &surprise(plan));
    // A quotation mark in it must not look like the end of it.
    let reason = spaced(plan.reason.as_bytes()).replace('"', "\\\"");
    let says = if reason.is_empty() { "nothing".to_owned() } else { format!("\"{reason}\"") };
    lines.wide("Agent says", &format!("{says}   (the agent's own words)"));
    let expires = spaced(facts.expires.as_bytes());
    lines.field("Request", &format!("{}, expires {expires}", spaced(facts.request_id.as_bytes())));
    let can_be_answered = lines.text.len() <= REVIEW_BYTES_MAX;
    if !can_be_answered {
        let size = lines.text.len();
        lines.field("TOO LONG", &format!("{size} bytes cannot be taken in at a glance"));
    }
    if lines.text.lines().count() > SCREEN_ROWS {
        lines.again(&command(&plan.argv));
        lines.field("Again as", &target);
    }
    Review { text: lines.text, can_be_answered }
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn rule(&mut self, title: &str) {
        let mut line = format!("--- {title} ");
        while line.chars().count() < RULE_COLUMNS {
            line.push('-');
        }
        self.text.push_str(&line);
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, value: &str) {
        self.rows(&format!("{name:<8} "), value);
    }

    fn wide(&mut self, name: &str, value: &str) {
        self.rows(&format!("{name}  "), value);
    }

    /// The command once more, right above the question. Where it is long itself, its beginning.
    fn again(&mut self, value: &str) {
        let mut whole = Self::default();
        whole.field("Again", value);
        let rows: Vec<&str> = whole.text.lines().collect();
        for row in rows.iter().take(REPEATED_ROWS) {
            self.text.push_str(&format!("{row}\n"));
        }
        let more = rows.len().saturating_sub(REPEATED_ROWS);
        if more > 0 {
            self.field("", &format!("and {}, all of them above", counted(more, "more row")));
        }
    }

    /// `value` behind `head`, in as many rows as it takes; broken after a space where one is near.
    fn rows(&mut self, head: &str, value: &str) {
        self.text.push_str(head);
        let mut used = head.len();
        for piece in value.split_inclusive(' ') {
            let width: usize = piece.chars().map(columns).sum();
            let fits_a_row = GOES_ON.len() + width <= ROW_COLUMNS;
            if used + width > ROW_COLUMNS && fits_a_row {
                used = self.go_on();
            }
            for character in piece.chars() {
                if used + columns(character) > ROW_COLUMNS {
                    used = self.go_on();
                }
                self.text.push(character);
                used += columns(character);
            }
        }
        self.text.push('\n');
    }

    /// Begins a further row; the columns that are used of it.
    fn go_on(&mut self) -> usize {
        self.text.push('\n');
        self.text.push_str(GOES_ON);
        GOES_ON.len()
    }
}

/// Columns that a character takes at most. Terminals differ about many; none shows a safe one wider.
fn columns(character: char) -> usize {
    if character.is_ascii() { 1 } else { 2 }
}

fn who(plan: &Plan, facts: &Facts) -> String {
    let uid = plan.requester_uid;
    let who = match &facts.requester_name {
        Some(name) => format!("{} (uid {uid})", spaced(name.as_bytes())),
        None => format!("uid {uid} (no account of that number here)"),
    };
    let session = match plan.session.as_str() {
        "" => "no session".to_owned(),
        session => format!("session {}", word(session.as_bytes())),
    };
    format!("{who} on {}, {session}", spaced(plan.host.as_bytes()))
}

fn runs(plan: &Plan) -> String {
    let file = &plan.executable;
    if plan.staged.first().is_some_and(|first| first.word == 0) {
        return format!("{} (the copy of File 1)", word(&file.path));
    }
    format!("{} ({} bytes, inode {})", word(&file.path), file.size, file.ino)
}

/// The files that the command names and that others than root can change.
fn files(plan: &Plan, lines: &mut Lines) {
    for (number, file) in (1..).zip(&plan.staged) {
        let (path, digest) = (word(&file.path), file.sha256.hex());
        let size = file.size;
        let mode = if file.executable { ", can be executed" } else { "" };
        let text = format!(
            "copy of {path}, {size} bytes, sha256 {digest}{mode}, as the agent handed it in; cannot \
             inspect"
        );
        lines.field(&format!("File {number}"), &text);
    }
    for file in &plan.unbound {
        let path = word(&file.path);
        lines.field("UNBOUND", &format!("{path}   the agent can change this after you approve"));
    }
}

fn limit(plan: &Plan) -> String {
    let span = span(plan.wall_clock_secs);
    if plan.whole {
        format!("{span}, but is not interrupted when the agent leaves or the time is over")
    } else {
        format!("ended after {span}")
    }
}

fn risk(plan: &Plan) -> &'static str {
    if plan.unbound.is_empty() {
        "high - what cannot be inspected counts as high"
    } else {
        "high - what is UNBOUND can become anything; what cannot be inspected counts as high"
    }
}

/// The target account. Number zero is root whatever it is called.
fn run_as(plan: &Plan) -> String {
    let target = &plan.run_as;
    let name = spaced(target.name.as_bytes());
    let named = match (target.uid, target.name.as_str()) {
        (0, "root") => "root".to_owned(),
        (0, _) => format!("root, called {name}"),
        (_, "root") => format!("an account called root that is not root: uid {}", target.uid),
        _ => name,
    };
    let others: Vec<String> =
        target.groups.iter().filter(|group| **group != target.gid).map(u32::to_string).collect();
    let others =
        if others.is_empty() { String::new() } else { format!(", groups {}", others.join(" ")) };
    format!("{named} (uid {}, gid {}{others})", target.uid, target.gid)
}

fn environment(plan: &Plan, lines: &mut Lines) {
    let typed = &plan.environment_words;
    let fixed = plan.environment.iter().filter(|(name, _)| !typed.contains_key(*name));
    let fixed: BTreeMap<_, _> = fixed.collect();
    if !typed.is_empty() {
        let typed: Vec<_> = typed.iter().map(|(name, value)| assignment(name, value)).collect();
        lines.field("With", &format!("{}   (asked for by the agent)", typed.join(" ")));
    }
    let fixed: Vec<_> = fixed.iter().map(|(name, value)| assignment(name, value)).collect();
    lines.field("Env", if fixed.is_empty() { "empty".into() } else { fixed.join(" ") }.as_str());
}

fn stdin(plan: &Plan) -> String {
    match &plan.stdin {
        None => "none (/dev/null)".into(),
        Some(stdin) => {
            let digest = stdin.sha256.hex();
            format!("{} bytes from the agent, sha256 {digest}; cannot inspect", stdin.size)
        }
    }
}

fn surprise(plan: &Plan) -> String {
    let mut found = vec!["cannot inspect".to_owned()];
    let files = plan.staged.iter().map(|file| &file.path);
    let files = files.chain(plan.unbound.iter().map(|file| &file.path));
    let words = plan.argv.iter().chain(plan.environment_words.values()).chain(files);
    if words.clone().any(|word| !word.is_ascii()) {
        found.push("letters outside ASCII, which can look like others".into());
    }
    if words.clone().flatten().any(|byte| byte.is_ascii_control()) {
        found.push("control characters, shown as \\n, \\t or \\xNN".into());
    }
    if plan.run_as.uid != 0 && plan.run_as.groups.contains(&0) {
        found.push("the target account is in root's group".into());
    }
    let bytes: usize = plan.argv.iter().map(|word| word.len().saturating_add(1)).sum();
    if bytes > LONG_COMMAND_BYTES {
        let words = counted(plan.argv.len(), "word");
        found.push(format!("a long command: {words}, {bytes} bytes; read all of it"));
    }
    found.join("; ")
}

/// Seconds as people say them, exactly.
fn span(seconds: u32) -> String {
    let units = [(3600, "h"), (60, "min")];
    let fits = |(size, _): &(u32, &str)| seconds.is_multiple_of(*size) && seconds >= *size;
    match units.into_iter().find(fits) {
        Some((size, name)) => format!("{} {name}", seconds / size),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests;
