//! The browser of the tests: Debian's `chromium`, without a window, told what to do over its debugging pipe.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::netns::Namespace;

/// The browser reads commands from descriptor 3 and answers on 4 (`--remote-debugging-pipe`): what a child has as
/// its first two.
const OVER_PIPES: &str =
    "exec timeout --kill-after=5 90 chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// A browser with one page open; ended on drop.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    sent: u64,
    _profile: TempDir,
}

impl Browser {
    /// Opens `url` inside `namespace`, in a window of so many pixels.
    ///
    /// # Panics
    /// If there is no chromium, or it fails.
    pub fn open(namespace: &Namespace, url: &str, (width, height): (u32, u32)) -> Self {
        let known = Command::new("chromium").arg("--version").output();
        assert!(
            known.is_ok_and(|output| output.status.success()),
            "there is no chromium: `ci/run.sh deps` installs it"
        );
        let profile = tempfile::tempdir().unwrap_or_else(|error| panic!("no profile: {error}"));
        let mut command = namespace.command("sh");
        command
            .args([
                "-c",
                OVER_PIPES,
                "sh",
                "--headless",
                "--remote-debugging-pipe",
            ])
            // Tests run as root, in a namespace of their own.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--no-first-run",
                "--hide-scrollbars",
                "--disable-background-networking",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run chromium: {error}"));
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (commands, answers) = pipes.unwrap_or_else(|| panic!("chromium has no pipes"));
        let mut browser = Self {
            child,
            commands,
            answers: BufReader::new(answers),
            session: None,
            sent: 0,
            _profile: profile,
        };
        let blank = json!({"url": "about:blank"});
        let target = browser.call("Target.createTarget", blank)["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        browser.session = session.as_str().map(str::to_owned);
        let exactly = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        browser.call("Emulation.setDeviceMetricsOverride", exactly);
        browser.call("Page.navigate", json!({"url": url}));
        browser
    }

    /// The page as its scripts have made it by now, as markup; empty before it has come.
    ///
    /// # Panics
    /// If the browser fails, as in the other methods.
    pub fn document(&mut self) -> String {
        let markup = self.evaluate("document.documentElement?.outerHTML ?? ''");
        markup.as_str().unwrap_or_default().to_owned()
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let wanted = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", wanted);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].clone()
    }

    /// A picture of the page as it is by now, as a PNG file.
    pub fn picture(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        decoded(answer["data"].as_str().unwrap_or_default())
    }

    /// Tells the browser something and waits for its answer; what it says besides is dropped.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let written = write!(self.commands, "{message}\0").and_then(|()| self.commands.flush());
        written.unwrap_or_else(|error| panic!("chromium takes no {method}: {error}"));
        loop {
            let mut answer = Vec::new();
            let read = self.answers.read_until(0, &mut answer);
            assert!(
                read.is_ok_and(|read| read > 0),
                "chromium ended before it answered {method}"
            );
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer)
                .unwrap_or_else(|error| panic!("chromium answered {method} with: {error}"));
            if answer["id"] == self.sent {
                let error = &answer["error"];
                assert!(error.is_null(), "{method}: {error}");
                return answer["result"].clone();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends by itself when its pipe is closed; this is for one that hangs.
        let message = json!({"id": 0, "method": "Browser.close"});
        let _ = write!(self.commands, "{message}\0");
        let _ = self.commands.flush();
        let _ = self.child.wait();
    }
}

/// The bytes that base64 (RFC 4648 section 4) stands for; anything else in the text is skipped.
fn decoded(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .bytes()
        .filter_map(|byte| alphabet.iter().position(|digit| *digit == byte));
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits {
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_is_decoded() {
        for (text, expected) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decoded(text), expected.as_bytes());
        }
    }
}
