//! The part of the QEMU guest agent's protocol that is about time: hypervisors' tools set a guest's clock by it after a pause
//! (`virsh domtime --sync`; vfkit and krunkit with `--timesync`).
//!
//! Requests are JSON values one after the other, with or without a newline between; a reply is one value on a line. A byte 0xFF means:
//! forget what came before. Bytes in, replies and pushes out; nothing here sets anything.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::time::WallTime;

use super::push::Push;

/// One connection's protocol state.
#[derive(Debug, Clone, Default)]
pub struct GuestAgent {
    /// The beginning of a request that is not whole yet.
    unread: Vec<u8>,
}

/// What comes of bytes that came in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What to send back.
    pub reply: Vec<u8>,
    /// What the host told, in order.
    pub pushes: Vec<Push>,
}

#[derive(Debug, Deserialize)]
struct Request {
    execute: String,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    id: Option<Value>,
}

/// What went wrong with a request, as the protocol names it.
struct Fault {
    class: &'static str,
    text: String,
}

/// "Forget what came before"; also stands before the reply to `guest-sync-delimited`.
const SENTINEL: u8 = 0xff;
/// No request about time is longer.
const REQUEST_MAX: usize = 4_096;
/// The commands that are answered.
const COMMANDS: [&str; 6] =
    ["guest-get-time", "guest-info", "guest-ping", "guest-set-time", "guest-sync", "guest-sync-delimited"];

impl GuestAgent {
    /// Takes bytes as they came in. `now` is what `guest-get-time` is answered with.
    pub fn take(&mut self, bytes: &[u8], now: WallTime) -> Answer {
        let mut answer = Answer::default();
        let fresh = bytes.rsplit(|byte| *byte == SENTINEL).next().unwrap_or_default();
        if fresh.len() < bytes.len() {
            // Whole requests before the sentinel still count; the rest of them does not.
            let before = bytes.get(..bytes.len() - fresh.len() - 1).unwrap_or_default();
            for part in before.split(|byte| *byte == SENTINEL) {
                self.unread.extend_from_slice(part);
                self.answer(now, &mut answer);
                self.unread.clear();
            }
        }
        self.unread.extend_from_slice(fresh);
        self.answer(now, &mut answer);
        answer
    }

    /// Answers every request that is whole.
    fn answer(&mut self, now: WallTime, answer: &mut Answer) {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.unread).into_iter::<Value>();
            let next = values.next();
            let read = values.byte_offset();
            match next {
                Some(Ok(value)) => {
                    self.unread.drain(..read.min(self.unread.len()));
                    respond(value, now, answer);
                }
                Some(Err(error)) if error.is_eof() && self.unread.len() <= REQUEST_MAX => return,
                Some(Err(_)) => {
                    self.unread.clear();
                    let text = "not JSON, or too long".to_owned();
                    fail(&Fault { class: "GenericError", text }, None, answer);
                    return;
                }
                None => {
                    self.unread.clear();
                    return;
                }
            }
        }
    }
}

fn respond(value: Value, now: WallTime, answer: &mut Answer) {
    let request: Request = match serde_json::from_value(value) {
        Ok(request) => request,
        Err(error) => return fail(&Fault { class: "GenericError", text: error.to_string() }, None, answer),
    };
    match execute(&request, now) {
        Ok((result, push)) => {
            answer.pushes.extend(push);
            if request.execute == "guest-sync-delimited" {
                answer.reply.push(SENTINEL);
            }
            write("return", &result, request.id.as_ref(), answer);
        }
        Err(fault) => fail(&fault, request.id.as_ref(), answer),
    }
}

fn execute(request: &Request, now: WallTime) -> Result<(Value, Option<Push>), Fault> {
    let wrong = |text: &str| Fault { class: "GenericError", text: text.to_owned() };
    match request.execute.as_str() {
        "guest-ping" => Ok((json!({}), None)),
        "guest-sync" | "guest-sync-delimited" => {
            let id = request.arguments.get("id").and_then(Value::as_i64);
            Ok((id.ok_or_else(|| wrong("guest-sync needs an integer id"))?.into(), None))
        }
        "guest-info" => {
            let command = |name: &str| json!({"enabled": true, "name": name, "success-response": true});
            let commands: Vec<Value> = COMMANDS.iter().map(|name| command(name)).collect();
            Ok((json!({"version": env!("CARGO_PKG_VERSION"), "supported_commands": commands}), None))
        }
        "guest-get-time" => Ok((now.as_nanos().into(), None)),
        "guest-set-time" => match request.arguments.get("time") {
            None | Some(Value::Null) => Ok((json!({}), Some(Push::Rtc))),
            Some(time) => match time.as_i64().filter(|nanos| *nanos > 0) {
                Some(nanos) => Ok((json!({}), Some(Push::Time(WallTime::from_nanos(nanos))))),
                None => Err(wrong("time is ns since 1970")),
            },
        },
        other => {
            Err(Fault { class: "CommandNotFound", text: format!("The command {other} has not been found") })
        }
    }
}

fn fail(fault: &Fault, id: Option<&Value>, answer: &mut Answer) {
    write("error", &json!({"class": fault.class, "desc": fault.text}), id, answer);
}

/// As QEMU's agent writes it, down to the spaces: some hosts compare texts.
fn write(key: &str, value: &Value, id: Option<&Value>, answer: &mut Answer) {
    let id = id.map_or_else(String::new, |id| format!(", \"id\": {id}"));
    answer.reply.extend_from_slice(format!("{{\"{key}\": {value}{id}}}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime::from_nanos(1_800_000_000_000_000_000);

    fn talk(bytes: &[u8]) -> (String, Vec<Push>) {
        let answer = GuestAgent::default().take(bytes, NOW);
        (String::from_utf8_lossy(&answer.reply).into_owned(), answer.pushes)
    }

    #[test]
    fn a_time_is_pushed_and_answered_as_hosts_expect_it() {
        let request = br#"{"execute": "guest-set-time", "arguments": {"time": 1800000000123456789}}"#;
        let time = Push::Time(WallTime::from_nanos(1_800_000_000_123_456_789));
        assert_eq!(talk(request), ("{\"return\": {}}\n".to_owned(), vec![time]));
        let request = b"{\"execute\":\"guest-set-time\"}\n";
        assert_eq!(talk(request), ("{\"return\": {}}\n".to_owned(), vec![Push::Rtc]));
    }

    #[test]
    fn questions_are_answered() {
        let reply = |request: &str| talk(request.as_bytes()).0;
        assert_eq!(reply(r#"{"execute":"guest-ping"}"#), "{\"return\": {}}\n");
        assert_eq!(reply(r#"{"execute":"guest-get-time"}"#), "{\"return\": 1800000000000000000}\n");
        assert_eq!(
            reply(r#"{"execute":"guest-sync","arguments":{"id":7},"id":"a"}"#),
            "{\"return\": 7, \"id\": \"a\"}\n"
        );
        assert!(reply(r#"{"execute":"guest-info"}"#).contains("\"guest-set-time\""));
        assert!(
            reply(r#"{"execute":"guest-exec","arguments":{"path":"/bin/sh"}}"#).contains("CommandNotFound")
        );
        assert!(reply(r#"{"execute":"guest-set-time","arguments":{"time":-1}}"#).contains("GenericError"));
        assert!(reply("hello\n").contains("GenericError"));
    }

    #[test]
    fn a_delimiter_forgets_what_came_before_and_marks_the_reply() {
        let mut bytes = b"{\"execute\": \"guest-se\xff".to_vec();
        bytes.extend_from_slice(br#"{"execute":"guest-sync-delimited","arguments":{"id":5}}"#);
        let answer = GuestAgent::default().take(&bytes, NOW);
        assert_eq!(answer.reply, b"\xff{\"return\": 5}\n");
    }

    #[test]
    fn requests_may_come_in_pieces_and_several_at_once() {
        let mut agent = GuestAgent::default();
        assert_eq!(agent.take(br#"{"execute":"gue"#, NOW), Answer::default());
        let answer = agent.take(b"st-ping\"}\n{\"execute\":\"guest-set-time\"} {\"exec", NOW);
        assert_eq!(
            (answer.reply.as_slice(), answer.pushes.as_slice()),
            (b"{\"return\": {}}\n{\"return\": {}}\n".as_slice(), [Push::Rtc].as_slice())
        );
        assert_eq!(agent.take(br#"ute":"guest-ping"}"#, NOW).reply, b"{\"return\": {}}\n");
    }

    #[test]
    fn a_request_without_an_end_is_not_kept_for_ever() {
        let mut agent = GuestAgent::default();
        let mut replies = Vec::new();
        for _ in 0..100 {
            replies.extend(agent.take(&[b'['; 100], NOW).reply);
            assert!(agent.unread.len() <= REQUEST_MAX + 100);
        }
        assert!(String::from_utf8(replies).unwrap().contains("GenericError"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut agent = GuestAgent::default();
            for piece in pieces {
                let _ = agent.take(&piece, NOW);
            }
        }
    }
}
