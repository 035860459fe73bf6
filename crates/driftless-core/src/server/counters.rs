//! What a server did, and why it did not answer.

use serde::{Deserialize, Serialize};

/// Why a packet gets no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dropped {
    /// Shorter than a header.
    Short,
    /// Longer than any request.
    Long,
    /// Of a version other than 1 to 4.
    Version,
    /// A reply, a broadcast, or of no mode: perhaps our own, sent back.
    NoRequest,
    /// Control or private packets (modes 6 and 7), which amplify.
    Control,
    /// What follows the header does not fit.
    Extension,
    /// No reply can go where it says to come from, or it would come back to ourselves.
    Source,
    /// The client may not ask.
    Denied,
    /// The client asks too often.
    Limited,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Packets taken.
    pub received: u64,
    /// Replies made, kisses and interleaved ones among them.
    pub replies: u64,
    /// Replies in interleaved mode.
    pub interleaved: u64,
    /// Kisses "you ask too often".
    pub kisses: u64,
    /// Replies that could not be sent.
    pub send_failed: u64,
    /// What got no reply.
    pub dropped: DropCounters,
}

/// Packets without a reply, by reason: [`Dropped`] says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is a variant of Dropped")]
pub struct DropCounters {
    pub short: u64,
    pub long: u64,
    pub version: u64,
    pub no_request: u64,
    pub control: u64,
    pub extension: u64,
    pub source: u64,
    pub denied: u64,
    pub limited: u64,
}

impl Counters {
    /// Counts one that gets no reply.
    pub(super) const fn drop(&mut self, reason: Dropped) {
        let dropped = &mut self.dropped;
        let counter = match reason {
            Dropped::Short => &mut dropped.short,
            Dropped::Long => &mut dropped.long,
            Dropped::Version => &mut dropped.version,
            Dropped::NoRequest => &mut dropped.no_request,
            Dropped::Control => &mut dropped.control,
            Dropped::Extension => &mut dropped.extension,
            Dropped::Source => &mut dropped.source,
            Dropped::Denied => &mut dropped.denied,
            Dropped::Limited => &mut dropped.limited,
        };
        *counter += 1;
    }
}

impl DropCounters {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { short, long, version, no_request, control, extension, source, denied, limited } = *self;
        short + long + version + no_request + control + extension + source + denied + limited
    }
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DropCounters { short, long, version, no_request, control, extension, source, denied, limited } =
            self.dropped;
        write!(f, "{} replies, {} interleaved, {} kisses; ", self.replies, self.interleaved, self.kisses)?;
        write!(
            f,
            "dropped: {denied} denied, {limited} too frequent, {} malformed, ",
            short + long + extension
        )?;
        write!(f, "{} no requests, {version} of no version, {source} from nowhere; ", no_request + control)?;
        write!(f, "{} not sent", self.send_failed)
    }
}
