//! olb-store
