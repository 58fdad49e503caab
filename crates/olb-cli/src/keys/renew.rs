//! `olb keys rotate approver`: another key for a person.
//!
//! The new key is made beside the old one, which goes on deciding until root has enrolled the new
//! one and the person says so (`--finish`). The old one is kept until told (`--forget`). Each step
//! is one name that appears or is replaced, so that after a crash at least one key is there whole.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use olb_exec_api::Info;
use olb_lease::{Approver, PublicKey, SigningKey};
use olb_review::display::safe;
use olb_sys::file::write_new_private;
use serde_json::{Map, Value};

use super::write::sync_folder_of;
use super::{own_path, seed};
use crate::args::RotateArgs;
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::json;
use crate::out::say;

/// `olb keys rotate approver`.
pub(super) fn run(args: &RotateArgs) -> ExitCode {
    let renewed = Runtime::for_operator().and_then(|runtime| {
        if args.config.is_some() || args.no_restart {
            let text = "--config and --no-restart are for the broker's keys; leave them out";
            return Err(Failure::usage(text));
        }
        let files = Files::of(own_path(args.key.as_deref(), &runtime)?);
        match (args.finish, args.forget) {
            (true, _) => files.finish(&info(&runtime)?),
            (false, true) => files.forget(&info(&runtime)?),
            (false, false) => files.begin(),
        }
    });
    match renewed {
        Ok(renewed) if args.json => {
            say!("{}", json::line(&renewed.json()));
            ExitCode::SUCCESS
        }
        Ok(renewed) => {
            say!("{}", renewed.text());
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(args.json),
    }
}

fn info(runtime: &Runtime) -> Result<Info, Failure> {
    runtime.info(Socket::Review).map_err(|failure| {
        let text = format!("{}; whether a key is enrolled cannot be seen without it", failure.text);
        Failure::new(code::UNAVAILABLE, "unavailable", text)
    })
}

/// A person's key and its two neighbours.
#[derive(Debug)]
struct Files {
    key: PathBuf,
    new: PathBuf,
    old: PathBuf,
}

/// What was done.
#[derive(Debug)]
enum Step {
    /// The new key waits beside the old one.
    Begun,
    /// The new key is the one to sign with.
    Finished,
    /// No old key is kept.
    Forgotten,
}

#[derive(Debug)]
struct Renewed {
    step: Step,
    old: Option<PublicKey<Approver>>,
    new: PublicKey<Approver>,
    /// Where the key is that the step is about.
    path: PathBuf,
}

impl Files {
    fn of(key: PathBuf) -> Self {
        let beside = |suffix: &str| {
            let mut name = key.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            key.with_file_name(name)
        };
        Self { new: beside(".new"), old: beside(".old"), key }
    }

    /// Makes the new key, unless it waits already.
    fn begin(&self) -> Result<Renewed, Failure> {
        let old = read(&self.key)?.ok_or_else(|| {
            let shown = safe(self.key.as_os_str().as_encoded_bytes());
            Failure::refused(
                "no_key",
                format!("{shown} is no key to rotate; see 'olb keys create'"),
            )
        })?;
        if let Some(kept) = read(&self.old)?.filter(|kept| !is_same(kept, &old)) {
            return Err(self.still_kept(&kept));
        }
        let new = match read(&self.new)? {
            Some(new) => new,
            None => self.make().map_err(|error| failed(&self.new, &error))?,
        };
        let (old, new) = (Some(old.public().clone()), new.public().clone());
        Ok(Renewed { step: Step::Begun, old, new, path: self.new.clone() })
    }

    fn make(&self) -> io::Result<SigningKey<Approver>> {
        let (seed, key) = seed::fresh::<Approver>()?;
        write_new_private(&self.new, &seed::to_hex(&seed), 0o600)?;
        Ok(key)
    }

    /// Puts the new key in the old one's place and keeps that one.
    fn finish(&self, info: &Info) -> Result<Renewed, Failure> {
        let new = read(&self.new)?.ok_or_else(|| {
            Failure::usage("no new key waits; begin with 'olb keys rotate approver'")
        })?;
        if !is_enrolled(info, &new) {
            return Err(Failure::refused(
                "not_enrolled",
                format!(
                    "the new key {} is not enrolled yet, so you go on signing with the old one; \
                     root enrols it as 'olb keys rotate approver' says",
                    new.public().kid().hex()
                ),
            ));
        }
        let old = read(&self.key)?;
        match (&old, read(&self.old)?) {
            (Some(_), None) => {
                fs::hard_link(&self.key, &self.old)
                    .and_then(|()| sync_folder_of(&self.old))
                    .map_err(|error| failed(&self.old, &error))?;
            }
            // A link that an earlier attempt made before it was interrupted.
            (Some(_), Some(_)) if is_one_file(&self.key, &self.old) => {}
            (_, Some(kept)) => return Err(self.still_kept(&kept)),
            (None, None) => {}
        }
        fs::rename(&self.new, &self.key)
            .and_then(|()| sync_folder_of(&self.key))
            .map_err(|error| failed(&self.key, &error))?;
        let (old, new) = (old.map(|old| old.public().clone()), new.public().clone());
        Ok(Renewed { step: Step::Finished, old, new, path: self.old.clone() })
    }

    /// Deletes the old key, which root has revoked.
    fn forget(&self, info: &Info) -> Result<Renewed, Failure> {
        let key = read(&self.key)?.ok_or_else(|| {
            Failure::usage("there is no key but the old one, which is not deleted then")
        })?;
        let kept = read(&self.old)?;
        if let Some(kept) = &kept {
            if is_same(kept, &key) {
                let text = "the old key is the one you sign with; go on with --finish first";
                return Err(Failure::usage(text));
            }
            if is_enrolled(info, kept) {
                return Err(self.still_kept(kept));
            }
            fs::remove_file(&self.old)
                .and_then(|()| sync_folder_of(&self.old))
                .map_err(|error| failed(&self.old, &error))?;
        }
        let (old, new) = (kept.map(|kept| kept.public().clone()), key.public().clone());
        Ok(Renewed { step: Step::Forgotten, old, new, path: self.old.clone() })
    }

    fn still_kept(&self, kept: &SigningKey<Approver>) -> Failure {
        Failure::refused(
            "old_key_kept",
            format!(
                "{} still holds an older key; have root run 'olb keys revoke {}', then run 'olb \
                 keys rotate approver --forget'",
                safe(self.old.as_os_str().as_encoded_bytes()),
                kept.public().hex()
            ),
        )
    }
}

/// The key at `path`, if there is one.
fn read(path: &Path) -> Result<Option<SigningKey<Approver>>, Failure> {
    match seed::read(path) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(Failure::refused("no_key", error.to_string())),
    }
}

fn is_same(one: &SigningKey<Approver>, other: &SigningKey<Approver>) -> bool {
    one.public().as_bytes() == other.public().as_bytes()
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()));
    id(one).is_some_and(|found| id(other) == Some(found))
}

fn is_enrolled(info: &Info, key: &SigningKey<Approver>) -> bool {
    let caller = olb_sys::harden::effective_uid();
    info.enrolments.iter().any(|one| one.uid == caller && one.key == *key.public().as_bytes())
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let shown = safe(path.as_os_str().as_encoded_bytes());
    let why = match error.kind() {
        ErrorKind::AlreadyExists => "it was made just now by another 'olb keys rotate'".to_owned(),
        _ => error.to_string(),
    };
    Failure::usage(format!("{shown} cannot be written ({why}); your key is as it was"))
}

impl Renewed {
    fn text(&self) -> String {
        let (new, path) = (&self.new, safe(self.path.as_os_str().as_encoded_bytes()));
        let kid = new.kid().hex();
        match (&self.step, &self.old) {
            (Step::Begun, Some(old)) => format!(
                "The new key {kid} is in {path}. You sign with the old one, {}, until the end:\n  \
                 1. root:  olb keys enroll --replaces {} --key {}\n  \
                 2. you:   olb keys rotate approver --finish\n  \
                 3. root:  olb keys revoke {}\n  \
                 4. you:   olb keys rotate approver --forget",
                old.kid().hex(),
                old.kid().hex(),
                new.hex(),
                old.hex()
            ),
            (Step::Finished, Some(old)) => format!(
                "You sign with {kid} now. The old key is kept in {path}: have root run 'olb keys \
                 revoke {}', then run 'olb keys rotate approver --forget'.",
                old.hex()
            ),
            (Step::Forgotten, Some(old)) => format!("The old key {} is deleted.", old.kid().hex()),
            (Step::Begun | Step::Finished, None) => format!("You sign with {kid} now."),
            (Step::Forgotten, None) => "No old key is kept.".to_owned(),
        }
    }

    fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let step = match self.step {
            Step::Begun => "begun",
            Step::Finished => "finished",
            Step::Forgotten => "forgotten",
        };
        object.insert("rotated".into(), "approver".into());
        object.insert("step".into(), step.into());
        object.insert("kid".into(), self.new.kid().hex().into());
        object.insert("key".into(), self.new.hex().into());
        object.insert("old_kid".into(), self.old.as_ref().map(|old| old.kid().hex()).into());
        object.insert("old_key".into(), self.old.as_ref().map(PublicKey::hex).into());
        json::put_bytes(&mut object, "path", self.path.as_os_str().as_encoded_bytes());
        object
    }
}

#[cfg(test)]
mod tests;
