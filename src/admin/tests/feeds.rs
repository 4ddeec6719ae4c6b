//! Publishing, and the lists of channels and of their clients.

use super::*;
use crate::frame::Kind;

#[tokio::test]
async fn what_is_published_arrives_as_it_was_meant_and_the_answer_tells_who_gets_it() {
    let port = Port::open(false, None, None).await;
    let answer = port.publish(r#"{"route":"feed","channel":"/a","user":"ann","json":{ "a": [1, 2] }}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"recipients\":3,\"sequence\":7}\n"));
    let answer = port.publish(r#"{"route":"tunnel","base64":"/w=="}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"recipients\":2,\"sequence\":null}\n"));
    let [first, second] = &port.published()[..] else { panic!("not two") };
    assert_eq!((first.channel.as_deref(), first.user.as_deref()), (Some("/a"), Some("ann")));
    assert_eq!((first.kind, &first.payload[..]), (Kind::Text, &br#"{"a":[1,2]}"#[..]));
    assert_eq!((second.kind, &second.payload[..]), (Kind::Binary, &b"\xff"[..]));
    // In pieces, and of any type, as forms and scripts send it.
    let chunked = "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n\
        a\r\n{\"route\":\"\r\n12\r\ntunnel\",\"text\":\"\"}\r\n0\r\n\r\n";
    assert_eq!(read_answer(port.send(chunked).await).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_published_is_told_why() {
    let port = Port::open(false, None, None).await;
    for (body, status, told) in [
        (r#"{"route":"tunnel","channel":"a","text":""}"#, 400, "has no channels"),
        (r#"{"route":"short","text":""}"#, 413, "policy.max_message (9 bytes)"),
        (r#"{"route":"full","text":""}"#, 503, "memory.max_buffered"),
        (r#"{"route":"nowhere","text":""}"#, 404, "no route \"nowhere\"; there is route-0, route-1, "),
    ] {
        let answer = port.publish(body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.error().contains(told), "{}", answer.body);
        assert!(answer.error().starts_with("nothing was published: ") && answer.body.len() < 1000);
    }
    let before = port.published().len();
    for body in ["", "news", r#"{"route":"feed"}"#, r#"{"route":"feed","text":"","usre":"ann"}"#] {
        let answer = port.publish(body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.error().contains("send {\"route\": NAME}"), "{}", answer.body);
    }
    assert_eq!(port.published().len(), before, "nothing of it went on");
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_however_it_comes_and_one_at_it_is_not() {
    let port = Port::open(false, None, None).await;
    let of = |len: usize| {
        let body = r#"{"route":"feed","text":""}"#;
        body.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(len - body.len())))
    };
    assert_eq!(port.publish(&of(MAX_PUBLISH)).await.status, 200);
    let long = of(MAX_PUBLISH + 1);
    let much = of(8 << 20);
    let chunked = format!(
        "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let announced = "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Expect: 100-continue\r\nContent-Length: 100000000000\r\n\r\n";
    for answer in [
        port.publish(&long).await,
        port.publish(&much).await,
        read_answer(port.send(&chunked).await).await,
        read_answer(port.send(announced).await).await,
    ] {
        assert_eq!(answer.status, 413);
        assert!(answer.error().contains("admin.max_publish (2000 bytes)"), "{}", answer.body);
    }
    assert_eq!(port.published().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let port = Port::open(false, None, None).await;
    let began = tokio::time::Instant::now();
    let beginning = "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    let mut stream = port.send(beginning).await;
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(said.starts_with(b"HTTP/1.1 408"), "{}", said.escape_ascii());
    assert!((body::BODY_TIMEOUT..2 * body::BODY_TIMEOUT).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_web_page_cannot_publish_and_without_the_token_no_body_is_read() {
    let page = "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Origin: http://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 26\r\n\r\n\
        {\"route\":\"feed\",\"text\":\"\"}";
    let port = Port::open(false, None, None).await;
    assert_eq!(read_answer(port.send(page).await).await.status, 403);
    assert_eq!(port.published(), []);
    let port = Port::open(false, Some("s3cret"), None).await;
    let answer = port.ask_with("POST /api/admin/broadcast", "Content-Length: 100\r\n").await;
    assert_eq!(answer.status, 401, "though the body never comes");
}

#[tokio::test]
async fn channels_are_listed_in_order_as_many_as_asked_for() {
    let port = Port::open(false, None, None).await;
    for (query, shown) in [("", 100), ("?limit=1", 1), ("?limit=10000", CHANNELS), ("?", 100)] {
        let answer = port.ask(&format!("GET /api/admin/channels{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["total"], CHANNELS);
        let listed = body["channels"].as_array().unwrap();
        assert_eq!(listed.len(), shown, "{query}");
        let first = r#"{"channel":"000000","clients":2,"connected":true,"epoch":"0000000000000005","route":"feed","sequence":6}"#;
        assert_eq!(listed[0].to_string(), first);
    }
    for query in ["?limit=0", "?limit=10001", "?limit=-1", "?limit=", "?lmiit=3", "?limit=1&x=2"] {
        for list in ["channels", "subscribers"] {
            let answer = port.ask(&format!("GET /api/admin/{list}{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.error().contains("limit=N"), "{query}");
        }
    }
}

#[tokio::test]
async fn lists_are_narrowed_by_route_and_channel_and_what_is_not_there_is_told() {
    let port = Port::open(false, None, None).await;
    let found = async |target: &str| {
        let answer = port.ask(&format!("GET /api/admin/{target}")).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()["total"].as_u64().unwrap()
    };
    assert_eq!(found("channels?route=feed&limit=3").await, CHANNELS as u64);
    assert_eq!(found("subscribers?route=feed").await, 3);
    assert_eq!(found("subscribers?channel=000000").await, 2);
    assert_eq!(found("subscribers?limit=1&route=f%65ed&channel=%30%3000%301").await, 1);
    assert_eq!(found("subscribers?channel=000007").await, 0, "a channel without clients");
    for (target, status, told) in [
        ("channels?route=nope", 404, "there is no route \"nope\"; there is feed, tunnel"),
        ("subscribers?route=nope&channel=000000", 404, "there is no route"),
        ("channels?route=tunnel", 400, "is a tunnel and has no channels"),
        ("subscribers?route=tunnel", 400, "is a tunnel and has no subscribers"),
        ("subscribers?channel=nope", 404, "there is no channel \"nope\""),
        ("channels?channel=000000", 400, "route=NAME and limit=N"),
        ("channels?route=", 400, "route=NAME"),
        ("subscribers?channel=", 400, "channel=NAME"),
        ("subscribers?route=feed&route=feed", 400, "each once"),
        ("subscribers?Route=feed", 400, "route=NAME, channel=NAME and limit=N"),
    ] {
        let answer = port.ask(&format!("GET /api/admin/{target}")).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
        assert!(answer.error().contains(told), "{target}: {}", answer.body);
    }
}

#[tokio::test]
async fn those_furthest_behind_are_listed_first() {
    let port = Port::open(false, None, None).await;
    let answer = port.ask("GET /api/admin/subscribers?limit=2").await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["total"], 3);
    let listed = body["subscribers"].as_array().unwrap();
    assert_eq!(listed.iter().map(|one| one["lag"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1]);
    let first = r#"{"acknowledged":3,"age_seconds":9,"buffered_bytes":5,"channel":"000000","connection":2,"delivery_rate":0.75,"lag":2,"route":"feed","sent":4,"transport":"websocket","user":"ann"}"#;
    assert_eq!(listed[0].to_string(), first);
    let line = port.ask_with("GET /api/admin/subscribers", "Host: evil.example\r\n").await;
    assert_ne!(line.status, 200, "names of users are for operators only");
}

pub(super) fn subscriber(n: u64) -> Subscriber {
    Subscriber {
        connection: n,
        route: "feed".into(),
        channel: format!("{:06}", n % 2),
        transport: "websocket".into(),
        user: Some("ann".into()),
        age_seconds: 9,
        sent: 4,
        acknowledged: 3,
        delivery_rate: Some(0.75),
        lag: n,
        buffered_bytes: 5,
    }
}
