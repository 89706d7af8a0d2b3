//! relay

pub mod pump;
pub mod splice;
