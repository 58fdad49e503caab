//! Lines of a file that somebody else may have made: each is read whole, none without a limit.

use std::io::{self, BufRead, Read as _};

/// A line of an export holds a record, a receipt and a shortened command: half of this at most.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The lines of `reader` without their newlines. One that is too long ends them with an error of the
/// kind [`io::ErrorKind::InvalidData`].
pub(super) fn lines(mut reader: impl BufRead) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let result = next(&mut reader);
        is_over = !matches!(result, Ok(Some(_)));
        result.transpose()
    })
}

fn next(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // One more for the newline.
    let limit = LINE_BYTES_MAX as u64 + 1;
    reader.take(limit).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() == LINE_BYTES_MAX => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"))
        }
        Some(last) => {
            line.push(last);
            Ok(Some(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Result<Vec<u8>, io::ErrorKind>> {
        lines(text).map(|line| line.map_err(|error| error.kind())).collect()
    }

    #[test]
    fn lines_come_whole_with_or_without_a_last_newline() {
        for text in [&b"a\n\nb\n"[..], b"a\n\nb"] {
            assert_eq!(all(text), [Ok(b"a".into()), Ok(Vec::new()), Ok(b"b".into())]);
        }
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_without_an_end_is_not_read_to_its_end() {
        let longest = vec![b'x'; LINE_BYTES_MAX];
        let text = [&longest[..], b"\ny"].concat();
        assert_eq!(all(&text), [Ok(longest.clone()), Ok(b"y".into())]);
        let too_long = [&b"y\n"[..], &longest, b"x\nz"].concat();
        assert_eq!(all(&too_long), [Ok(b"y".into()), Err(io::ErrorKind::InvalidData)]);
    }
}
