use super::*;

const TICKET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn polled(query: &str) -> Result<Parameters, BadParameter> {
    read(query, Endpoint::Poll).1
}

fn seconds(query: &str) -> Option<f64> {
    polled(query).ok().map(|read| read.timeout.as_secs_f64())
}

#[test]
fn what_is_ours_is_taken_out_and_the_rest_stays_as_it_came() {
    let ticket = format!("a&session={TICKET}&b");
    for (endpoint, query, rest) in [
        (Endpoint::Poll, "", ""),
        (Endpoint::Poll, "room=1&x", "room=1&x"),
        (Endpoint::Poll, "room=%31&&x=+y;z", "room=%31&&x=+y;z"),
        (Endpoint::Poll, "afterSequence=1&room=1&timeout=1s&limit=5&data=text&protocol=a", "room=1"),
        (Endpoint::Poll, "a=1&%61fterSequence=1&b=2", "a=1&b=2"),
        (Endpoint::Poll, "aftersequence=1&AfterSequence=2", "aftersequence=1&AfterSequence=2"),
        // The name of one endpoint is the application's at another.
        (Endpoint::Poll, "n=1&fromSequence=2&limit=3", "n=1&fromSequence=2"),
        (Endpoint::Send, "n=1&limit=3&data=text", "limit=3&data=text"),
        (Endpoint::Events, "n=1&limit=3&timeout=x&data=text&afterSequence=3", "n=1&limit=3&timeout=x"),
        (Endpoint::Replay, "n=1&limit=3&fromSequence=3&timeout=1", "n=1&timeout=1"),
        // So are sessions of another kind.
        (Endpoint::Poll, "session=abc&session=", "session=abc&session="),
        (Endpoint::Poll, &ticket, "a&b"),
        (Endpoint::Send, &ticket, "a&b"),
        (Endpoint::Events, &ticket, "a&b"),
        (Endpoint::Replay, &ticket, "a&b"),
    ] {
        let (found, read) = read(query, endpoint);
        assert_eq!(found, rest, "{endpoint:?} {query}");
        assert!(read.is_ok(), "{endpoint:?} {query}: {read:?}");
    }
}

#[test]
fn without_any_there_are_defaults() {
    assert_eq!(polled(""), Ok(Parameters::default()));
    let Parameters { after, timeout, limit, form, protocols, .. } = Parameters::default();
    assert_eq!((after, timeout.as_secs(), limit, form, protocols), (None, 25, 100, DataForm::Value, None));
}

#[test]
fn a_timeout_is_a_duration_as_in_the_configuration_up_to_its_bound() {
    for (text, expected) in [
        ("0", Some(0.0)),
        ("0s", Some(0.0)),
        ("250ms", Some(0.25)),
        ("25s", Some(25.0)),
        ("55s", Some(55.0)),
        ("56s", Some(55.0)),
        ("1h", Some(55.0)),
        ("99999999999999999999s", None),
        ("25", None),
        ("-1s", None),
        ("1.5s", None),
        ("", None),
        ("%31s", Some(1.0)),
    ] {
        assert_eq!(seconds(&format!("timeout={text}")), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read_or_stands_there_twice_is_refused() {
    for query in [
        "afterSequence=",
        "afterSequence",
        "afterSequence=-1",
        "afterSequence=18446744073709551616",
        "afterSequence=1.2.3",
        "limit=0",
        "limit=1001",
        "limit=x",
        "data=binary",
        "data",
        "protocol=a%0d%0aX-Evil:%201",
        "protocol=a,,b",
        "protocol=a%20b",
        "protocol=a,a",
        "protocol=%00",
        "afterSequence=%ff",
    ] {
        assert!(matches!(polled(query), Err(BadParameter::Unreadable(..))), "{query}");
    }
    for query in ["afterSequence=1&afterSequence=1", "limit=1&%6cimit=2", "data=text&data=value"] {
        assert!(matches!(polled(query), Err(BadParameter::Twice(_))), "{query}");
    }
    let twice = format!("session={TICKET}&session={TICKET}");
    assert_eq!(polled(&twice), Err(BadParameter::Twice("session")));
    // The first fault is told, whatever follows.
    assert_eq!(
        polled("limit=0&data=x").map_err(|bad| bad.to_string()),
        Err("the parameter limit cannot be read: a number from 1 to 1000".to_owned())
    );
}

#[test]
fn values_are_read() {
    let read = polled("afterSequence=00000000000000ff.7&limit=1000&data=text&protocol=a,%20b+c").unwrap();
    assert_eq!(read.after, Some(Position::Of { epoch: 255, sequence: 7 }));
    assert_eq!((read.limit, read.form), (1000, DataForm::Text));
    assert_eq!(read.protocols.unwrap(), "a, b+c");
    assert_eq!(polled("protocol=").unwrap().protocols, None);
    assert_eq!(polled(&format!("session={TICKET}")).unwrap().ticket, TicketText::read(TICKET.as_bytes()));
    let sent = super::read("n=7", Endpoint::Send).1.unwrap();
    assert_eq!(sent.number, Some(7));
    assert!(super::read("n=0", Endpoint::Send).1.is_err());
    let replayed = super::read("fromSequence=5&limit=1", Endpoint::Replay).1.unwrap();
    assert_eq!((replayed.from, replayed.limit), (Some(Position::Number(5)), 1));
}
