//! libFuzzer in front of [`fuzz::records`].
#![no_main]

fuzz::target!(records);
