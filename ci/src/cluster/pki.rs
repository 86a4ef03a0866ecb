//! Keys, certificates and tokens of a cluster that lives as long as a test, made by `openssl`.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::netns::finish;

/// Token of the administrator. The server is out of everybody else's reach.
pub(super) const ADMIN_TOKEN: &str = "admin-of-a-test";

/// The folder that holds them.
#[derive(Debug)]
pub(super) struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Makes an authority, a certificate of the API server for `address` and 127.0.0.1, and the
    /// key that signs the tokens of service accounts.
    pub(super) fn make(home: &Path, address: IpAddr) -> Self {
        let directory = home.join("pki");
        let made = Self { directory };
        fs::create_dir(&made.directory)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", made.directory.display()));
        made.write(
            "names",
            &format!("subjectAltName=IP:127.0.0.1,IP:{address}\nextendedKeyUsage=serverAuth\n"),
        );
        made.write(
            "tokens.csv",
            &format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n"),
        );
        for steps in [
            "ecparam -name prime256v1 -genkey -noout -out ca.key",
            "req -x509 -new -key ca.key -subj /CN=test-authority -days 30 -out ca.crt",
            "ecparam -name prime256v1 -genkey -noout -out server.key",
            "req -new -key server.key -subj /CN=kube-apiserver -out server.csr",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
             -extfile names -out server.crt",
            "ecparam -name prime256v1 -genkey -noout -out accounts.key",
            "ec -in accounts.key -pubout -out accounts.pub",
        ] {
            let mut command = Command::new("openssl");
            command.args(steps.split_whitespace());
            finish(command.current_dir(&made.directory));
        }
        made
    }

    /// Certificate of the authority.
    pub(super) fn authority(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// The folder.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Arguments of `kube-apiserver` about these files.
    pub(super) fn server_arguments(&self) -> Vec<String> {
        [
            ("tls-cert-file", "server.crt"),
            ("tls-private-key-file", "server.key"),
            ("token-auth-file", "tokens.csv"),
            ("service-account-key-file", "accounts.pub"),
            ("service-account-signing-key-file", "accounts.key"),
        ]
        .into_iter()
        .map(|(flag, file)| format!("--{flag}={}", self.directory.join(file).display()))
        .collect()
    }

    /// Writes a kubeconfig for whoever holds `token`.
    pub(super) fn write_kubeconfig(&self, path: &Path, server: &str, token: &str) {
        // JSON is YAML.
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": server, "certificate-authority": self.authority(),
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        fs::write(path, text.to_string())
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}
