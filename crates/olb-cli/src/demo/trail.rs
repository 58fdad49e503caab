//! What the audit trail tells about the demo's request.

use anyhow::{Context, Result, bail};
use olb_exec_api::RecordPage;
use olb_lease::{Record, RecordEvent};
use olb_wire::{Request, Response};

use super::stage::Stage;
use crate::client::Socket;

/// How many runs of this request are recorded as over.
///
/// # Errors
/// The trail cannot be fetched or does not read.
pub(super) fn executions(stage: &Stage<'_>, id: &str) -> Result<u64> {
    let mut count = 0;
    let mut from = 1;
    loop {
        let answer = stage.runtime().ask(Socket::Review, &Request::Records { from })?;
        let Response::Records(page) = answer else {
            bail!("the broker's answer is of the wrong kind");
        };
        let page = RecordPage::decode(&page).context("the audit trail does not read")?;
        let Some(last) = page.records.last() else { return Ok(count) };
        from = last.sequence.saturating_add(1);
        for one in &page.records {
            let record = Record::decode(&one.record).context("an audit record does not read")?;
            count += u64::from(is_run_of(&record, id));
        }
    }
}

fn is_run_of(record: &Record, id: &str) -> bool {
    match &record.event {
        RecordEvent::Finished { plan, .. } => plan.request_id().to_string() == id,
        RecordEvent::EpochBegan { .. }
        | RecordEvent::Decided { .. }
        | RecordEvent::Burned { .. }
        | RecordEvent::Refused { .. }
        | RecordEvent::KeyEnded { .. } => false,
    }
}
