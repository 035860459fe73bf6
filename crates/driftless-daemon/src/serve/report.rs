//! What `driftless serve --status` is told.

use driftless_linux::clock::wall;
use serde_json::{Value, json};

use super::Server;
use super::datagrams::place;
use crate::civil::rfc3339;

/// The whole state in one piece; keys are promised by `docs/server.md`.
pub(super) fn status(server: &Server) -> Value {
    let now = wall();
    let sockets =
        server.datagrams.sockets().iter().chain(server.threads.iter().flat_map(|thread| &thread.sockets));
    let datagrams =
        sockets.map(|socket| json!({"kind": "datagrams", "place": place(socket), "lost": socket.lost()}));
    let streams = server
        .guests
        .listeners()
        .map(|listener| json!({"kind": "streams", "place": listener.place, "taken": listener.taken}));
    let listeners: Vec<Value> = datagrams.chain(streams).collect();
    let desk = server.desk.lock();
    let said = desk.said();
    json!({
        "mode": if desk.is_as_is() { "as-is" } else { "network" },
        "synchronised": said.stratum < 16,
        "stratum": said.stratum,
        "leap": said.leap,
        "reference_id": said.reference_id.escape_ascii().to_string(),
        "root_delay": said.root_delay.0,
        "root_dispersion": said.root_dispersion.0,
        "reference_time": said.reference.map(rfc3339),
        "interruptions": desk.interruptions,
        "last_told": server.upkeep.last_told.map(|(at, guests)| json!({"time": rfc3339(at.wall), "guests": guests})),
        "listeners": listeners,
        "threads": server.threads.len() + 1,
        "networks": desk.networks().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "streams": {
            "open": server.guests.count(),
            "taken": server.guests.tally.taken,
            "refused": server.guests.tally.refused,
        },
        "clients": desk.responder.clients(now),
        "counters": desk.responder.counters(),
    })
}
