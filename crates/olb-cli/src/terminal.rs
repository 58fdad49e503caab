//! Asking a person, and only a person who types into a terminal of their own.

use std::io::{BufRead as _, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;

use crate::failure::Failure;
use crate::out::say_text;

/// Parents are followed at most this far.
const ANCESTORS_MAX: usize = 64;

/// Whether somebody can be asked: what is said is seen, and what is answered is typed.
pub(crate) fn is_here() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Refuses to ask where somebody else may be typing: on another user's terminal, or below a
/// process of one of `requesters`.
pub(crate) fn check_is_own(requesters: &[u32]) -> Result<(), Failure> {
    if !is_here() {
        return Err(Failure::usage(
            "a code is answered by a person on a terminal; scripts give the full req_ id",
        ));
    }
    let caller = olb_sys::harden::effective_uid();
    let controlling = olb_sys::file::terminal_owner();
    let input = std::fs::metadata("/proc/self/fd/0").map(|meta| Some(meta.uid()));
    for owner in [controlling, input] {
        // A terminal whose owner cannot be told is treated as somebody else's.
        let is_own = owner.is_ok_and(|owner| owner.is_none_or(|uid| uid == caller || uid == 0));
        if !is_own {
            return Err(foreign("this terminal belongs to another user, who can type into it"));
        }
    }
    if ancestors().into_iter().any(|uid| requesters.contains(&uid)) {
        return Err(foreign("this session was started by an account that asks for commands"));
    }
    Ok(())
}

fn foreign(what: &str) -> Failure {
    let text = format!("{what}; use your own ssh session or console to decide");
    Failure::refused("foreign_terminal", text)
}

/// Uids of this process's ancestors, as far as they can be seen.
fn ancestors() -> Vec<u32> {
    let mut uids = Vec::new();
    let mut pid = "self".to_owned();
    while uids.len() < ANCESTORS_MAX {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            break;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next().map(str::to_owned)
        };
        uids.extend(field("Uid:").and_then(|uid| uid.parse::<u32>().ok()));
        match field("PPid:") {
            Some(parent) if parent != "0" => pid = parent,
            Some(_) | None => break,
        }
    }
    uids
}

/// Asks `question`; the line that was typed after it appeared.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    let failed = |error| Failure::usage(format!("the terminal cannot be read ({error})"));
    // What was typed before the request was on the screen is no answer to it.
    let flushed =
        nix::sys::termios::tcflush(std::io::stdin(), nix::sys::termios::FlushArg::TCIFLUSH);
    flushed.map_err(|errno| failed(errno.into()))?;
    say_text!("{question} ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line)
}

/// Whether a line is the one answer that approves.
pub(crate) fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        assert!(["y", "Y\n", "yes\n", " YES "].into_iter().all(is_yes));
        for line in ["", "\n", "n", "no", "yes?", "y y", "ok", "ye", "yess", "нет"] {
            assert!(!is_yes(line), "{line}");
        }
    }

    #[test]
    fn the_own_uid_is_among_the_ancestors() {
        assert!(ancestors().contains(&olb_sys::harden::effective_uid()));
    }
}
