//! `olb lease inspect`: every claim of a lease, the verdict of each check, and why.

use std::process::ExitCode;

use olb_exec_api::Info;
use olb_lease::{RawLease, armor};
use olb_review::display::safe;
use olb_wire::RequestView;

use crate::args::{InspectArgs, LeaseCommand};
use crate::client::{Runtime, Socket};
use crate::failure::{Failure, code};
use crate::out::{say, say_text};
use crate::trust::BrokerKeys;
use crate::{json, status};

mod inspection;

use inspection::Inspection;

/// `olb lease`.
pub(crate) fn run(command: &LeaseCommand) -> ExitCode {
    let LeaseCommand::Inspect(args) = command;
    match inspect(args) {
        Ok(inspection) => {
            if args.text {
                say_text!("{}", inspection.lines());
            } else {
                say!("{}", json::line(&inspection.json()));
            }
            if inspection.is_good() { ExitCode::SUCCESS } else { ExitCode::from(code::REFUSED) }
        }
        Err(failure) => failure.report(!args.text),
    }
}

/// What a lease is checked against.
struct Known {
    keys: BrokerKeys,
    /// What the broker says of itself; `None` where none is asked.
    info: Option<Info>,
    /// What the broker says of the lease's request; else why it says nothing.
    request: Result<Box<RequestView>, String>,
}

impl Known {
    /// From a file of keys: they may be of another host, so no broker is asked.
    fn offline(keys: BrokerKeys) -> Self {
        Self { keys, info: None, request: Err("no broker was asked, because of --keys".into()) }
    }

    /// From the running broker.
    fn of_running(runtime: &Runtime, lease: &str) -> Result<Self, Failure> {
        let keys = BrokerKeys::of(runtime).map_err(|error| {
            let text = format!("{error}; or give the keys with --keys");
            Failure::new(code::UNAVAILABLE, "unavailable", text)
        })?;
        let info = runtime.info(Socket::Request).or_else(|_| runtime.info(Socket::Review)).ok();
        let request = match request_of(lease) {
            Some(id) => status::find(runtime, &id).map_err(|failure| failure.text),
            None => Err("the lease does not read".into()),
        };
        Ok(Self { keys, info, request })
    }
}

/// The id of the request that a lease says it is for.
fn request_of(lease: &str) -> Option<String> {
    let bytes = armor::decode(lease).ok()?;
    let claims = RawLease::parse(&bytes).ok()?.unverified_claims().ok()?;
    Some(claims.plan.request_id().to_string())
}

fn inspect(args: &InspectArgs) -> Result<Inspection, Failure> {
    let lease = match (&args.lease, &args.lease_file) {
        (Some(lease), _) => lease.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            let shown = safe(path.as_os_str().as_encoded_bytes());
            Failure::usage(format!("the lease in {shown} cannot be read ({error})"))
        })?,
        (None, None) => return Err(Failure::usage("give the lease, or --lease-file F")),
    };
    let known = match &args.keys {
        Some(path) => Known::offline(BrokerKeys::read(path).map_err(Failure::usage)?),
        None => Known::of_running(&Runtime::for_requester(), &lease)?,
    };
    Ok(Inspection::new(&lease, &known, olb_sys::clock::unix_secs()))
}

#[cfg(test)]
mod tests;
