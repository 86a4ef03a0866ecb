//! libFuzzer in front of [`fuzz::frame`].
#![no_main]

fuzz::target!(frame);
