//! Account numbers that nobody uses, for the front and the requester of a demo.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use olb_sys::account::user_by_uid;
use rand::TryRng as _;
use rand::rngs::SysRng;

/// Where systemd, too, picks accounts that come and go.
const RANGE: RangeInclusive<u32> = 61_184..=65_519;

/// `N` numbers without an account, a group, a process, or a place in a range of subordinate ids.
///
/// The search begins at a random place, so that two demos at once do not pick the same ones.
///
/// # Errors
/// There are not so many.
pub(crate) fn unused<const N: usize>() -> Result<[u32; N]> {
    let mut taken = running().context("/proc cannot be read")?;
    taken.extend(groups(&fs::read_to_string("/etc/group").unwrap_or_default()));
    let subordinate = ["/etc/subuid", "/etc/subgid"].map(|path| {
        // Without the file nothing is handed out.
        subordinate_ranges(&fs::read_to_string(path).unwrap_or_default())
    });
    let mut random = [0; 4];
    SysRng.try_fill_bytes(&mut random).context("the operating system gave no random numbers")?;
    let start = RANGE.start() + u32::from_ne_bytes(random) % (RANGE.end() - RANGE.start());
    let mut found = Vec::with_capacity(N);
    for uid in (start..=*RANGE.end()).chain(*RANGE.start()..start) {
        let handed_out = subordinate.iter().flatten().any(|range| range.contains(&uid.into()));
        let free = !taken.contains(&uid) && !handed_out;
        if free && user_by_uid(uid).context("accounts cannot be looked up")?.is_none() {
            found.push(uid);
        }
        if let Ok(uids) = found.as_slice().try_into() {
            return Ok(uids);
        }
    }
    bail!("no {N} unused account numbers between {} and {}", RANGE.start(), RANGE.end())
}

/// Uids that some process has: real, effective, saved or for files.
fn running() -> std::io::Result<BTreeSet<u32>> {
    let mut uids = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        // A process that ends meanwhile has no status any more.
        if let Ok(status) = fs::read_to_string(entry?.path().join("status")) {
            uids.extend(uids_of(&status));
        }
    }
    Ok(uids)
}

fn uids_of(status: &str) -> impl Iterator<Item = u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok())
}

/// Group ids of `/etc/group`: `name:password:gid:members`.
fn groups(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok())
}

/// Ranges of `/etc/subuid` and its sister: `owner:first:count`.
fn subordinate_ranges(text: &str) -> Vec<std::ops::Range<u64>> {
    let range = |line: &str| {
        let mut numbers = line.split(':').skip(1).map(|word| word.trim().parse::<u64>().ok());
        let (first, count) = (numbers.next()??, numbers.next()??);
        Some(first..first.saturating_add(count))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_found_are_free_and_differ() {
        let [front, requester] = unused::<2>().unwrap();
        assert_ne!(front, requester);
        assert!(RANGE.contains(&front) && RANGE.contains(&requester));
    }

    #[test]
    fn all_four_uids_of_a_process_count() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(uids_of(status).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn groups_and_subordinate_ranges_are_read() {
        assert_eq!(groups("root:x:0:\nbad\nolb:x:61200:a,b\n").collect::<Vec<_>>(), [0, 61_200]);
        let ranges = subordinate_ranges("alice:100000:65536\nbad\n1000:61184:10\n");
        assert_eq!(ranges, [100_000..165_536, 61_184..61_194]);
    }
}
