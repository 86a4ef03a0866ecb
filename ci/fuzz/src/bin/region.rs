//! libFuzzer in front of [`fuzz::region`].
#![no_main]

fuzz::target!(region);
