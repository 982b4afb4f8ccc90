//! The agent acts in one Kubernetes cluster: it is the database operator of one namespace, and of the databases of
//! others that it is told of ([`namespaces`]). It keeps one outbound stream to the hub, and never needs the hub to keep
//! databases serving.
//!
//! Module map: [`run`] is the only composition root. [`controllers`], [`rigger`] and [`link`] do not import one
//! another; they meet in the Kubernetes API. [`admission`] answers in every replica, the others act in the leader.
//! Only [`k8s`], [`admission`] and the `fetch`, `apply` and `status` steps of a
//! controller take a Kubernetes client; `build` and `placement` are pure.
//!
//! Users of the library: the binary `meridian-agent`, and the scenario tests.

pub mod admission;
pub mod args;
pub mod clock;
pub mod controllers;
pub mod k8s;
pub mod link;
pub mod metrics;
pub mod namespaces;
pub mod probes;
pub mod rigger;
pub mod run;
