//! olb-ledger
