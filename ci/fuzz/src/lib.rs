//! Fuzz targets: one function for each decoder of bytes that come from elsewhere.
//!
//! A target takes any bytes, gives them to the code under test and checks what must hold whatever they
//! are; it panics if it does not. The binaries in `src/bin` put libFuzzer in front (feature `libfuzzer`,
//! `ci/run.sh fuzz`); the test `kept` runs every seed and every input that once failed through the same
//! functions in an ordinary build.
//!
//! | Target | Bytes of | What must hold |
//! |---|---|---|
//! | [`mod@frame`] | everybody on the network | as the next, for one frame of free bytes |
//! | [`mod@pipeline`] | everybody on the network | see there: a whole gateway, several frames, time, changes |
//! | [`mod@records`] | the other process | a message or a typed error; what is accepted encodes to the same records |
//! | [`mod@region`] | the other process | attaching, rings, journal and link names of any region: values or typed errors |
//! | [`mod@manifests`] | the cluster, operators' files | objects or warnings, and a policy for whatever came out |
//! | [`mod@settings`] | the operator | settings or one sentence; devices read back as they are written |
#![forbid(unsafe_code)]

use std::path::PathBuf;

pub mod checksum;
pub mod frame;
pub mod input;
pub mod kept;
pub mod manifests;
pub mod pipeline;
pub mod records;
pub mod region;
pub mod settings;

/// A target: panics when something does not hold.
pub type Target = fn(&[u8]);

/// Every target with its name, which is also that of its folders and of its binary.
pub const TARGETS: &[(&str, Target)] = &[
    ("frame", frame::run),
    ("pipeline", pipeline::run),
    ("records", records::run),
    ("region", region::run),
    ("manifests", manifests::run),
    ("settings", settings::run),
];

/// A folder of this thread of this process, below the one that the environment names in
/// `PORTGATE_FUZZ_SCRATCH` (`ci/run.sh fuzz` takes one in memory, and removes it), or the system's.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
pub fn scratch() -> PathBuf {
    let base = std::env::var_os("PORTGATE_FUZZ_SCRATCH");
    let base = base.map_or_else(std::env::temp_dir, PathBuf::from);
    let thread = format!("{:?}", std::thread::current().id());
    let number: String = thread.chars().filter(char::is_ascii_digit).collect();
    let folder = base.join(format!("portgate-fuzz-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder for fuzzing can be made");
    folder
}

/// The binary of a target. When an input of `frame` or `pipeline` fails, those before it are kept too.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        libfuzzer_sys::fuzz_target!(
            init: $crate::report_chains(stringify!($name)),
            |bytes: &[u8]| $crate::$name::run(bytes)
        );
    };
}

/// Has what [`pipeline::chain::file`] gives written to the working directory when a target panics.
#[cfg(feature = "libfuzzer")]
pub fn report_chains(name: &'static str) {
    if !["frame", "pipeline"].contains(&name) {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = format!("chain-{}", std::process::id());
        match std::fs::write(&file, pipeline::chain::file()) {
            Ok(()) => eprintln!("the inputs of this gateway are in {file}"),
            Err(error) => {
                eprintln!("the inputs of this gateway cannot be written to {file}: {error}")
            }
        }
        before(panic);
    }));
}
