//! olb-cli
