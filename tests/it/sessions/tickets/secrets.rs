//! What opens a session is shown to nobody but its client.

use tracing::Level;

use crate::support::logged::Logged;
use crate::support::ticket_client::Cut;
use crate::support::ticketed::Ticketed;

/// Threat: somebody reads the log, the metrics or the operators' pages, and takes sessions over.
#[tokio::test]
async fn threat_tickets_nonces_and_prefixes_are_in_no_log_no_metric_and_no_answer_of_the_operators_port() {
    let (logged, _guard) = Logged::down_to(Level::TRACE);
    let mut session = Ticketed::open("close_timeout: 300ms").await;
    session.works().await;
    for cut in Cut::ALL {
        session.client.cut(cut).await;
        session.client.resume().await;
        session.works().await;
    }
    // What goes wrong is logged: a ticket that is none, a server that dies, control frames that break the rules.
    let ticket = session.client.ticket.clone().unwrap();
    session.take_server().reset();
    session.next_server().await;
    session.works().await;
    session.client.ticket = Some(format!("{}{}", &ticket[1..], &ticket[..1]));
    session.client.begin_anew().await;
    session.next_server().await;
    session.client.control("no JSON").await;
    session.client.let_go().await;
    session.client.begin_anew().await;
    session.next_server().await;
    session.works().await;
    let mut shown = Vec::new();
    for path in
        ["/metrics", "/api/admin/connections", "/api/admin/routes", "/api/admin/stats", "/status", "/readyz"]
    {
        shown.push((path, session.proxy.admin_get(path).await.text()));
    }
    let seen_by_server: Vec<String> =
        session.upstream.handshakes().iter().map(|request| format!("{:?}", request.head)).collect();
    shown.push(("the server", seen_by_server.join("\n")));
    shown.push(("the log", logged.text()));
    assert!(logged.text().lines().count() > 5, "something was logged: {}", logged.text());
    let client = &session.client;
    let secrets = client.tickets.iter().chain(&client.nonces).chain(&client.prefixes);
    let mut count = 0;
    for secret in secrets {
        count += 1;
        // Parts of it too.
        for part in [&secret[..], &secret[2..14]] {
            for (place, text) in &shown {
                assert!(!text.contains(part), "{place} shows {part}");
            }
        }
    }
    assert!(count >= 18, "{count}");
}
