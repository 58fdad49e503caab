//! Deterministic CBOR (RFC 8949 section 4.2.1), the subset that the project's formats use.
//!
//! [`validate`] accepts exactly one well-formed item in its one deterministic form; [`Reader`] then
//! reads the fields it expects, in order, and [`Writer`] produces the same form. Permitted: unsigned
//! and negative integers, byte and text strings, arrays, maps with strictly ascending keys, `false`,
//! `true` and `null`. Refused: indefinite lengths, heads that are not the shortest, tags, floats,
//! `undefined`, other simple values, invalid UTF-8, duplicate or unordered keys, trailing bytes.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use thiserror::Error;

pub use reader::Reader;
pub use writer::Writer;

/// How deep arrays and maps may be nested; a scalar at the top has depth 0.
pub const DEPTH_MAX: usize = 6;

/// Why bytes are not one item of deterministic CBOR, or not the item that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CborError {
    /// The item claims more than the bytes that are left.
    #[error("the item is cut off")]
    Truncated,
    /// Bytes follow the item.
    #[error("bytes follow the item")]
    Trailing,
    /// A head is not in its shortest form.
    #[error("an integer or a length is not in its shortest form")]
    NotShortest,
    /// An indefinite length, a reserved head or a break.
    #[error("an indefinite length or a reserved head")]
    Indefinite,
    /// A tag.
    #[error("a tag")]
    Tag,
    /// A float, `undefined` or a simple value other than `false`, `true`, `null`.
    #[error("a float or a simple value that has no place here")]
    Simple,
    /// A text string that is not UTF-8.
    #[error("a text string that is not UTF-8")]
    Utf8,
    /// Map keys that are not strictly ascending (so also duplicates).
    #[error("map keys are duplicated or out of order")]
    KeyOrder,
    /// A map key that is neither an integer nor a string.
    #[error("a map key of a type that is not permitted")]
    KeyType,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    Depth,
    /// Not the type, key, count or constant that belongs here.
    #[error("expected {expected}")]
    Unexpected {
        /// What belongs here.
        expected: &'static str,
    },
    /// A number or a string outside its permitted range.
    #[error("{what} is out of range")]
    Range {
        /// The field.
        what: &'static str,
    },
}

const UINT: u8 = 0;
const NINT: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Splits a head off `input`: major type, argument, rest.
fn head(input: &[u8]) -> Result<(u8, u64, &[u8]), CborError> {
    let (&first, rest) = input.split_first().ok_or(CborError::Truncated)?;
    let (major, info) = (first >> 5, first & 0x1f);
    let width = match info {
        0..=23 => return Ok((major, u64::from(info), rest)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(CborError::Indefinite),
    };
    let (digits, rest) = rest.split_at_checked(width).ok_or(CborError::Truncated)?;
    let value = digits.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let shortest = match width {
        1 => value >= 24,
        2 => value > 0xff,
        4 => value > 0xffff,
        _ => value > 0xffff_ffff,
    };
    // The one-byte form of major type 7 names a simple value, which is refused by its type.
    if !shortest && major != SIMPLE {
        Err(CborError::NotShortest)
    } else {
        Ok((major, value, rest))
    }
}

/// One open array or map during validation.
#[derive(Clone, Copy)]
struct Open<'a> {
    items_left: u64,
    is_map: bool,
    /// In a map: the encoded key before this one, empty at the start.
    last_key: &'a [u8],
}

/// Accepts exactly one item in deterministic form, at most `max` bytes.
///
/// # Errors
/// The first deviation found, reading from the front. Works iteratively on a fixed stack.
pub fn validate(input: &[u8], max: usize) -> Result<(), CborError> {
    if input.len() > max {
        return Err(CborError::Range { what: "the length" });
    }
    let closed = Open { items_left: 0, is_map: false, last_key: &[] };
    let mut stack = [closed; DEPTH_MAX];
    let mut depth = 0_usize;
    let mut rest = input;
    loop {
        let item = rest;
        let (major, value, after) = head(item)?;
        rest = after;
        check_key(&mut stack, depth, item, major, value)?;
        match major {
            UINT | NINT => {}
            BYTES | TEXT => {
                let (body, after) = split(rest, value)?;
                if major == TEXT && std::str::from_utf8(body).is_err() {
                    return Err(CborError::Utf8);
                }
                rest = after;
            }
            ARRAY | MAP => {
                let items = if major == MAP { value.checked_mul(2) } else { Some(value) };
                let items = items.ok_or(CborError::Truncated)?;
                if items > rest.len() as u64 {
                    return Err(CborError::Truncated);
                }
                let slot = stack.get_mut(depth).ok_or(CborError::Depth)?;
                *slot = Open { items_left: items, is_map: major == MAP, last_key: &[] };
                depth = depth.saturating_add(1);
            }
            TAG => return Err(CborError::Tag),
            _ if matches!(value, 20..=22) && item.len().wrapping_sub(rest.len()) == 1 => {}
            _ => return Err(CborError::Simple),
        }
        // Close what is complete; the top item ends the walk.
        while let Some(open) = depth.checked_sub(1).and_then(|top| stack.get(top)) {
            if open.items_left > 0 {
                break;
            }
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return if rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) };
        }
    }
}

/// Counts an item against the innermost open container and, where it is a map key, checks it.
fn check_key<'a>(
    stack: &mut [Open<'a>; DEPTH_MAX],
    depth: usize,
    item: &'a [u8],
    major: u8,
    value: u64,
) -> Result<(), CborError> {
    let Some(open) = depth.checked_sub(1).and_then(|top| stack.get_mut(top)) else {
        return Ok(());
    };
    let is_key = open.is_map && open.items_left.is_multiple_of(2);
    open.items_left = open.items_left.saturating_sub(1);
    if !is_key {
        return Ok(());
    }
    let (_, _, after) = head(item)?;
    let body = match major {
        UINT | NINT => 0,
        BYTES | TEXT => value,
        _ => return Err(CborError::KeyType),
    };
    let (_, after) = split(after, body)?;
    let length = item.len().saturating_sub(after.len());
    let key = item.get(..length).ok_or(CborError::Truncated)?;
    if !open.last_key.is_empty() && key <= open.last_key {
        return Err(CborError::KeyOrder);
    }
    open.last_key = key;
    Ok(())
}

fn split(input: &[u8], length: u64) -> Result<(&[u8], &[u8]), CborError> {
    let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
    input.split_at_checked(length).ok_or(CborError::Truncated)
}
