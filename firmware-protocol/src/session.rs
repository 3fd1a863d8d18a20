//! One device's session.
pub mod stored;
