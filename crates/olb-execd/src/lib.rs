//! olb-execd
