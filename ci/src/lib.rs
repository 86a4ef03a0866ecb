//! Test harness: network namespaces, the processes inside them, and what the tests send through.
//!
//! An end-to-end test builds a whole small network out of kernel namespaces, starts the real
//! programs in it and talks to them as a client would. Everything a test makes has a name with the
//! test's process id in it and goes away when the value that stands for it is dropped, so tests
//! run in parallel, beside each other and beside a demo.
//!
//! | Layer | Modules |
//! |---|---|
//! | a Kubernetes cluster around it, a course of kills, a virtual machine | [`cluster`], [`soak`], [`vm`] |
//! | the commands of the documentation, and a machine to type them on | [`book`], [`sandbox`] |
//! | a whole gateway with clients and pods | [`topology`], [`gateway`], [`manifests`], [`perf`] |
//! | what talks through it, or to it | [`browse`], [`browser`], [`chatter`], [`nginx`], [`curl`], [`echo`], [`crowd`], [`bulk`], [`dial`], [`terminal`] |
//! | raw frames | [`capture`], [`frames`] |
//! | the ground | [`netns`], [`process`], [`wait`], [`over`], [`limits`], [`random`] |
//!
//! Modules use only modules of the rows below their own.
//!
//! The harness reports a broken environment by panicking with a sentence, as an assertion does:
//! its only callers are tests.

#![forbid(unsafe_code)]

pub mod book;
pub mod browse;
pub mod browser;
pub mod bulk;
pub mod capture;
pub mod chatter;
pub mod cluster;
pub mod crowd;
pub mod curl;
pub mod dial;
pub mod echo;
pub mod frames;
pub mod gateway;
pub mod hold;
pub mod limits;
pub mod manifests;
pub mod netns;
pub mod nginx;
pub mod over;
pub mod perf;
pub mod process;
pub mod random;
pub mod sandbox;
pub mod soak;
pub mod terminal;
pub mod topology;
pub mod vm;
pub mod wait;
