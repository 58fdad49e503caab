//! Time and the identity of the running kernel. The pure crates take these as arguments.

use std::fs;
use std::io;

use nix::time::{ClockId, clock_gettime};

/// Seconds since 1970 by the wall clock, which may jump. Before 1970 it reads 0.
#[must_use]
pub fn unix_secs() -> u64 {
    read(ClockId::CLOCK_REALTIME).0
}

/// Milliseconds since boot, suspend included. Never jumps.
#[must_use]
pub fn boottime_ms() -> u64 {
    let (seconds, nanoseconds) = read(ClockId::CLOCK_BOOTTIME);
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

fn read(clock: ClockId) -> (u64, u64) {
    // These two clocks exist on every kernel this crate runs on; were one refused, 0 makes
    // deadlines look far away only to code that also compares with an earlier reading of 0.
    match clock_gettime(clock) {
        Ok(time) => {
            (u64::try_from(time.tv_sec()).unwrap_or(0), u64::try_from(time.tv_nsec()).unwrap_or(0))
        }
        Err(_) => (0, 0),
    }
}

/// The 16 random bytes that the kernel drew for this boot.
///
/// # Errors
/// `/proc` is not mounted, or its `boot_id` is not a UUID.
pub fn boot_id() -> io::Result<[u8; 16]> {
    parse_uuid(&fs::read_to_string("/proc/sys/kernel/random/boot_id")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "boot_id is not a UUID"))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .trim_end()
        .chars()
        .filter(|symbol| *symbol != '-')
        .map(|symbol| symbol.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_clock_never_goes_back_and_wall_clock_is_past_2020() {
        let first = boottime_ms();
        assert!(first > 0);
        assert!(boottime_ms() >= first);
        assert!(unix_secs() > 1_577_836_800);
    }

    #[test]
    fn boot_id_is_the_same_at_every_reading() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), [0; 16]);
    }

    #[test]
    fn only_a_uuid_is_taken_for_a_boot_id() {
        let bytes = parse_uuid("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!((bytes[0], bytes[1], bytes[15]), (0x00, 0x11, 0xff));
        for text in [
            "",
            "0011",
            "00112233-4455-6677-8899-aabbccddeef",
            "zz112233-4455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }
}
