//! What the load generator says of a server, for whoever started it.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// What one load made of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// How long requests were sent, seconds.
    pub seconds: f64,
    /// Requests sent.
    pub asked: u64,
    /// Good replies.
    pub replies: u64,
    /// Replies that are none to what was asked: another length, mode, version or origin, or a time that is not that of the exchange.
    pub wrong: u64,
    /// Good replies that came twice, or after they were given up.
    pub stray: u64,
    /// Those of them that came while requests were still sent.
    pub in_time: u64,
    /// The server's time on the processor, seconds.
    pub processor_s: f64,
    /// For how long the server had work and its core was somebody else's, seconds: other processes disturbed what was measured.
    pub waited_s: f64,
    /// Latencies in seconds: median, 99 %, 99.9 %.
    pub latency_s: [f64; 3],
}

impl Measured {
    /// Processor time per reply, seconds.
    #[must_use]
    pub fn per_reply_s(&self) -> f64 {
        self.processor_s / to_f64(self.replies.max(1))
    }

    /// Requests a second.
    #[must_use]
    pub fn offered(&self) -> f64 {
        to_f64(self.asked) / self.seconds
    }

    /// Good replies a second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        to_f64(self.in_time) / self.seconds
    }

    /// The part of the requests that got no reply.
    #[must_use]
    pub fn lost(&self) -> f64 {
        1.0 - to_f64(self.replies.min(self.asked)) / to_f64(self.asked.max(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of packets is far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}
