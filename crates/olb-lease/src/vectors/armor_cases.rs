//! Armored leases: one good one with and without a newline, and one defect each.

use crate::armor;

use super::case::{Case, Kind, Stage};
use super::fixture::{issuer, lease};

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    use Stage::{Accept, Alphabet, Length, Prefix};
    let lease = lease().sign(&issuer()).unwrap();
    let text = armor::encode(&lease);
    let case = |name, spec, stage, comment, text: String| {
        Case::new(Kind::Armor, name, spec, stage, comment, text.into())
    };
    vec![
        case("valid", &[], Accept, "A good lease in text.", text.clone()),
        case("valid_newline", &[], Accept, "With one newline at its end, as files have it.",
            format!("{text}\n")),
        case("empty", &["A-1"], Prefix, "No text at all.", String::new()),
        case("prefix_only", &["A-3"], Length, "The prefix and nothing else.", "olbl1_".into()),
        case("prefix_missing", &["A-1"], Prefix, "No prefix.", text[6..].into()),
        case("prefix_upper_case", &["A-1"], Prefix, "The prefix in upper case.",
            text.replacen("olbl1_", "OLBL1_", 1)),
        case("prefix_version_2", &["A-1"], Prefix, "The prefix of another version.",
            text.replacen('1', "2", 1)),
        case("space_before", &["A-1"], Prefix, "A space in front.", format!(" {text}")),
        case("space_after", &["A-2"], Alphabet, "A space behind.", format!("{text} ")),
        case("two_newlines", &["A-2"], Alphabet, "Two newlines at its end.", format!("{text}\n\n")),
        case("carriage_return", &["A-2"], Alphabet, "A carriage return before the newline.",
            format!("{text}\r\n")),
        case("newline_inside", &["A-2"], Alphabet, "Wrapped as mail does it.",
            format!("{}\n{}", &text[..76], &text[76..])),
        case("padding", &["A-2"], Alphabet, "Padded with '='.", format!("{text}====")),
        case("standard_alphabet", &["A-2"], Alphabet, "Base64's '+' in place of '-'.",
            format!("{}+{}", &text[..20], &text[21..])),
        case("not_ascii", &["A-2"], Alphabet, "A letter that is not ASCII.",
            format!("{}é{}", &text[..20], &text[22..])),
        case("trailing_bits", &["A-2"], Alphabet,
            "One character less and bits that belong to no byte.",
            format!("{}B", &text[..text.len() - 2])),
        case("one_byte_short", &["A-3"], Length, "368 bytes.", armor::encode(&lease[1..])),
        case("one_byte_long", &["A-3"], Length, "370 bytes.",
            armor::encode(&[&lease[..], &[0]].concat())),
        case("longer_than_512", &["A-3"], Length, "513 characters.",
            format!("olbl1_{}", "A".repeat(507))),
    ]
}
