use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::observe::fixtures::FakeGateway;

async fn serve(admitted: StatusPage, observer: Observer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(admitted, observer, Health::new(), Metrics::new());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Head and body of the answer.
async fn ask(address: SocketAddr, host: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_page_and_its_files_are_served_with_a_policy_and_nothing_may_be_changed() {
    let gateway = FakeGateway::new();
    let address = serve(StatusPage::Local, gateway.observer()).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/status.js", "text/javascript"),
        ("/status.css", "text/css"),
        ("/status.json", "application/json"),
    ] {
        let (head, body) = ask(address, "localhost", &format!("GET {path}")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        assert!(
            head.contains(&format!("content-type: {kind}")),
            "{path}: {head}"
        );
        assert!(
            head.contains("content-security-policy: default-src 'none'"),
            "{head}"
        );
        assert!(body.len() > 100, "{path}: {body}");
        for method in ["POST", "PUT", "DELETE"] {
            let (head, _) = ask(address, "localhost", &format!("{method} {path}")).await;
            assert!(head.starts_with("HTTP/1.1 405 "), "{method} {path}: {head}");
        }
    }
    let (head, why) = ask(address, "evil.example", "GET /status.json").await;
    assert!(
        head.starts_with("HTTP/1.1 403 ") && why.contains("status.page"),
        "{head} {why}"
    );
    let address = serve(StatusPage::Off, gateway.observer()).await;
    let (head, _) = ask(address, "localhost", "GET /").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[tokio::test]
async fn the_document_has_services_endpoints_and_what_is_searched_for() {
    let mut gateway = FakeGateway::new();
    let slot = gateway.install("shop/web", &["10.0.0.1:80"]);
    gateway.install("shop/<img src=x>", &["10.0.0.2:80"]);
    gateway.flow(slot, ["198.51.100.1:1", "10.9.9.9:2", "10.0.0.1:80"], 0);
    let address = serve(StatusPage::Local, gateway.observer()).await;
    let get = async |path: &str| -> Value {
        let (_, body) = ask(address, "localhost", &format!("GET {path}")).await;
        serde_json::from_str(&body).unwrap()
    };
    let shown = get("/status.json").await;
    let services = &shown["gateway"]["services"];
    assert_eq!(services[0]["name"], "<img src=x>");
    let web = &services[1];
    assert_eq!((&web["name"], &web["open"]), (&"web".into(), &1.into()));
    assert_eq!(web["frontends"][0]["type"], "ClusterIP");
    let endpoint = &web["endpoints"][0];
    assert_eq!(
        (&endpoint["address"], &endpoint["open"]),
        (&"10.0.0.1:80".into(), &1.into())
    );
    assert_eq!(web["counters"]["frames"], 0);
    let found = get("/status.json?service=shop%2Fw").await;
    assert_eq!(found["gateway"]["matching"], 1);
    assert_eq!(found["gateway"]["services"][0]["name"], "web");
    assert_eq!(found["gateway"]["service_ports"], 2);
}

#[tokio::test]
async fn without_a_region_the_document_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let observer = Observer::new(&folder.path().join("none"));
    let address = serve(StatusPage::Local, observer).await;
    let (_, body) = ask(address, "localhost", "GET /status.json").await;
    let shown: Value = serde_json::from_str(&body).unwrap();
    assert!(
        shown["trouble"].as_str().unwrap().contains("none"),
        "{shown}"
    );
    assert_eq!(shown["synced"], false);
}

#[test]
fn the_script_makes_no_markup_of_text() {
    let script = include_str!("page.js");
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!script.contains(way), "{way}");
    }
    let page = include_str!("page.html");
    assert!(!page.contains("://"), "an asset from outside");
}
