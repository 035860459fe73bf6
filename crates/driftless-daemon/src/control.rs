//! The control socket: one JSON request and one JSON reply a line, versioned. Documented in `docs/control-protocol.md`.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftless_core::engine::Order;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The protocol's version.
pub const VERSION: u32 = 1;
/// Longest request.
const REQUEST_MAX: usize = 4_096;
/// A client that does not say its line in that time is left: the daemon's own work waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);
/// A reply that nobody answers.
const REPLY_PATIENCE: Duration = Duration::from_secs(5);

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The whole report.
    Status,
    /// Correct the offset at once.
    Makestep,
    /// Ask every source several times now.
    Burst,
    /// Ask again.
    Online,
    /// Ask nobody.
    Offline,
}

/// A request as it goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    v: u32,
    request: Request,
}

/// Why asking the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("no daemon answers at {}: {error}; start one with `driftless run`", path.display())]
    NoDaemon {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It answered nonsense.
    #[error("the daemon's reply is not understood: {0}")]
    Reply(String),
    /// It refused.
    #[error("the daemon refused: {0}")]
    Refused(String),
}

/// The daemon's end.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Request {
    /// The engine's order for it; `None` for a mere question.
    #[must_use]
    pub const fn order(self) -> Option<Order> {
        match self {
            Self::Status => None,
            Self::Makestep => Some(Order::MakeStep),
            Self::Burst => Some(Order::Burst),
            Self::Online => Some(Order::Online),
            Self::Offline => Some(Order::Offline),
        }
    }
}

impl Listener {
    /// Listens at `path`, for root (or our own user) alone; takes the place of a socket that nobody serves any more.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` when another daemon answers there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another driftless is running"));
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if fs::symlink_metadata(path).is_ok() {
            fs::remove_file(path)?;
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Serves one waiting client: `answer` makes of a request the report, or says why not.
    pub fn serve(&self, answer: impl FnMut(Request) -> Result<Value, String>) {
        if let Ok((client, _)) = self.socket.accept() {
            // A client that leaves early has its reason.
            let _ = serve_client(client, answer);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Asks the daemon at `path`; returns its report. One that was left for being slow, on a machine that is busy, asks again.
///
/// # Errors
/// [`ControlError`], with what to do.
pub fn ask(path: &Path, request: Request) -> Result<Value, ControlError> {
    /// Attempts beside the last.
    const ATTEMPTS: u32 = 9;
    for _ in 0..ATTEMPTS {
        match ask_within(path, request, REPLY_PATIENCE) {
            Err(ControlError::NoDaemon { error, .. }) if was_left(&error) => {}
            result => return result,
        }
    }
    ask_within(path, request, REPLY_PATIENCE)
}

/// Whether whoever was asked closed without a word.
fn was_left(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}

/// As [`ask`], with no more patience than that.
///
/// # Errors
/// [`ControlError`], with what to do.
pub fn ask_within(path: &Path, request: Request, patience: Duration) -> Result<Value, ControlError> {
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(&Envelope { v: VERSION, request })?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut reply = String::new();
        match BufReader::new(stream).read_line(&mut reply)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(reply),
        }
    };
    let reply = exchange().map_err(|error| ControlError::NoDaemon { path: path.to_owned(), error })?;
    let mut value: Value = serde_json::from_str(&reply).map_err(|e| ControlError::Reply(e.to_string()))?;
    if value["ok"] == json!(true) {
        return Ok(value["status"].take());
    }
    Err(ControlError::Refused(value["error"].as_str().unwrap_or("without a reason").to_owned()))
}

fn serve_client(
    client: UnixStream,
    mut answer: impl FnMut(Request) -> Result<Value, String>,
) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&client).take(REQUEST_MAX as u64)).read_line(&mut line)?;
    let reply = match serde_json::from_str::<Envelope>(&line) {
        Ok(Envelope { v: VERSION, request }) => match answer(request) {
            Ok(status) => json!({"v": VERSION, "ok": true, "status": status}),
            Err(error) => json!({"v": VERSION, "ok": false, "error": error}),
        },
        Ok(Envelope { v, .. }) => {
            json!({"v": VERSION, "ok": false, "error": format!("version {v} is not spoken here, {VERSION} is")})
        }
        Err(error) => {
            json!({"v": VERSION, "ok": false, "error": format!("request not understood: {error}")})
        }
    };
    (&client).write_all(format!("{reply}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_nonsense_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(Listener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let asking = std::thread::spawn({
            let path = path.clone();
            move || ask(&path, Request::Status)
        });
        let _ = listener.socket.set_nonblocking(false);
        listener.serve(|_| Ok(json!({}))); // The probing connection of the second bind: it says nothing.
        listener.serve(|request| Ok(json!({"asked": request})));
        assert_eq!(asking.join().unwrap().unwrap(), json!({"asked": "status"}));
        let mut rude = UnixStream::connect(&path).unwrap();
        rude.write_all(b"{\"v\":1,\"request\":\"explode\"}\n").unwrap();
        listener.serve(|_| panic!("must not be asked"));
        let mut reply = String::new();
        rude.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("\"ok\":false"), "{reply}");
    }

    #[test]
    fn one_that_was_left_for_being_slow_asks_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asking = std::thread::spawn(move || ask(&path, Request::Status));
        for _ in 0..3 {
            drop(listener.accept().unwrap());
        }
        serve_client(listener.accept().unwrap().0, |_| Ok(json!("here"))).unwrap();
        assert_eq!(asking.join().unwrap().unwrap(), json!("here"));
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let error = ask(Path::new("/nonexistent/control.sock"), Request::Status).unwrap_err();
        assert!(error.to_string().contains("driftless run"));
    }
}
