//! libFuzzer in front of [`fuzz::pipeline`].
#![no_main]

fuzz::target!(pipeline);
