//! READ: answers about public things.

use olb_exec_api::{
    Decided, Enrolment, Info, Limit, Query, Reason, RecordPage, Refusal, RequestState,
    SequencedRecord, encode_info,
};
use olb_lease::PlanDigest;
use olb_ledger::LedgerError;
use olb_sys::clock::{boottime_ms, unix_secs};

use crate::broker::Broker;
use crate::decide::to_recorded;

/// Bytes of records in one page; what is around them still fits the datagram.
const PAGE_BYTES: usize = 160 * 1024;

/// Answers a query.
///
/// # Errors
/// The query is not one, or the ledger cannot be read.
pub fn read(broker: &Broker, query: &[u8]) -> Result<Vec<u8>, Refusal> {
    let query = Query::decode(query)
        .ok_or_else(|| Refusal::new(Reason::Malformed, "not a query of this protocol"))?;
    let answer = match query {
        Query::Info => info(broker).map(|info| encode_info(&info)),
        Query::Records { from } => records(broker, from).map(|page| page.encode()),
        Query::Request { plan } => request(broker, plan).map(|state| state.encode()),
    };
    answer.map_err(|error| broker.ledger_refusal(&error))
}

fn info(broker: &Broker) -> Result<Info, LedgerError> {
    let (sequence, _) = broker.ledger.head()?;
    let enrolments = broker.enrolments(unix_secs()).into_iter().map(|one| Enrolment {
        kid: one.key.kid(),
        key: *one.key.as_bytes(),
        name: one.name,
        uid: one.uid,
        lease_lifetime_secs: one.max_lease_secs.min(broker.config.limits.lease_lifetime_secs),
    });
    let limits = broker.config.limits.named();
    Ok(Info {
        host: broker.config.host.clone(),
        audience: broker.audience,
        epoch: broker.epoch,
        lease_key: *broker.lease_key.public().as_bytes(),
        audit_key: *broker.audit_key.as_bytes(),
        sequence,
        boundary: broker.has_boundary(),
        requesters: broker.config.requesters.clone(),
        enrolments: enrolments.collect(),
        limits: limits.map(|(name, value)| Limit { name: name.into(), value }).into(),
        staging: broker.staging.as_ref().map_or_else(Vec::new, |staging| staging.dir().into()),
    })
}

fn records(broker: &Broker, from: u64) -> Result<RecordPage, LedgerError> {
    let records = broker.ledger.records(from, PAGE_BYTES)?;
    let records = records.into_iter().map(|(sequence, record, receipt)| SequencedRecord {
        sequence,
        record,
        receipt,
    });
    Ok(RecordPage { records: records.collect() })
}

fn request(broker: &Broker, plan: PlanDigest) -> Result<RequestState, LedgerError> {
    let row = broker.ledger.peek(plan)?;
    let (now, boot_now) = (unix_secs(), boottime_ms());
    let lease = row.lease.filter(|lease| !row.burned && lease.is_live(now, boot_now));
    let expires_at = lease.as_ref().map_or(0, |lease| lease.expires_at);
    let decided = row.decided.map(|(_, receipt)| Decided {
        receipt,
        lease: lease.map(|lease| lease.bytes),
        expires_at,
    });
    Ok(RequestState { decided, burned: row.burned, recorded: row.recorded.map(to_recorded) })
}
