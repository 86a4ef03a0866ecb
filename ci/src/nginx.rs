//! nginx as a pod: Debian's binary with a configuration of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::netns::Namespace;
use crate::process::Process;
use crate::wait;

/// Starts nginx on port 80 of every address of `pod`; it answers each request with `name` and a
/// newline, and what is under `/say/` with [`said`]. Connections may be kept open for as long and as many requests
/// as one likes. Returns once it listens.
///
/// # Panics
/// If nginx does not start.
pub fn start(pod: &Namespace, name: &str, directory: &Path) -> Process {
    let home = directory.join(format!("nginx-{name}"));
    fs::create_dir_all(&home)
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", home.display()));
    let file = home.join("nginx.conf");
    fs::write(&file, configuration(&home, name))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));

    let mut command = pod.command("nginx");
    command
        .arg("-p")
        .arg(&home)
        .arg("-c")
        .arg(&file)
        .args(["-e", "stderr"]);
    let mut process = Process::start(&format!("nginx-{name}"), command, directory);
    wait::until("nginx listens", Duration::from_secs(10), || {
        assert!(
            process.is_running(),
            "nginx {name} ended: {}",
            process.log()
        );
        let reached = pod.enter(|| std::net::TcpStream::connect("127.0.0.1:80"));
        reached.ok()
    });
    process
}

/// What is answered to a request of a path under `/say/`: the path, over and over, so that a body takes
/// several segments and differs from every other.
pub fn said(path: &str) -> String {
    format!("{path}\n").repeat(REPEATS)
}

/// How often a path comes in its answer.
const REPEATS: usize = 4;

/// One process in the foreground (no master that could outlive or lose its worker) that writes
/// nothing outside its home.
fn configuration(home: &Path, name: &str) -> String {
    let home = home.display();
    let said = "$request_uri\n".repeat(REPEATS);
    format!(
        r#"daemon off;
master_process off;
pid {home}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    default_type text/plain;
    keepalive_timeout 1d;
    keepalive_requests 1000000000;
    server {{
        listen 80;
        listen [::]:80;
        location / {{ return 200 "{name}\n"; }}
        location /say/ {{ return 200 "{said}"; }}
    }}
}}
"#
    )
}
