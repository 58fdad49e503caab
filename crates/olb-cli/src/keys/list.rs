//! `olb keys list`: who may approve, who may no longer and why, and the broker's own keys.
//!
//! What is in force is the running broker's word; why something is not is read from the files, as
//! far as the caller may read them. Everything shown is public.

use std::path::Path;
use std::process::ExitCode;

use olb_exec_api::{Enrolled, Enrolment, Info, RecordPage};
use olb_lease::{Digest, Epoch, Kid, PublicKey, Record};
use olb_review::display::safe;
use olb_sys::clock::unix_secs;
use olb_wire::{Request, Response};
use serde_json::{Value, json};

use super::folder::{EnrolmentFile, Folder, Revocation, Standing};
use super::place::Place;
use super::root_half::RootHalf;
use crate::args::KeysListArgs;
use crate::client::{Runtime, Socket};
use crate::failure::Failure;
use crate::out::say;
use crate::text::time;
use crate::trust::BrokerKeys;
use crate::{json, text};

/// `olb keys list`.
pub(super) fn run(args: &KeysListArgs) -> ExitCode {
    match Listing::gather() {
        Ok(listing) => {
            if args.json {
                say!("{}", json::line(&listing.json()));
            } else {
                say!("{}", listing.lines().join("\n"));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

/// A key that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InForce {
    name: String,
    uid: u32,
    kid: Kid,
    key: [u8; 32],
    max_lease_secs: u32,
}

/// A file whose key does not decide.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Out {
    file: String,
    name: Option<String>,
    uid: Option<u32>,
    kid: Option<Kid>,
    /// `expired`, `revoked` or `left_out`.
    state: &'static str,
    why: String,
}

/// All that is listed.
#[derive(Debug, Default)]
struct Listing {
    in_force: Vec<InForce>,
    out: Vec<Out>,
    info: Option<Info>,
    /// When the epoch began, in seconds since the Unix epoch, where the caller may read that.
    epoch_since: Option<u64>,
    /// When the broker's keys were made, likewise.
    lease_since: Option<u64>,
    audit_since: Option<u64>,
    keys: Option<BrokerKeys>,
}

impl Listing {
    fn gather() -> Result<Self, Failure> {
        let runtime = Runtime::for_operator()?;
        let (info, epoch_since, silent) = match runtime.info(Socket::Review) {
            Ok(info) => {
                let since = since(&runtime, info.epoch, info.sequence);
                (Some(info), since, None)
            }
            Err(refused) => match runtime.info(Socket::Request) {
                Ok(info) => (Some(info), None, None),
                Err(_) => (None, None, Some(refused)),
            },
        };
        let place = Place::find(None).ok();
        // Root is served by the root half itself, also where root may neither ask nor decide.
        let asked = || RootHalf::of(&place.as_ref()?.runtime_dir).info().ok()?;
        let info = info.or_else(asked);
        let read = |place: &Place| Folder::read(&place.approvers_dir, place.owner).ok();
        let folder = place.as_ref().and_then(read);
        if let (Some(refused), None, None) = (silent, &folder, &info) {
            return Err(refused);
        }
        let made = |name: &str| modified(&place.as_ref()?.state_dir.join(name));
        let (lease_since, audit_since) = (made("lease.key"), made("audit.key"));
        let mut listing = Self { info, epoch_since, lease_since, audit_since, ..Self::default() };
        listing.keys = BrokerKeys::of(&runtime).ok();
        listing.fill(folder.unwrap_or_default(), unix_secs());
        Ok(listing)
    }

    /// Sorts keys by what the broker says, where one runs, and by the files.
    fn fill(&mut self, folder: Folder, now: u64) {
        let standings = folder.standings(now);
        let files = || folder.enrolments.iter().zip(&standings);
        self.in_force = match &self.info {
            Some(info) => info.enrolments.iter().map(InForce::from).collect(),
            None => files()
                .filter(|(_, standing)| **standing == Standing::InForce)
                .filter_map(|(one, _)| one.text.as_ref().ok().map(InForce::from))
                .collect(),
        };
        let listed: Vec<_> = self.in_force.iter().map(|one| one.kid).collect();
        self.out =
            files().filter_map(|(one, standing)| not_in_force(one, standing, &listed)).collect();
        self.out.extend(folder.revoked.iter().map(|(kid, revocation)| revoked(*kid, revocation)));
        self.out.extend(folder.stray.iter().map(|path| Out {
            why: "it revokes nothing; 'olb keys revoke' makes such files".into(),
            ..Out::of(path, "left_out")
        }));
    }
}

impl From<&Enrolment> for InForce {
    fn from(one: &Enrolment) -> Self {
        Self {
            name: one.name.clone(),
            uid: one.uid,
            kid: one.kid,
            key: one.key,
            max_lease_secs: one.lease_lifetime_secs,
        }
    }
}

impl From<&Enrolled> for InForce {
    fn from(one: &Enrolled) -> Self {
        Self {
            name: one.name.clone(),
            uid: one.uid,
            kid: one.key.kid(),
            key: *one.key.as_bytes(),
            max_lease_secs: one.max_lease_secs,
        }
    }
}

impl Out {
    fn of(path: &Path, state: &'static str) -> Self {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, name: None, uid: None, kid: None, state, why: String::new() }
    }
}

/// Why an enrolment file is not in force; `None` for one that is, or is listed as its revocation.
fn not_in_force(one: &EnrolmentFile, standing: &Standing, listed: &[Kid]) -> Option<Out> {
    let kid = one.key.as_ref().map(PublicKey::kid);
    let enrolled = one.text.as_ref().ok();
    let (state, why) = match standing {
        Standing::InForce if kid.is_some_and(|kid| listed.contains(&kid)) => return None,
        Standing::Revoked => return None,
        Standing::InForce => ("left_out", "the running broker does not take it".into()),
        Standing::Expired => {
            ("expired", format!("at {}", time(enrolled.map_or(0, |one| one.not_after))))
        }
        Standing::LeftOut(why) => ("left_out", why.clone()),
    };
    let (name, uid) = (enrolled.map(|one| one.name.clone()), enrolled.map(|one| one.uid));
    Some(Out { name, uid, kid, why, ..Out::of(&one.path, state) })
}

fn revoked(kid: Kid, revocation: &Revocation) -> Out {
    let note = |name: &str| revocation.notes.get(name).cloned();
    let at = note("revoked_at").and_then(|at| at.parse().ok());
    let since = at.map_or_else(|| "for ever".to_owned(), |at| format!("since {}", time(at)));
    let reason = note("reason").map(|reason| format!(": {reason}"));
    Out {
        name: note("name"),
        uid: note("uid").and_then(|uid| uid.parse().ok()),
        kid: Some(kid),
        why: since + &reason.unwrap_or_default(),
        ..Out::of(&revocation.path, "revoked")
    }
}

/// When a file was written, for those who may look.
fn modified(path: &Path) -> Option<u64> {
    let at = path.symlink_metadata().ok()?.modified().ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// When `epoch` began, for those who may read the trail. Every record names its epoch, and epochs
/// follow one another, so the first of this one is found by halving.
fn since(runtime: &Runtime, epoch: Epoch, last: u64) -> Option<u64> {
    let record = |from: u64| {
        let answer = runtime.ask(Socket::Review, &Request::Records { from }).ok()?;
        let Response::Records(page) = answer else { return None };
        let page = RecordPage::decode(&page).ok()?;
        Record::decode(&page.records.first()?.record).ok()
    };
    let (mut low, mut high) = (1, last);
    while low < high {
        let middle = low + (high - low) / 2;
        if record(middle)?.epoch == epoch {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    record(low).filter(|found| found.epoch == epoch).map(|found| found.at)
}

impl Listing {
    fn json(&self) -> Value {
        let keys = self.in_force.iter().map(|one| {
            json!({
                "name": one.name, "uid": one.uid, "kid": one.kid.hex(),
                "key": Digest(one.key).hex(), "max_lease_secs": one.max_lease_secs,
                "state": "in_force",
            })
        });
        let out = self.out.iter().map(|one| {
            json!({
                "file": one.file, "name": one.name, "uid": one.uid,
                "kid": one.kid.map(|kid| kid.hex()), "state": one.state, "why": one.why,
            })
        });
        let info = self.info.as_ref();
        let pair = |kid: String, hex: String, since: Option<u64>| json!({ "kid": kid, "key": hex, "since": since.map(time) });
        let trusted = self.keys.as_ref();
        let lease = trusted.and_then(|keys| keys.lease.first());
        let audit = trusted.and_then(|keys| keys.audit.first());
        let retired = trusted.map(|keys| keys.retired.as_slice()).unwrap_or_default();
        json!({
            "keys": keys.collect::<Vec<_>>(),
            "out": out.collect::<Vec<_>>(),
            "broker": {
                "running": info.is_some(),
                "host": info.map(|info| info.host.as_str()),
                "epoch": info.map(|info| info.epoch.hex()),
                "epoch_since": self.epoch_since.map(time),
                "lease": lease.map(|key| pair(key.kid().hex(), key.hex(), self.lease_since)),
                "audit": audit.map(|key| pair(key.kid().hex(), key.hex(), self.audit_since)),
                "audit_retired":
                    retired
                    .iter()
                    .map(|key| json!({ "kid": key.kid().hex(), "key": key.hex() }))
                    .collect::<Vec<_>>(),
            },
        })
    }

    fn lines(&self) -> Vec<String> {
        let row = |name: &str, uid: Option<u32>, kid: Option<Kid>, state: &str| {
            let uid = uid.map(|uid| uid.to_string()).unwrap_or_else(|| "-".into());
            let kid = kid.map(|kid| kid.hex()).unwrap_or_else(|| "-".into());
            format!("{:<20} {uid:>10} {kid:<16} {}", safe(name.as_bytes()), safe(state.as_bytes()))
        };
        let mut lines = vec![format!("{:<20} {:>10} {:<16} STATE", "NAME", "UID", "KEY ID")];
        for one in &self.in_force {
            let state = format!("in force, leases of at most {} s", one.max_lease_secs);
            lines.push(row(&one.name, Some(one.uid), Some(one.kid), &state));
        }
        for one in &self.out {
            let state = format!("{} {} ({})", one.state.replace('_', " "), one.why, one.file);
            lines.push(row(one.name.as_deref().unwrap_or("-"), one.uid, one.kid, &state));
        }
        lines.push(String::new());
        let signs = |what: &str, since: Option<u64>| {
            let since = since.map(|at| format!(" since {}", time(at))).unwrap_or_default();
            format!("signs {what}{since}")
        };
        if let Some(keys) = &self.keys {
            for key in &keys.lease {
                let state = signs("leases", self.lease_since);
                lines.push(row("lease key", None, Some(key.kid()), &state));
            }
            for key in &keys.audit {
                let state = signs("the trail", self.audit_since);
                lines.push(row("audit key", None, Some(key.kid()), &state));
            }
            for key in &keys.retired {
                let state = "retired: verifies what it signed, and nothing else";
                lines.push(row("audit key", None, Some(key.kid()), state));
            }
        }
        lines.push(match &self.info {
            Some(info) => {
                let since = self.epoch_since.map(|at| format!(", since {}", time(at)));
                let (host, since) = (safe(info.host.as_bytes()), since.unwrap_or_default());
                format!("The broker of {host} runs in epoch {}{since}.", info.epoch.hex())
            }
            None => format!("{} What is listed is what the files say.", text::NO_BROKER),
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::tests::{key, text};
    use super::*;

    fn listing(info: Option<Info>) -> Listing {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.conf", &text("alice", 1, 0));
        write("b.conf", &text("bob", 2, 50));
        write("c.conf", &text("carol", 3, 0).replace("uid = 1000\n", ""));
        let lost = "name = dave\nuid = 1003\nrevoked_at = 1795361400\nreason = lost\u{1b}[2J\n";
        write(&format!("{}.revoked", key(4).kid().hex()), lost);
        write("erin.revoked", "");
        let folder = Folder::read(dir.path(), olb_sys::harden::effective_uid()).unwrap();
        let mut listing = Listing { info, ..Listing::default() };
        listing.fill(folder, 60);
        listing
    }

    #[test]
    fn every_key_is_listed_once_with_the_reason_why_it_is_out() {
        let object = listing(None).json();
        assert_eq!(object["keys"].as_array().unwrap().len(), 1);
        assert_eq!(object["keys"][0]["name"], "alice");
        assert_eq!(object["keys"][0]["kid"], key(1).kid().hex());
        let states: Vec<_> = object["out"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["file"].as_str().unwrap(), one["state"].as_str().unwrap()))
            .collect();
        let revoked = format!("{}.revoked", key(4).kid().hex());
        let want = [
            ("b.conf", "expired"),
            ("c.conf", "left_out"),
            (&revoked, "revoked"),
            ("erin.revoked", "left_out"),
        ];
        assert_eq!(states, want);
        assert_eq!(object["out"][0]["why"], "at 1970-01-01T00:00:50Z");
        assert_eq!(object["out"][1]["why"], "'uid' is missing");
        assert_eq!(object["out"][2]["name"], "dave");
        assert_eq!(object["broker"]["running"], false);
    }

    #[test]
    fn what_is_written_in_files_cannot_act_on_a_terminal() {
        let lines = listing(None).lines().join("\n");
        assert!(lines.contains("since 2026-11-22T15:30:00Z: lost\\u{1b}[2J"), "{lines}");
        assert!(lines.chars().all(|sign| sign == '\n' || olb_review::display::is_safe(sign)));
    }

    #[test]
    fn what_a_running_broker_does_not_take_is_not_called_in_force() {
        let listing = listing(Some(crate::testing::info()));
        assert!(listing.in_force.is_empty());
        assert_eq!((listing.out[0].file.as_str(), listing.out[0].state), ("a.conf", "left_out"));
    }
}
