//! Anchors: heads of the trail that were kept where whoever changes or withholds the trail does not
//! reach. The root half writes one into its journal after each record that it signs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use olb_lease::{ChainHead, Kid};
use olb_review::display::safe;

use super::lines::lines;
use super::verify::Unproved;
use crate::trust::BrokerKeys;

/// What the root half's lines begin with; before it there may be what a log puts before each line.
const NAME: &str = "olb-execd: ";
/// What an anchor goes on with.
const MARK: &str = "audit head ";

/// Not looked up in `PATH`, so that nobody else's program is asked.
const JOURNALCTL: &str = "/usr/bin/journalctl";
/// What the root half wrote, and nobody else: journald notes unit, uid and program of a line itself.
/// The program's name keeps out what commands wrote that the root half ran.
const MATCHES: [&str; 3] = ["_SYSTEMD_UNIT=olb-execd.service", "_UID=0", "_COMM=olb-execd"];
/// Of what journalctl says is wrong, so much is shown, in bytes.
const COMPLAINT_BYTES: u64 = 300;

/// What is known of a trail from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    /// Heads by the number of the record that they come after.
    pub(super) heads: BTreeMap<u64, ChainHead>,
    /// Lines that are about a broker with another audit key.
    foreign: u64,
    /// The first such line after the last one that counts: its record's number and its key.
    unknown_since: Option<(u64, Kid)>,
    /// Where they are from, for a sentence.
    pub(super) source: String,
    /// Why there is none.
    why_none: Option<String>,
}

/// Where to look for anchors.
#[derive(Debug, Clone, Copy)]
pub(super) enum From<'a> {
    /// Nowhere: the caller knows that the end is then not proved.
    Nowhere,
    /// In the journal of this host.
    Journal,
    /// In a file of such lines; `-` is standard input.
    File(&'a Path),
}

impl Anchors {
    /// Reads the anchors of the broker that has `keys`.
    ///
    /// # Errors
    /// A file cannot be read or has none; a line of ours is damaged; two contradict each other.
    pub(super) fn read(from: From<'_>, keys: &BrokerKeys) -> Result<Self, Unproved> {
        match from {
            From::Nowhere => Ok(Self {
                why_none: Some("none was looked for (--no-anchor)".into()),
                ..Self::default()
            }),
            From::Journal => Self::of_journal(Path::new(JOURNALCTL), keys),
            From::File(path) => Self::of_file(path, keys),
        }
    }

    /// The number of the last record that is known.
    pub(super) fn upto(&self) -> Option<u64> {
        self.heads.last_key_value().map(|(sequence, _)| *sequence)
    }

    /// Why there is none, as the rest of a sentence.
    pub(super) fn why_none(&self) -> String {
        let why = self.why_none.clone();
        let why =
            why.unwrap_or_else(|| "no head of it is in what you can read of the journal".into());
        match self.foreign {
            0 => why,
            count => format!("{why} ({count} are of audit keys that were not given)"),
        }
    }

    /// What to say of heads that nothing could be checked with, beside those that count.
    pub(super) fn passed_over(&self) -> Option<String> {
        (self.foreign > 0 && !self.heads.is_empty()).then(|| {
            format!(
                "{} further heads there are of audit keys that were not given, so of another broker",
                self.foreign
            )
        })
    }

    /// Refuses heads that are newer than all that count and of a key that was not given. Keys from a
    /// file may be older than the journal: then the trail went on under a new key, and whoever has
    /// the one before could have written another end.
    ///
    /// # Errors
    /// Cannot verify; names the key.
    pub(super) fn require_all_known(&self) -> Result<(), Unproved> {
        let Some((sequence, kid)) = self.unknown_since else { return Ok(()) };
        Err(Unproved::Cannot(format!(
            "the trail cannot be verified to its end: {} goes on with a head for record {sequence} by \
             audit key {}, which is not among the keys given; give --keys the broker's present \
             keys.pub, or where that is another broker's key, --no-anchor",
            self.source,
            kid.hex()
        )))
    }

    fn of_file(path: &Path, keys: &BrokerKeys) -> Result<Self, Unproved> {
        let source = format!("the anchor in {}", safe(path.as_os_str().as_encoded_bytes()));
        let mut anchors = Self { source, ..Self::default() };
        let reader: Box<dyn BufRead> = if path == Path::new("-") {
            "the anchor on standard input".clone_into(&mut anchors.source);
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(path).map_err(|error| anchors.unreadable(&error))?;
            Box::new(BufReader::new(file))
        };
        anchors.take(reader, keys)?;
        if anchors.heads.is_empty() {
            let source = &anchors.source;
            anchors.why_none = Some(format!("{source} holds no head of the trail"));
            return Err(Unproved::Cannot(format!(
                "{}; give a saved journal of its olb-execd",
                anchors.why_none()
            )));
        }
        Ok(anchors)
    }

    fn of_journal(program: &Path, keys: &BrokerKeys) -> Result<Self, Unproved> {
        let mut anchors = Self { source: "the journal".into(), ..Self::default() };
        let mut child = match start(program) {
            Ok(child) => child,
            Err(error) => {
                anchors.why_none = Some(format!("journalctl cannot be started ({error})"));
                return Ok(anchors);
            }
        };
        let taken = child.stdout.take().map(|out| anchors.take(BufReader::new(out), keys));
        let mut complaint = Vec::new();
        if let Some(err) = child.stderr.take() {
            // It explains a failure that is noticed without it.
            err.take(COMPLAINT_BYTES).read_to_end(&mut complaint).ok();
        }
        let ended = child.wait();
        taken.transpose()?;
        // Whatever went wrong: a head that was read is one that the trail has to pass through.
        if anchors.heads.is_empty() && !ended.is_ok_and(|status| status.success()) {
            let complaint = safe(complaint.trim_ascii());
            anchors.why_none = Some(format!("the journal cannot be read ({complaint})"));
        }
        Ok(anchors)
    }

    fn take(&mut self, reader: impl BufRead, keys: &BrokerKeys) -> Result<(), Unproved> {
        for (number, line) in (1_u64..).zip(lines(reader)) {
            let line = line.map_err(|error| self.unreadable(&error))?;
            match anchor_in(&line) {
                Ok(None) => {}
                Ok(Some(anchor)) => self.add(anchor, keys)?,
                Err(Garbled) => {
                    return Err(Unproved::Cannot(format!(
                        "line {number} of {} is damaged; save it again (journalctl -o cat {})",
                        self.source,
                        MATCHES.join(" ")
                    )));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, anchor: Anchor, keys: &BrokerKeys) -> Result<(), Unproved> {
        if !keys.of_trail().iter().any(|key| key.kid() == anchor.kid) {
            self.foreign = self.foreign.saturating_add(1);
            self.unknown_since.get_or_insert((anchor.sequence, anchor.kid));
            return Ok(());
        }
        self.unknown_since = None;
        match self.heads.insert(anchor.sequence, anchor.head) {
            Some(other) if other != anchor.head => Err(Unproved::Broken(format!(
                "the trail is broken at record {}: {} holds two heads for it, so an older ledger was \
                 put back and went on from there; where that is known and meant, give --anchor a \
                 file of the lines since",
                anchor.sequence, self.source
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Unproved {
        Unproved::Cannot(format!("{} cannot be read ({error}); give another file", self.source))
    }
}

fn start(program: &Path) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["--quiet", "--no-pager", "--system", "--output=cat"]).args(MATCHES);
    command.env_clear().env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// The chain's head after a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    sequence: u64,
    head: ChainHead,
    kid: Kid,
}

/// A line begins as an anchor and does not go on as one.
#[derive(Debug, PartialEq, Eq)]
struct Garbled;

/// The anchor in a line of a log; `None` in every other line.
fn anchor_in(line: &[u8]) -> Result<Option<Anchor>, Garbled> {
    // What is not UTF-8 is no digit either.
    let line = String::from_utf8_lossy(line);
    let Some((_, mut message)) = line.split_once(NAME) else { return Ok(None) };
    // Logs may name the program too. Behind that begins the message, and only there an anchor: what
    // a message quotes is none.
    while let Some(rest) = message.strip_prefix(NAME) {
        message = rest;
    }
    match message.strip_prefix(MARK) {
        Some(words) => parse(words).ok_or(Garbled).map(Some),
        None => Ok(None),
    }
}

fn parse(text: &str) -> Option<Anchor> {
    let mut words = text.split(' ');
    let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    let [number, head, kid] = [value("sequence")?, value("head")?, value("kid")?];
    let sequence: u64 = number.parse().ok()?;
    let is_plain = words.next().is_none() && sequence > 0 && sequence.to_string() == number;
    let anchor =
        Anchor { sequence, head: ChainHead::from_hex(head).ok()?, kid: Kid::from_hex(kid).ok()? };
    is_plain.then_some(anchor)
}

#[cfg(test)]
mod tests;
