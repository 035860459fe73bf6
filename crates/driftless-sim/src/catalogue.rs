//! The scenarios that come with driftless, one file a family: parsed, inherited from one another, found by name.

use crate::scenario::{Scenario, ServerConfig};

/// Why scenarios could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// No TOML, a key that is not known, or a value of the wrong kind.
    #[error("{0}")]
    Toml(String),
    /// `like` names a scenario that does not stand before this one.
    #[error("scenario {name}: there is no scenario {like} before it to be like")]
    Like {
        /// Whose.
        name: String,
        /// Whom it names.
        like: String,
    },
    /// A scenario without a name.
    #[error("a [[scenario]] has no name")]
    Nameless,
    /// No `[[scenario]]` at all.
    #[error("no [[scenario]] in it")]
    Empty,
}

/// The built-in families.
const FAMILIES: [&str; 5] = [
    include_str!("../../../scenarios/1-life.toml"),
    include_str!("../../../scenarios/2-network.toml"),
    include_str!("../../../scenarios/3-oscillator.toml"),
    include_str!("../../../scenarios/4-selection.toml"),
    include_str!("../../../scenarios/5-protocol.toml"),
];

/// Every built-in scenario, in the order of the files.
///
/// # Errors
/// Where a file is wrong, which a test excludes.
pub fn builtin() -> Result<Vec<Scenario>, CatalogueError> {
    parse(&FAMILIES)
}

/// Scenarios of one or several texts. `like = "NAME"` takes over everything of an earlier one that is not said anew.
///
/// # Errors
/// What is wrong, and in which scenario.
pub fn parse(texts: &[&str]) -> Result<Vec<Scenario>, CatalogueError> {
    let mut whole: Vec<toml::Table> = Vec::new();
    for text in texts {
        let mut file: toml::Table = text.parse().map_err(toml_error)?;
        let Some(toml::Value::Array(scenarios)) = file.remove("scenario") else {
            return Err(CatalogueError::Empty);
        };
        if let Some(stray) = file.keys().next() {
            return Err(CatalogueError::Toml(format!("{stray}: only [[scenario]] belongs at the top")));
        }
        for scenario in scenarios {
            let toml::Value::Table(said) = scenario else { return Err(CatalogueError::Empty) };
            let complete = inherit(said, &whole)?;
            whole.push(complete);
        }
    }
    whole.into_iter().map(scenario).collect()
}

fn scenario(table: toml::Table) -> Result<Scenario, CatalogueError> {
    let name = name(&table)?.to_owned();
    let mut scenario: Scenario = table
        .try_into()
        .map_err(|error| CatalogueError::Toml(format!("scenario {name}: {}", one_line(&error))))?;
    if scenario.servers.is_empty() && scenario.devices.is_empty() {
        scenario.servers.push(ServerConfig::default());
    }
    Ok(scenario)
}

fn inherit(mut said: toml::Table, earlier: &[toml::Table]) -> Result<toml::Table, CatalogueError> {
    let Some(like) = said.remove("like") else { return Ok(said) };
    let like = like.as_str().unwrap_or_default().to_owned();
    let mut base = earlier
        .iter()
        .find(|table| name(table).is_ok_and(|other| other == like))
        .cloned()
        .ok_or_else(|| CatalogueError::Like { name: name(&said).unwrap_or_default().to_owned(), like })?;
    overlay(&mut base, said);
    Ok(base)
}

/// Puts `over` on `base`: tables key by key, everything else as a whole. One server laid over one server is a table over a table.
fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => overlay(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn name(table: &toml::Table) -> Result<&str, CatalogueError> {
    table.get("name").and_then(toml::Value::as_str).ok_or(CatalogueError::Nameless)
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn toml_error(error: toml::de::Error) -> CatalogueError {
    CatalogueError::Toml(error.to_string())
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_scenario_parses_and_stands_in_its_family() {
        let all = builtin().unwrap();
        for pair in all.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for scenario in &all {
            assert!(!scenario.about.is_empty() && scenario.settle < scenario.duration, "{}", scenario.name);
            assert!(scenario.limits != crate::limits::Limits::default(), "{} has no limits", scenario.name);
        }
    }

    #[test]
    fn a_scenario_is_another_with_differences() {
        let text = r#"
            [[scenario]]
            name = "a"
            oscillator = { drift_ppm = 5.0, wander_ppb = 7.0 }
            [[scenario]]
            name = "b"
            like = "a"
            oscillator.drift_ppm = -5.0
        "#;
        let b = &parse(&[text]).unwrap()[1].oscillator;
        assert_eq!(
            (b.drift_ppm.to_bits(), b.wander_ppb.to_bits()),
            ((-5.0_f64).to_bits(), 7.0_f64.to_bits())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| parse(&[text]).unwrap_err();
        assert_eq!(error("[[scenario]]\nabout = 'x'"), CatalogueError::Nameless);
        assert_eq!(error(""), CatalogueError::Empty);
        let like = CatalogueError::Like { name: "b".into(), like: "a".into() };
        assert_eq!(error("[[scenario]]\nname = 'b'\nlike = 'a'"), like);
        let typo = error("[[scenario]]\nname = 'b'\nduratoin = 1.0").to_string();
        assert!(typo.contains("scenario b") && typo.contains("duratoin"), "{typo}");
    }
}
