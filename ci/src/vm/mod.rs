//! A virtual machine that owns its NICs: QEMU with an emulated IOMMU, attached to a [`Topology`](crate::topology::Topology).
//!
//! ```text
//!   client ──veth── outside ─ bridge ─ tap ═ NIC 0000:00:10.0 ┐
//!                                                              │ guest: vfio-pci, portgate
//!   pods ─ switch ─veth── pods ─ bridge ─ tap ═ NIC 0000:00:11.0 ┘
//!                          operator 192.0.2.1 ─ tap ═ NIC that the guest's kernel keeps, 192.0.2.2
//! ```
//!
//! QEMU runs in the topology's namespace `gateway`, where else the gateway's processes run. The guest is a bare
//! Debian, made by `ci/vm/build.sh`, with a pair of NICs of each [`Model`] on its [`Board`], of which one has cables at a time.
//! Whoever uses it logs in by ssh, as an operator would.

mod image;
mod login;
mod machine;
mod model;
mod qemu;

pub use image::Image;
pub use machine::Machine;
pub use model::{Board, Model, POD_MTU, SPARE};
