//! olb-brokerd
