//! From manifests to verdicts: conversion and policy, judged by what their objects do to packets.

#![allow(clippy::unwrap_used)] // In helpers too, a test that cannot go on fails.

mod conformance_vectors;
mod edge_gateways;
mod evaluator;
mod lenient_conversion;
mod scale;
mod service_map;
mod service_rules;
mod world;
