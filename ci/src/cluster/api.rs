//! The API of Kubernetes over `curl`: for what `kubectl` is too slow to do a thousand times.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::netns::Namespace;

/// Requests that [`Api::send_all`] has under way at a time.
const PARALLEL: &str = "32";

/// Someone's access to an API server.
#[derive(Debug, Clone)]
pub struct Api<'a> {
    namespace: &'a Namespace,
    server: String,
    authority: PathBuf,
    token: String,
}

/// A change to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST`, `PATCH`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path, with its query.
    pub path: String,
    /// The object, or what to merge into it.
    pub body: Value,
}

impl Request {
    /// Makes an object.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self {
            method: "POST",
            path: path.into(),
            body,
        }
    }

    /// Merges `body` into an object (RFC 7386).
    pub fn patch(path: impl Into<String>, body: Value) -> Self {
        Self {
            method: "PATCH",
            path: path.into(),
            body,
        }
    }

    /// Deletes an object within this time.
    pub fn delete(path: impl Into<String>, grace_seconds: u32) -> Self {
        Self {
            method: "DELETE",
            path: path.into(),
            body: json!({"gracePeriodSeconds": grace_seconds}),
        }
    }

    fn content_type(&self) -> &'static str {
        match self.method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        }
    }
}

impl<'a> Api<'a> {
    /// Access to `server` from inside `namespace` with a token.
    pub fn new(namespace: &'a Namespace, server: &str, authority: PathBuf, token: &str) -> Self {
        Self {
            namespace,
            server: server.to_owned(),
            authority,
            token: token.to_owned(),
        }
    }

    /// Reads an object or a list.
    ///
    /// # Errors
    /// What the server or curl said.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let text = self.text(path)?;
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error} in {text}"))
    }

    /// Reads what is no JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn text(&self, path: &str) -> Result<String, String> {
        self.run(&self.entry("GET", path, None), path)
    }

    /// Makes an object.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(&Request::post(path, body.clone()))
    }

    /// Merges into an object.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(&Request::patch(path, body.clone()))
    }

    /// Sends one change.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn send(&self, request: &Request) -> Result<Value, String> {
        let body = Some((request.content_type(), &request.body));
        let config = self.entry(request.method, &request.path, body);
        let text = self.run(&config, &request.path)?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error} in {text}", request.path))
    }

    /// Sends many changes over a few connections, in no particular order.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn send_all(&self, requests: &[Request]) {
        let mut config = String::new();
        for (index, request) in requests.iter().enumerate() {
            if index > 0 {
                config.push_str("next\n");
            }
            let body = Some((request.content_type(), &request.body));
            config.push_str(&self.entry(request.method, &request.path, body));
            config.push_str("output = \"/dev/null\"\n");
        }
        let arguments = ["--parallel", "--parallel-max", PARALLEL, "--fail-early"];
        let output = self.curl(&arguments, &config);
        assert!(
            output.status.success(),
            "{} changes at once: {}",
            requests.len(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }

    /// One request in the language of curl's `--config`.
    fn entry(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> String {
        let mut entry = String::new();
        let mut option = |name: &str, value: &str| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            // Writing to a String cannot fail.
            let _ = writeln!(entry, "{name} = \"{value}\"");
        };
        option("url", &format!("{}{path}", self.server));
        option("request", method);
        option("cacert", &self.authority.to_string_lossy());
        option("header", &format!("Authorization: Bearer {}", self.token));
        option("max-time", "60");
        if let Some((kind, value)) = body {
            option("header", &format!("Content-Type: {kind}"));
            option("data-binary", &value.to_string());
        }
        entry.push_str("fail-with-body\nsilent\nshow-error\n");
        entry
    }

    fn run(&self, config: &str, path: &str) -> Result<String, String> {
        let output = self.curl(&[], config);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{path}: {} {}", said.trim(), text.trim()))
    }

    fn curl(&self, arguments: &[&str], config: &str) -> Output {
        let mut command: Command = self.namespace.command("curl");
        command
            .args(arguments)
            .args(["--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run curl: {error}"));
        if let Some(mut input) = child.stdin.take() {
            // If curl is gone already, its exit code and words tell why.
            let _ = input.write_all(config.as_bytes());
        }
        child
            .wait_with_output()
            .unwrap_or_else(|error| panic!("cannot wait for curl: {error}"))
    }
}
