//! A finding: what was seen, what follows from it, and what to do about it.

use serde_json::{Value, json};

/// How bad it is. The exit status follows from the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Worth knowing; nothing need be done.
    Note,
    /// Worse than it should be, or about to go wrong.
    Warning,
    /// The clock is wrong, or nobody will put it right.
    Serious,
}

/// What may be found. Each has a section of its own, by its id, in docs/doctor.md.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    pub(crate) title: &'static str,
    pub(crate) consequence: &'static str,
    pub(crate) cure: &'static str,
}

/// A kind that was found here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: &'static Kind,
    /// What was seen, and where.
    pub(crate) evidence: String,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Serious => "serious",
        }
    }
}

impl Kind {
    /// It was found: what was seen.
    pub(crate) fn seen(&'static self, evidence: impl Into<String>) -> Finding {
        Finding { kind: self, evidence: evidence.into() }
    }
}

impl Finding {
    /// For people.
    pub(crate) fn words(&self) -> String {
        let Kind { id, severity, title, consequence, cure } = self.kind;
        format!(
            "{}: {title} [{id}]\n  seen  {}\n  so    {consequence}\n  cure  {cure}",
            severity.name(),
            self.evidence
        )
    }

    pub(crate) fn json(&self) -> Value {
        let Kind { id, severity, title, consequence, cure } = self.kind;
        json!({
            "id": id, "severity": severity.name(), "title": title,
            "evidence": self.evidence, "consequence": consequence, "cure": cure,
        })
    }
}
