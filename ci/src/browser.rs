//! The browser of the tests: Debian's `chromium`, without a window.

use std::path::Path;
use std::process::{Command, Output};

use crate::netns::Namespace;

/// How long the page may work before it is looked at, in ms.
const WORKING: u32 = 7_000;

/// The page at `url` as its scripts have made it after some seconds, as markup.
///
/// # Panics
/// If there is no chromium, or it fails.
pub fn document(namespace: &Namespace, url: &str) -> String {
    let output = browse(namespace, url, &["--dump-dom"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A picture of the page at `url` after some seconds, as a PNG file at `path`, so many pixels large.
///
/// # Panics
/// If there is no chromium, or it fails.
pub fn picture(namespace: &Namespace, url: &str, (width, height): (u32, u32), path: &Path) {
    let size = format!("--window-size={width},{height}");
    let file = format!("--screenshot={}", path.display());
    let output = browse(namespace, url, &[&size, &file]);
    assert!(
        path.is_file(),
        "chromium wrote no picture: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn browse(namespace: &Namespace, url: &str, arguments: &[&str]) -> Output {
    let known = Command::new("chromium").arg("--version").output();
    assert!(
        known.is_ok_and(|output| output.status.success()),
        "there is no chromium: `ci/run.sh deps` installs it"
    );
    let profile = tempfile::tempdir().unwrap_or_else(|error| panic!("no profile: {error}"));
    let mut command = namespace.command("timeout");
    command
        .args(["--kill-after=5", "90", "chromium", "--headless"])
        // Tests run as root, in a namespace of their own.
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args([
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
        ])
        .arg(format!("--timeout={WORKING}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(url)
        .env("HOME", profile.path());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run chromium: {error}"));
    assert!(
        output.status.success(),
        "chromium {url} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
