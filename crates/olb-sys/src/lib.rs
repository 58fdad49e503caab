//! olb-sys
