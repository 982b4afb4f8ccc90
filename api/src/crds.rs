//! The custom resources: four that users write (`app.redislabs.com`) and two between our own parts (`meridian.dev`).

pub mod instance;
mod open_enum;
pub mod shared;
pub mod topology;
