//! The JSON form of a heartbeat, for client libraries and networks that hide ping frames.

/// The ping; the client's answer is `{"type":"pong"}`.
pub(crate) const JSON_PING: &[u8] = br#"{"type":"heartbeat"}"#;

/// `{"type":"pong"}` with any white space, and no other member: an application's own message of that
/// type would have more.
pub(crate) fn is_json_pong(payload: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pong<'a> {
        r#type: &'a str,
    }
    // Most texts do not begin like it, and need no parser.
    payload.first().is_some_and(|first| matches!(first, b'{' | b' ' | b'\n' | b'\r' | b'\t'))
        && serde_json::from_slice::<Pong<'_>>(payload).is_ok_and(|pong| pong.r#type == "pong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_heartbeats_own_answer_is_a_json_pong() {
        for pong in [r#"{"type":"pong"}"#, r#" { "type" : "pong" } "#, "{\n\"type\":\"pong\"\n}"] {
            assert!(is_json_pong(pong.as_bytes()), "{pong}");
        }
        for other in [
            "",
            "pong",
            r#"{"type":"ping"}"#,
            r#"{"type":"pong","id":1}"#,
            r#"["pong"]"#,
            r#"{"type":1}"#,
            "{",
        ] {
            assert!(!is_json_pong(other.as_bytes()), "{other}");
        }
    }
}
