//! libFuzzer in front of [`fuzz::manifests`].
#![no_main]

fuzz::target!(manifests);
