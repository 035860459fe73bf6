//! What a time server says of itself, on one screen.

use driftless_core::time::Seconds;
use serde_json::Value;

/// The screen.
pub(crate) fn screen(status: &Value) -> String {
    let mut lines = vec![headline(status)];
    let mut line = |label: &str, text: String| lines.push(format!("{label:<14} {text}"));
    let counters = &status["counters"];
    line(
        "answered",
        format!(
            "{} of {} packets; {} interleaved, {} kisses, {} not sent",
            counters["replies"],
            counters["received"],
            counters["interleaved"],
            counters["kisses"],
            counters["send_failed"]
        ),
    );
    line("dropped", dropped(&counters["dropped"]));
    line("clients", format!("{} in the last hour", status["clients"]));
    let streams = &status["streams"];
    line(
        "guests",
        format!(
            "{} connected now, {} so far, {} had no room",
            streams["open"], streams["taken"], streams["refused"]
        ),
    );
    if let Some(time) = status["last_told"]["time"].as_str() {
        line("look now", format!("{time}, to {} guest(s)", status["last_told"]["guests"]));
    }
    let networks: Vec<&str> =
        status["networks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    line("guest networks", if networks.is_empty() { "none".to_owned() } else { networks.join(", ") });
    for listener in status["listeners"].as_array().into_iter().flatten() {
        let place = listener["place"].as_str().unwrap_or("?");
        let more = match (listener["lost"].as_u64(), listener["taken"].as_u64()) {
            (Some(0), _) | (None, None) => String::new(),
            (Some(lost), _) => format!(", {lost} lost in a full queue"),
            (None, Some(taken)) => format!(", {taken} guest(s) so far"),
        };
        line("listening on", format!("{place}{more}"));
    }
    lines.join("\n")
}

fn headline(status: &Value) -> String {
    let seconds = |key: &str| {
        Seconds(status[key].as_f64().unwrap_or(0.0)).to_string().trim_start_matches('+').to_owned()
    };
    match (status["mode"].as_str(), status["synchronised"].as_bool()) {
        (Some("as-is"), _) => "Serving this host's clock as it is, right or wrong.".to_owned(),
        (_, Some(true)) => format!(
            "Serving network time: stratum {}, reference {}, root delay {}, root dispersion {}.",
            status["stratum"],
            status["reference_id"].as_str().unwrap_or("?"),
            seconds("root_delay"),
            seconds("root_dispersion")
        ),
        _ => "Serving, and telling every client that this host's clock is not synchronised.".to_owned(),
    }
}

fn dropped(reasons: &Value) -> String {
    let words = reasons.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
    let words: Vec<String> =
        words.map(|(reason, count)| format!("{count} {}", reason.replace('_', " "))).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_happened_is_told_in_words() {
        let status = json!({
            "mode": "network", "synchronised": true, "stratum": 3, "reference_id": "KERN", "root_delay": 0.0, "root_dispersion": 0.012,
            "counters": {"received": 12, "replies": 9, "interleaved": 1, "kisses": 0, "send_failed": 0,
                "dropped": {"short": 0, "no_request": 2, "denied": 1}},
            "clients": 4, "streams": {"open": 1, "taken": 2, "refused": 0}, "networks": ["192.168.122.0/24"],
            "last_told": {"time": "2026-11-24T21:30:34Z", "guests": 1},
            "listeners": [{"kind": "datagrams", "place": "[::]:123", "lost": 7}, {"kind": "streams", "place": "vsock port 123", "taken": 2}],
        });
        let text = screen(&status);
        for expected in [
            "stratum 3, reference KERN, root delay 0 ns, root dispersion 12.000 ms",
            "9 of 12 packets",
            "2 no request",
            "1 denied",
            "2026-11-24T21:30:34Z, to 1 guest(s)",
            "[::]:123, 7 lost in a full queue",
            "vsock port 123, 2 guest(s) so far",
            "192.168.122.0/24",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("short"));
        assert!(
            screen(&json!({"mode": "network", "synchronised": false}))
                .starts_with("Serving, and telling every client")
        );
    }
}
