//! The HTTP client of the tests: `curl`, as a person would run it.

use crate::netns::Namespace;

/// Fetches `url` from inside `namespace` within five seconds.
///
/// # Errors
/// What curl said, with its exit code in front (7: refused, 28: timeout).
pub fn get(namespace: &Namespace, url: &str) -> Result<String, String> {
    let mut command = namespace.command("curl");
    // -g: brackets around IPv6 addresses are no pattern.
    command.args(["-sS", "-g", "--noproxy", "*", "--max-time", "5", url]);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run curl: {error}"));
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{} {said}", output.status.code().unwrap_or(-1)))
}

/// Fetches `url` and checks that the body is `expected`.
///
/// # Panics
/// With both bodies, or with what curl said.
pub fn expect(namespace: &Namespace, url: &str, expected: &str) {
    match get(namespace, url) {
        Ok(body) => assert_eq!(body, expected, "unexpected answer from {url}"),
        Err(said) => panic!("curl {url} failed: {said}"),
    }
}
