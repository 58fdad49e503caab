//! Account numbers that nobody uses, for the front and the requester of a demo.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use olb_sys::account::user_by_uid;
use rand::TryRng as _;
use rand::rngs::SysRng;

/// Where the numbers come from, best first. Both are outside everything that distributions, systemd
/// (its passing accounts are 61184 to 65519), subordinate ids and directory services assign. The
/// first is the end of the 31-bit numbers; a container whose user namespace maps none of these has
/// the second, a gap that systemd leaves.
const RANGES: [RangeInclusive<u32>; 2] = [0x7fff_0000..=0x7fff_fffe, 60_706..=61_183];

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
    let handed_out = |id: u32| subordinate.iter().flatten().any(|range| range.contains(&id.into()));
    let mut mapped = Vec::new();
    for path in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        mapped.push(mapped_ranges(&fs::read_to_string(path).context("/proc cannot be read")?));
    }
    let is_mapped =
        |id: u32| mapped.iter().all(|map| map.iter().any(|range| range.contains(&id.into())));
    let mut random = [0; 4];
    SysRng.try_fill_bytes(&mut random).context("the operating system gave no random numbers")?;
    for range in RANGES {
        let mut found = Vec::with_capacity(N);
        for id in from_somewhere(range, u32::from_ne_bytes(random)) {
            let free = is_mapped(id) && !taken.contains(&id) && !handed_out(id);
            if free && user_by_uid(id).context("accounts cannot be looked up")?.is_none() {
                found.push(id);
            }
            if let Ok(ids) = found.as_slice().try_into() {
                return Ok(ids);
            }
        }
    }
    bail!("there are no {N} account numbers that nobody uses; end other demos and try again")
}

/// All numbers of `range`, from a place in it that `random` chooses.
fn from_somewhere(range: RangeInclusive<u32>, random: u32) -> impl Iterator<Item = u32> {
    let (first, last) = range.into_inner();
    let start = first.saturating_add(random % (last - first));
    (start..=last).chain(first..start)
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

/// Numbers that exist in this process's user namespace: lines of `first outside count`.
fn mapped_ranges(text: &str) -> Vec<std::ops::Range<u64>> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
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
        for id in [front, requester] {
            assert!(RANGES.iter().any(|range| range.contains(&id)), "{id}");
        }
    }

    #[test]
    fn no_number_is_one_that_systemd_gives_to_a_service() {
        for range in RANGES {
            assert!(*range.end() < 61_184 || *range.start() > 65_519, "{range:?}");
        }
    }

    #[test]
    fn every_number_of_a_range_comes_once() {
        for random in [0, 1, 2, 3, u32::MAX] {
            let mut all: Vec<u32> = from_somewhere(10..=13, random).collect();
            all.sort_unstable();
            assert_eq!(all, [10, 11, 12, 13]);
        }
    }

    #[test]
    fn maps_of_a_namespace_are_read() {
        let container = mapped_ranges("         0     100000      65536\n");
        assert_eq!((container.len(), container[0].clone()), (1, 0..65_536));
        let whole = mapped_ranges("0 0 4294967295\n");
        assert!(whole[0].contains(&0x7fff_fffe));
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
