//! Hostile CBOR by hand: what is accepted, and what is refused for which reason.

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Every line of `cases` is one item in hexadecimal; what follows `;` says what it is.
fn each(cases: &str, want: Result<(), CborError>) -> usize {
    let lines = cases.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut count = 0;
    for line in lines {
        let (hex, what) = line.split_once(';').unwrap_or((line, ""));
        let bytes = unhex(hex);
        assert_eq!(validate(&bytes, 4096), want, "{hex} ({})", what.trim());
        count += 1;
    }
    assert!(count > 0, "no case");
    count
}

const ACCEPTED: &str = "
    00
    17
    18 18
    18 ff
    19 0100
    19 ffff
    1a 00010000
    1a ffffffff
    1b 0000000100000000
    1b ffffffffffffffff
    20
    37
    38 18
    3b ffffffffffffffff
    40
    58 18 000102030405060708090a0b0c0d0e0f1011121314151617
    60
    62 c3a9
    63 e282ac
    64 f0908080
    80
    81 80
    81 81 81 81 81 80; six arrays, the last one empty
    83 01 02 03
    a0
    a1 00 00
    a2 00 00 01 00
    a2 17 00 1818 00; 23 before 24
    a2 1818 00 20 00; 24 before -1: by encoded bytes, not by length
    a3 00 00 20 00 40 00; an integer, a negative one, a byte string
    a2 40 00 60 00; bytes before text
    a2 41ff 00 4200ff 00; shorter before longer
    a1 00 a1 00 a1 00 a1 00 a1 00 a0; six maps
    f4
    f5
    f6
";

#[test]
fn the_permitted_forms_are_accepted() {
    assert_eq!(each(ACCEPTED, Ok(())), 36);
}

// [C-1]
const TRUNCATED: &str = "
    ; nothing at all
    18
    19 01
    1a 010203
    1b 01020304050607
    38
    39 01
    41
    42 00
    58
    58 20 00
    59 0100 00
    5a 00010000 00
    5b ffffffffffffffff; more than any memory
    5b 7fffffffffffffff 00
    61
    62 c3
    7b ffffffffffffffff 61
    81
    82 00
    9a ffffffff
    9b ffffffffffffffff
    9b 8000000000000000
    a1
    a1 00
    a2 00 00 01
    bb 8000000000000000; twice this overflows
    bb ffffffffffffffff
    bb 7fffffffffffffff
    a1 41
    81 58
    81 81 81
";

// [C-2]
const TRAILING: &str = "
    00 00
    00 ff; a break after the item
    40 00
    60 60
    80 80
    a0 f6
    81 00 00
    a1 00 00 00
    f6 f6
    17 18
";

// [C-3]
const NOT_SHORTEST: &str = "
    18 00
    18 17
    19 0000
    19 00ff
    1a 00000000
    1a 0000ffff
    1b 0000000000000000
    1b 00000000ffffffff
    38 00
    38 17
    39 00ff
    3a 0000ffff
    3b 00000000ffffffff
    58 00
    58 01 00
    59 0001 00
    5a 00000001 00
    5b 0000000000000001 00
    78 01 61
    79 0001 61
    98 00
    98 01 00
    99 0001 00
    9b 0000000000000001 00
    b8 00
    b8 01 00 00
    b9 0001 00 00
    a1 1800 00; a key
    a1 00 1800; a value
    a1 5801 61 00; a key's length
    d8 00 00; a tag's number
";

// [C-4]
const INDEFINITE: &str = "
    1c
    1d
    1e
    1f
    3f
    5c
    5f ff
    5f 41 00 ff
    5f 5f 41 00 ff ff
    7f ff
    7f 61 61 ff
    9f ff
    9f 00 ff
    81 9f ff
    bf ff
    bf 00 00 ff
    a1 00 bf ff
    a1 5f ff 00; a key
    df
    fc
    fd
    fe
    ff
    81 ff
    a1 ff 00
    a1 00 ff
";

// [C-5]
const TAG: &str = "
    c0 60
    c1 00
    c2 41 00; an integer as a string
    c3 41 00
    d2 80; COSE_Sign1
    d8 3d a0; CWT
    d9 d9f7 00; self-described
    da 00010000 00
    db 0000000100000000 00
    81 c1 00
    a1 00 c1 00
    c1 c1 00
";

// [C-6]
const SIMPLE: &str = "
    e0
    e1
    f3
    f7; undefined
    f8 00
    f8 14; false in two bytes
    f8 16; null in two bytes
    f8 18
    f8 20
    f8 ff
    f9 0000
    f9 7e00; not a number
    f9 0014; a float whose digits are those of false
    fa 00000014
    fa 3f800000
    fb 3ff0000000000000
    fb 0000000000000014
    81 f7
    a1 00 f9 0000
";

// [C-7]
const UTF8: &str = "
    61 80
    61 ff
    62 c080; NUL in two bytes
    62 c3 28
    63 e08080
    63 eda080; a surrogate
    64 f4908080; above the last character
    65 f888808080
    a1 61 ff 00; a key
    81 61 c3
";

// [C-8]
const KEY_ORDER: &str = "
    a2 00 00 00 00; twice
    a2 01 00 00 00
    a2 20 00 00 00
    a2 1818 00 17 00
    a2 20 00 1818 00; right by the older length-first order
    a2 40 00 40 00
    a2 4100 00 40 00
    a2 42 0001 00 41 ff 00
    a2 60 00 40 00
    a2 61 62 00 61 61 00
    a3 00 00 01 00 01 00
    a3 00 00 02 00 01 00
    81 a2 01 00 00 00
    a1 00 a2 01 00 00 00; an inner map
";

// [C-9]
const KEY_TYPE: &str = "
    a1 80 00
    a1 81 00 00
    a1 a0 00
    a1 f4 00
    a1 f5 00
    a1 f6 00
    a1 c1 00 00
    a1 f9 0000 00
    a1 f7 00
";

// [C-10]
const DEPTH: &str = "
    81 81 81 81 81 81 80
    81 81 81 81 81 81 81 00
    a1 00 a1 00 a1 00 a1 00 a1 00 a1 00 a0
    81 a1 00 81 a1 00 81 a1 00 80
";

#[test]
fn every_hostile_case_is_refused_for_its_reason() {
    use CborError::{
        Depth, Indefinite, KeyOrder, KeyType, NotShortest, Simple, Tag, Trailing, Truncated, Utf8,
    };
    let refused = [
        (TRUNCATED, Truncated),
        (TRAILING, Trailing),
        (NOT_SHORTEST, NotShortest),
        (INDEFINITE, Indefinite),
        (TAG, Tag),
        (SIMPLE, Simple),
        (UTF8, Utf8),
        (KEY_ORDER, KeyOrder),
        (KEY_TYPE, KeyType),
        (DEPTH, Depth),
    ];
    let cases: usize = refused.into_iter().map(|(cases, why)| each(cases, Err(why))).sum();
    assert!(cases >= 150, "{cases}");
}

#[test]
fn every_cut_of_an_accepted_item_is_refused() {
    for line in ACCEPTED.lines().filter(|line| !line.trim().is_empty()) {
        let bytes = unhex(line.split(';').next().unwrap());
        for length in 0..bytes.len() {
            assert_eq!(validate(&bytes[..length], 4096), Err(CborError::Truncated), "{line}");
        }
    }
}

// [C-11]
#[test]
fn the_limit_comes_before_everything_else() {
    let too_long = Err(CborError::Range { what: "the length" });
    assert_eq!(validate(&[0xff; 10], 9), too_long);
    assert_eq!(validate(&[0x00], 0), too_long);
    assert_eq!(validate(&[0x00], 1), Ok(()));
}

#[test]
fn deep_nesting_takes_no_stack() {
    for lead in [0x81, 0xa1, 0xc1] {
        assert!(validate(&vec![lead; 1_000_000], usize::MAX).is_err());
    }
}

#[test]
fn a_reader_takes_only_what_it_expects() {
    let unexpected = |result: Result<u64, CborError>| {
        assert!(matches!(result, Err(CborError::Unexpected { .. })), "{result:?}");
    };
    unexpected(Reader::new(&[0x20]).uint());
    unexpected(Reader::new(&[0xa0]).array());
    unexpected(Reader::new(&[0x80]).map());
    unexpected(Reader::new(&[0x60]).bytes().map(|_| 0));
    unexpected(Reader::new(&[0x40]).text().map(|_| 0));
    unexpected(Reader::new(&[0x41, 0]).array_of::<2>().map(|_| 0));
    unexpected(Reader::new(&[0x00]).bool().map(|_| 0));
    unexpected(Reader::new(&[0x01]).key(2).map(|()| 0));
    unexpected(Reader::new(&[0x00]).int_key(-1).map(|()| 0));
    assert_eq!(Reader::new(&[0x19, 1, 0]).u8("it"), Err(CborError::Range { what: "it" }));
    assert_eq!(Reader::new(&[0x01]).end(), Err(CborError::Trailing));
}

#[test]
fn integers_come_back_at_every_edge() {
    for value in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let mut cbor = Writer::new();
        cbor.uint(value);
        assert_eq!(Reader::new(&cbor.finish()).uint(), Ok(value));
    }
    for value in [i64::MIN, -65_537, -257, -256, -25, -24, -1, 0, 1, i64::MAX] {
        let mut cbor = Writer::new();
        cbor.int(value);
        assert_eq!(Reader::new(&cbor.finish()).int(), Ok(value));
    }
}
