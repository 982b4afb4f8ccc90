//! The lab and what scenario tests share.
