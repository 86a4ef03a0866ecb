//! libFuzzer in front of [`fuzz::settings`].
#![no_main]

fuzz::target!(settings);
