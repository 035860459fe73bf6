//! What a cloud's operator hands over in a document of vendor data (JSON), or in a cloud-config.
//!
//! The key is ours, `{"driftless": {"sources": ["ntp:10.0.0.1"]}}`, with servers' addresses, names or SPECs of servers; cloud-init's own `{"ntp": {"servers": [],
//! "pools": []}}` counts as well. Either may stand at the top or one level below, as in `vendor_data2.json`, where each service of the operator has a key, or
//! in the cloud-config that OpenStack's vendor data carries as text under `cloud-init`.

use serde_json::Value;

use super::candidate::{Candidate, Rank};
use crate::spec;

/// More sources of one document are not taken.
const SOURCES_MAX: usize = 8;
/// Services of `vendor_data2.json` that are looked at.
const SERVICES_MAX: usize = 16;

/// The servers that a document of vendor data names; `evidence` tells where it was.
///
/// # Errors
/// Why it is none, in words.
pub(super) fn servers(document: &str, evidence: &str) -> Result<Vec<Candidate>, String> {
    let document: Value =
        serde_json::from_str(document).map_err(|error| format!("{evidence}: no JSON: {error}"))?;
    let top = document.as_object().ok_or_else(|| format!("{evidence}: no JSON object"))?;
    let services = top.values().filter(|value| value.is_object()).take(SERVICES_MAX);
    let levels: Vec<&Value> = [&document].into_iter().chain(services).collect();
    let mut found: Vec<Candidate> = levels.iter().flat_map(|level| ours(level, evidence)).collect();
    if found.is_empty() {
        let theirs = |level: &&Value| {
            let carried = level["cloud-init"].as_str().map(|config| in_cloud_config(config, evidence));
            carried.into_iter().flatten().chain(cloud_inits(level, evidence)).collect::<Vec<_>>()
        };
        found = levels.iter().flat_map(theirs).collect();
    }
    found.truncate(SOURCES_MAX);
    Ok(found)
}

/// The servers under our key.
fn ours(level: &Value, evidence: &str) -> Vec<Candidate> {
    named(&list(&level["driftless"]["sources"]), &format!("{evidence}, key driftless.sources"))
}

/// The servers under cloud-init's key.
fn cloud_inits(level: &Value, evidence: &str) -> Vec<Candidate> {
    let ntp = &level["ntp"];
    if ntp["enabled"] == false {
        return Vec::new();
    }
    let words: Vec<String> = list(&ntp["servers"]).into_iter().chain(list(&ntp["pools"])).collect();
    named(&words, &format!("{evidence}, key ntp"))
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Candidates of words and SPECs of servers. A device is none: what this machine has the document cannot know.
fn named(words: &[String], evidence: &str) -> Vec<Candidate> {
    let one = |word: &String| match spec::parse(word) {
        Ok(_) => word.starts_with("ntp").then(|| Candidate::new(word, Rank::HandedOver, evidence)),
        Err(_) => Candidate::server(word, Rank::HandedOver, evidence),
    };
    words.iter().filter_map(one).collect()
}

/// The servers that a cloud-config names: its `driftless` and `ntp` keys, as cloud-init writes them and as people do.
pub(super) fn in_cloud_config(config: &str, evidence: &str) -> Vec<Candidate> {
    let level = serde_json::from_str(config).unwrap_or_else(|_| keys_of(config));
    let found = ours(&level, evidence);
    if found.is_empty() { cloud_inits(&level, evidence) } else { found }
}

/// What matters of a cloud-config in YAML, as JSON.
fn keys_of(config: &str) -> Value {
    serde_json::json!({
        "driftless": { "sources": list_in(config, "driftless", "sources") },
        "ntp": {
            "enabled": list_in(config, "ntp", "enabled").first().is_none_or(|word| !matches!(word.as_str(), "false" | "no" | "off")),
            "servers": list_in(config, "ntp", "servers"), "pools": list_in(config, "ntp", "pools"),
        },
    })
}

/// The words of the list `key` within the mapping `top` of a YAML document, in block or flow style: all of YAML that is needed, and that reading text by lines allows.
fn list_in(config: &str, top: &str, key: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut is_within, mut indent) = (false, None);
    for line in config.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let depth = line.len() - text.len();
        if depth == 0 && !text.starts_with('-') {
            is_within = text.strip_suffix(':') == Some(top);
            indent = None;
        } else if let Some(item) =
            text.strip_prefix('-').filter(|_| indent.is_some_and(|indent| depth >= indent))
        {
            words.push(unquoted(item).to_owned());
        } else if let Some(value) =
            text.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).filter(|_| is_within)
        {
            indent = Some(depth);
            let value = value.trim();
            let flow = value.strip_prefix('[').and_then(|value| value.strip_suffix(']')).unwrap_or(value);
            words.extend(flow.split(',').map(unquoted).filter(|word| !word.is_empty()).map(str::to_owned));
        } else {
            indent = None;
        }
    }
    words
}

fn unquoted(word: &str) -> &str {
    word.trim().trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(document: &str) -> Vec<String> {
        servers(document, "here").unwrap().into_iter().map(|one| one.spec).collect()
    }

    #[test]
    fn our_key_names_sources() {
        assert_eq!(
            specs(
                r#"{"driftless": {"sources": ["10.0.0.1", "ntp:10.0.0.2?maxpoll=4", "fd00::1", "time.lab.example"]}}"#
            ),
            ["ntp:10.0.0.1", "ntp:10.0.0.2?maxpoll=4", "ntp:[fd00::1]", "ntp:time.lab.example"]
        );
        assert_eq!(specs(r#"{"static": {"driftless": {"sources": ["10.0.0.1"]}}}"#), ["ntp:10.0.0.1"]);
        let found = servers(r#"{"driftless": {"sources": ["10.0.0.1"]}}"#, "here").unwrap();
        assert_eq!(found[0].evidence, "here, key driftless.sources");
    }

    #[test]
    fn cloud_inits_key_counts_as_well_and_ours_stands_above_it() {
        assert_eq!(
            specs(r#"{"ntp": {"servers": ["10.0.0.1"], "pools": ["p.example"]}}"#),
            ["ntp:10.0.0.1", "ntp:p.example"]
        );
        assert_eq!(specs(r#"{"ntp": {"enabled": false, "servers": ["10.0.0.1"]}}"#), Vec::<String>::new());
        assert_eq!(
            specs(r#"{"ntp": {"servers": ["10.0.0.1"]}, "driftless": {"sources": ["10.0.0.9"]}}"#),
            ["ntp:10.0.0.9"]
        );
        let carried = r##"{"cloud-init": "#cloud-config\nntp:\n  enabled: true\n  servers:\n    - 10.0.0.3 # ours\n    - 'fd00::3'\n  pools: [a.example, \"b.example\"]\npackages:\n  - vim\n"}"##;
        assert_eq!(specs(carried), ["ntp:10.0.0.3", "ntp:[fd00::3]", "ntp:a.example", "ntp:b.example"]);
    }

    #[test]
    fn lists_stand_at_any_indent_and_end_where_they_end() {
        let config = "ntp:\n  servers:\n  - a.example\n  - b.example\n  ntp_client: chrony\n  allow:\n  - 10.0.0.0/8\nservers:\n- no.example\n";
        assert_eq!(list_in(config, "ntp", "servers"), ["a.example", "b.example"]);
        assert_eq!(
            list_in("users:\n- servers:\n  - x\nntp:\n  pools: []\n", "ntp", "servers"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn hostile_documents_are_refused_or_say_nothing() {
        for document in ["", "[", "[]", "null", "\"ntp\"", &"[".repeat(60_000), "{\"a\":1}}"] {
            assert!(servers(document, "here").is_err(), "{}", &document[..document.len().min(20)]);
        }
        for document in [
            r#"{"driftless": "ntp:10.0.0.1"}"#,
            r#"{"driftless": {"sources": "ntp:10.0.0.1"}}"#,
            r#"{"driftless": {"sources": [1, null, {"a": 1}, "", "a b", "$(reboot)", "phc:/dev/sda", "rtc:", "ntp:"]}}"#,
            r#"{"a": {"b": {"driftless": {"sources": ["10.0.0.1"]}}}}"#,
            r#"{"cloud-init": 7, "ntp": []}"#,
        ] {
            assert_eq!(specs(document), Vec::<String>::new(), "{document}");
        }
        let many =
            format!("{{\"driftless\": {{\"sources\": [{}\"10.0.0.1\"]}}}}", "\"10.0.0.1\",".repeat(5_000));
        assert_eq!(specs(&many).len(), SOURCES_MAX);
    }
}
