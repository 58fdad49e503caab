//! The processes of a throwaway instance, written down so that `down` finds them, and nobody else,
//! also after its supervisor was killed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use olb_sys::clock::boot_id;
use olb_sys::file::write_new_private;
use olb_sys::other::{Other, start_ticks};
use olb_sys::poll::{PollFd, PollFlags, poll};

use super::{SUPERVISOR, SUPERVISOR_END_MS};
use crate::instance::Instance;
use crate::instance::daemon::{END_MS, Halves, SIGKILL, SIGTERM};

/// A process, named for good: numbers are given out again, start times within a boot are not.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: String,
    pid: i32,
    start_ticks: u64,
}

fn file(instance: &Instance) -> PathBuf {
    instance.state_dir().join("processes")
}

/// Writes down the supervisor, which is this process, and both halves.
pub(super) fn write_down(instance: &Instance, halves: &Halves) -> Result<()> {
    let own = i32::try_from(std::process::id()).context("the own process id")?;
    let mut text = format!("boot {}\n", this_boot()?);
    for (name, pid) in [(SUPERVISOR, own)].into_iter().chain(halves.pids()) {
        let started = start_ticks(pid).with_context(|| format!("{name} is gone"))?;
        text.push_str(&format!("{name} {pid} {started}\n"));
    }
    write_new_private(&file(instance), text.as_bytes(), 0o600)
        .context("the processes cannot be written down")
}

/// Ends what is still running of an instance. The supervisor comes first: it ends the halves.
///
/// # Errors
/// A process cannot be ended.
pub(super) fn end_all(instance: &Instance) -> Result<()> {
    // An instance that never started has no list.
    let text = fs::read_to_string(file(instance)).unwrap_or_default();
    for known in read(&text, &this_boot()?) {
        let name = &known.name;
        end(&known).with_context(|| format!("{name} (process {}) cannot be ended", known.pid))?;
    }
    Ok(())
}

fn end(known: &Known) -> Result<()> {
    let Some(process) = Other::find(known.pid, known.start_ticks)? else { return Ok(()) };
    let patience = if known.name == SUPERVISOR { SUPERVISOR_END_MS } else { END_MS };
    for (signal, patience) in [(SIGTERM, Some(patience)), (SIGKILL, None)] {
        match process.signal(signal) {
            Ok(()) => {}
            Err(_) if Other::find(known.pid, known.start_ticks)?.is_none() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if poll(&mut [PollFd::new(process.pidfd(), PollFlags::POLLIN)], patience)? > 0 {
            break;
        }
    }
    Ok(())
}

/// The processes of a list of this boot; those of another one ended with it.
fn read(text: &str, boot: &str) -> Vec<Known> {
    let mut lines = text.lines();
    if lines.next() != Some(&format!("boot {boot}")) {
        return Vec::new();
    }
    let known = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let (pid, start_ticks) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Known { name, pid, start_ticks })
    };
    lines.filter_map(known).collect()
}

fn this_boot() -> Result<String> {
    let id = boot_id().context("/proc is not mounted; mount it")?;
    Ok(format!("{:032x}", u128::from_be_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_this_boot_is_read() {
        let text = "boot ab\nsupervisor 7 70\nolb-execd 8 80\n";
        let known = read(text, "ab");
        assert_eq!(known.len(), 2);
        assert_eq!(known[0], Known { name: "supervisor".into(), pid: 7, start_ticks: 70 });
    }

    #[test]
    fn nothing_of_another_boot_is_touched() {
        assert!(read("boot ab\nsupervisor 7 70\n", "ac").is_empty());
        assert!(read("", "ac").is_empty());
    }

    #[test]
    fn a_process_that_runs_is_ended_and_one_that_is_gone_is_no_error() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_ticks(pid).unwrap();
        let known = |start_ticks| Known { name: "x".into(), pid, start_ticks };
        end(&known(started + 1)).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "somebody else by the same number lives on");
        // Reaped by another thread, as by the system where it is not our own child.
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        end(&known(started)).unwrap();
        assert!(!reaper.join().unwrap().success());
        end(&known(started)).unwrap();
    }
}
