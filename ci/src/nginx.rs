//! nginx as a pod: Debian's binary with a configuration of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::netns::Namespace;
use crate::process::Process;
use crate::wait;

/// Starts nginx on port 80 of every address of `pod`; it answers each request with `name` and a
/// newline. Returns once it listens.
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

/// One process in the foreground (no master that could outlive or lose its worker) that writes
/// nothing outside its home.
fn configuration(home: &Path, name: &str) -> String {
    let home = home.display();
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
    server {{
        listen 80;
        listen [::]:80;
        location / {{ return 200 "{name}\n"; }}
    }}
}}
"#
    )
}
