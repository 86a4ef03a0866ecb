//! Who may see the page.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use settings::StatusPage;

/// Lets a request through or says why not.
pub(super) async fn check(
    State(admitted): State<StatusPage>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| host.to_str().unwrap_or_default());
    match refusal(admitted, peer.ip(), host) {
        Some((status, why)) => (status, why).into_response(),
        None => next.run(request).await,
    }
}

/// Why a request of `peer` that names `host` is refused; `None` if it is not.
fn refusal(
    admitted: StatusPage,
    peer: IpAddr,
    host: Option<&str>,
) -> Option<(StatusCode, &'static str)> {
    match admitted {
        StatusPage::Anywhere => None,
        StatusPage::Off => Some((
            StatusCode::NOT_FOUND,
            "the status page is turned off: status.page is \"off\"\n",
        )),
        StatusPage::Local if !peer.to_canonical().is_loopback() => Some((
            StatusCode::FORBIDDEN,
            "the status page is for this host alone: come through a tunnel (ssh -L \
             9102:127.0.0.1:9102 HOST), or set status.page = \"anywhere\"\n",
        )),
        // A page of somebody else's, whose name was made to lead here, could read the answers otherwise.
        StatusPage::Local if !host.is_none_or(is_local_name) => Some((
            StatusCode::FORBIDDEN,
            "the status page is for this host alone: call it localhost or 127.0.0.1, or set \
             status.page = \"anywhere\"\n",
        )),
        StatusPage::Local => None,
    }
}

/// Whether a Host header names this host by itself: `localhost` or a loopback address, with or without a port.
fn is_local_name(host: &str) -> bool {
    let is_loopback = |address: IpAddr| address.is_loopback();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let bare = |text: &str| text.trim_matches(['[', ']']).parse().is_ok_and(is_loopback);
    host.eq_ignore_ascii_case("localhost")
        || name.eq_ignore_ascii_case("localhost")
        || bare(host)
        || bare(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(admitted: StatusPage, peer: &str, host: Option<&str>) -> Option<u16> {
        let refusal = refusal(admitted, peer.parse().unwrap(), host);
        refusal.map(|(status, _)| status.as_u16())
    }

    #[test]
    fn by_default_the_page_is_for_this_host_under_its_own_name() {
        let local = StatusPage::Local;
        for host in [
            "localhost",
            "LOCALHOST:9102",
            "127.0.0.1:9102",
            "127.0.0.1",
            "[::1]:9102",
            "[::1]",
        ] {
            assert_eq!(refused(local, "127.0.0.1", Some(host)), None, "{host}");
        }
        assert_eq!(refused(local, "::ffff:127.0.0.1", None), None);
        for host in [
            "evil.example:9102",
            "localhost.evil.example",
            "192.0.2.1:9102",
            "",
        ] {
            assert_eq!(refused(local, "::1", Some(host)), Some(403), "{host}");
        }
        assert_eq!(refused(local, "192.0.2.9", Some("localhost")), Some(403));
    }

    #[test]
    fn a_setting_opens_it_to_others_or_closes_it() {
        let far = Some("gateway.example:9102");
        assert_eq!(refused(StatusPage::Anywhere, "192.0.2.9", far), None);
        assert_eq!(
            refused(StatusPage::Off, "127.0.0.1", Some("localhost")),
            Some(404)
        );
    }
}
