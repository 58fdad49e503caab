//! olb-review
