//! What the process says about itself, over HTTP.
//!
//! [`Health`] is what the main loop knows; [`serve`] answers `/readyz`, `/livez`, `/metrics` and `/unproxied`,
//! and for a gateway that is a node also what load balancers and autoscalers ask kube-proxy;
//! [`node_ports`] answers the health checks of single services.

mod facts;
pub mod node_ports;
pub mod serve;

pub use facts::{Facts, Health};

#[cfg(test)]
mod tests;
