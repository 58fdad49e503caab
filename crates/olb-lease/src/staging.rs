//! Where the copies of staged files are while a command runs, and which words name them. Pure: the
//! front builds the words, the root half builds them again and compares.

use crate::id::hex;
use crate::plan::Staged;

/// A file name has at most this many bytes on Linux.
const NAME_BYTES_MAX: usize = 255;

/// What stands before the name in the typed word of `file`, and the name's last part: `--file=` and
/// `x.sh` of `--file=jobs/x.sh`. `None` where there is no such word or it does not end in a name.
#[must_use]
pub fn name<'a>(typed: &'a [Vec<u8>], file: &Staged) -> Option<(&'a [u8], &'a [u8])> {
    let word = typed.get(usize::try_from(file.word).ok()?)?;
    let (before, path) = word.split_at_checked(usize::try_from(file.prefix).ok()?)?;
    let last = path.rsplit(|byte| *byte == b'/').next()?;
    let plain = !matches!(last, b"" | b"." | b"..") && last.len() <= NAME_BYTES_MAX;
    plain.then_some((before, last))
}

/// Whether what stands before the name in a staged word is no name itself. A program may take the whole
/// word for one, so it holds no `/`; and where others can change the working directory, and could make
/// a folder of that name, it is an option.
#[must_use]
pub fn is_no_name(typed: &[Vec<u8>], word: u32, prefix: u32, cwd_changeable: bool) -> bool {
    let at = usize::try_from(word).unwrap_or(usize::MAX);
    let length = usize::try_from(prefix).unwrap_or(usize::MAX);
    let Some(before) = typed.get(at).and_then(|word| word.get(..length)) else { return false };
    let options_go_on = !typed.iter().take(at).skip(1).any(|word| word == b"--");
    let is_option = before.starts_with(b"-") && options_go_on;
    before.is_empty() || (!before.contains(&b'/') && (!cwd_changeable || is_option))
}

/// The folder of one plan's copies below `dir`: its name is the plan's random bytes in hexadecimal.
#[must_use]
pub fn folder(dir: &[u8], random: &[u8; 16]) -> Vec<u8> {
    [dir, b"/", hex(random).as_bytes()].concat()
}

/// Where the copy of each of `staged` is: `DIR/RANDOM/K/NAME`, `K` being its place in the list. `None`
/// where a word does not name a file.
#[must_use]
pub fn places(
    dir: &[u8],
    random: &[u8; 16],
    typed: &[Vec<u8>],
    staged: &[Staged],
) -> Option<Vec<Vec<u8>>> {
    let folder = folder(dir, random);
    let place = |(at, file): (usize, &Staged)| {
        let (_, last) = name(typed, file)?;
        Some([&folder, &b"/"[..], at.to_string().as_bytes(), b"/", last].concat())
    };
    staged.iter().enumerate().map(place).collect()
}

/// The words to run: those that were typed, with the copy's place for the name in each staged one.
/// The first stays as it was typed, also where it is staged. `None` as in [`places`].
#[must_use]
pub fn argv(
    dir: &[u8],
    random: &[u8; 16],
    typed: &[Vec<u8>],
    staged: &[Staged],
) -> Option<Vec<Vec<u8>>> {
    let mut argv = typed.to_vec();
    for (file, place) in staged.iter().zip(places(dir, random, typed, staged)?) {
        let (before, _) = name(typed, file)?;
        if file.word > 0 {
            *argv.get_mut(usize::try_from(file.word).ok()?)? = [before, &place].concat();
        }
    }
    Some(argv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn staged(word: u32, prefix: u32) -> Staged {
        let (path, sha256) = (b"/home/agent/x".to_vec(), Digest([0; 32]));
        Staged { word, prefix, path, size: 1, sha256, executable: false }
    }

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn each_staged_word_but_the_first_names_its_copy() {
        let typed = words(&["./x.sh", "-c", "--file=jobs/a.conf", "@b", "x.sh"]);
        let staged = [staged(0, 0), staged(2, 7), staged(3, 1)];
        let id = "2a".repeat(16);
        let place = |tail: &str| format!("/pin/{id}/{tail}");
        let places = places(b"/pin", &[0x2a; 16], &typed, &staged).unwrap();
        assert_eq!(places, words(&[&place("0/x.sh"), &place("1/a.conf"), &place("2/b")]));
        let want = [
            "./x.sh",
            "-c",
            &format!("--file={}", place("1/a.conf")),
            &format!("@{}", place("2/b")),
            "x.sh",
        ];
        assert_eq!(argv(b"/pin", &[0x2a; 16], &typed, &staged).unwrap(), words(&want));
    }

    //
    #[test]
    fn what_stands_before_a_copy_is_nothing_an_option_or_where_nobody_makes_names() {
        let typed = words(&["dd", "if=a", "@b", "--file=c", "-sf/x/d", "-fe", "--", "--file=g"]);
        for (word, prefix, at_home, elsewhere) in [
            (1, 0, true, true),
            (1, 3, false, true),
            (2, 1, false, true),
            (3, 7, true, true),
            (4, 6, false, false),
            (5, 2, true, true),
            (7, 7, false, true),
            (3, 99, false, false),
            (99, 0, false, false),
        ] {
            let found = [true, false].map(|cwd| is_no_name(&typed, word, prefix, cwd));
            assert_eq!(found, [at_home, elsewhere], "{word} {prefix}");
        }
    }

    #[test]
    fn a_word_without_a_plain_name_at_its_end_has_no_place() {
        let long = "n".repeat(256);
        for (word, prefix) in [
            ("", 0),
            ("a/", 0),
            ("/", 0),
            (".", 0),
            ("a/..", 0),
            ("--f=", 4),
            ("ab", 3),
            (&long, 0),
        ] {
            assert_eq!(places(b"/pin", &[0; 16], &words(&["x", word]), &[staged(1, prefix)]), None);
        }
        assert_eq!(places(b"/pin", &[0; 16], &words(&["x"]), &[staged(1, 0)]), None);
    }
}
