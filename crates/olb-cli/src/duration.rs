//! Spans of time on the command line: `90`, `90s`, `30m`, `24h`.

/// Reads a span as whole seconds.
///
/// # Errors
/// One sentence for the person who typed it.
pub(crate) fn parse(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if all_digits { digits.parse::<u32>().ok() } else { None };
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write a span of time as 90s, 30m or 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn spans_are_read_in_seconds() {
        let read = ["90", "90s", "30m", "24h"].map(|text| parse(text).unwrap());
        assert_eq!(read, [90, 90, 1800, 86_400]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "0", "s", "-1", "+1", "1d", "1.5h", "99999999h", "１s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
