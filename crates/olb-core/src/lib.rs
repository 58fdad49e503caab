//! olb-core
