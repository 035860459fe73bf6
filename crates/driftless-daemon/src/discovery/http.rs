//! One bounded HTTP GET: what a metadata service needs, and no more. It runs on an errand's thread, never on the loop's.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Why a document was not had.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it takes longer than {} s", PATIENCE.as_secs())]
    Slow,
    #[error("it is longer than {} kB", DOCUMENT_MAX / 1_024)]
    Long,
    #[error("not what HTTP looks like")]
    Malformed,
    #[error("HTTP status {0}")]
    Status(u16),
}

/// For connection and document together.
const PATIENCE: Duration = Duration::from_secs(1);
/// A longer document is refused, not cut: half a document is another document.
const DOCUMENT_MAX: usize = 64 * 1_024;
/// The lines before it.
const HEAD_MAX: usize = 8 * 1_024;

/// The document at `path`. HTTP/1.0: no chunks, and its end is the connection's.
pub(super) fn get(server: SocketAddr, path: &str) -> Result<String, HttpError> {
    let end = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: */*\r\n\r\n", server.ip());
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HttpError::Slow);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(HttpError::Slow),
            Err(error) => return Err(error.into()),
        }
        if answer.len() > HEAD_MAX + DOCUMENT_MAX {
            return Err(HttpError::Long);
        }
    }
    document(answer)
}

fn document(answer: Vec<u8>) -> Result<String, HttpError> {
    let answer = String::from_utf8(answer).map_err(|_| HttpError::Malformed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(HttpError::Malformed)?;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status: u16 =
        words.next().and_then(|word| word.parse().ok()).filter(|_| is_http).ok_or(HttpError::Malformed)?;
    // An answer in chunks to a question in HTTP/1.0 is none.
    let is_chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding:");
    match status {
        200 if is_chunked => Err(HttpError::Malformed),
        200 if body.len() > DOCUMENT_MAX => Err(HttpError::Long),
        200 => Ok(body.to_owned()),
        _ => Err(HttpError::Status(status)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server on loopback for one connection, which `serve` has after the question was read.
    pub(in crate::discovery) fn server(serve: impl FnOnce(TcpStream, String) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 1_024];
            let count = stream.read(&mut question).unwrap();
            serve(stream, String::from_utf8_lossy(&question[..count]).into_owned());
        });
        address
    }

    fn answered(answer: impl Into<Vec<u8>>) -> Result<String, HttpError> {
        let answer = answer.into();
        get(server(move |mut stream, _| drop(stream.write_all(&answer))), "/x")
    }

    #[test]
    fn a_document_is_had_as_it_is() {
        let told = server(|mut stream, question| {
            assert!(
                question.starts_with("GET /openstack/latest/vendor_data.json HTTP/1.0\r\n"),
                "{question}"
            );
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}").unwrap();
        });
        assert_eq!(get(told, "/openstack/latest/vendor_data.json").unwrap(), "{}");
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(matches!(answered("HTTP/1.0 404 Not Found\r\n\r\nno"), Err(HttpError::Status(404))));
        for garbage in [
            "",
            "{}",
            "HTTP/1.0\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ] {
            assert!(matches!(answered(garbage), Err(HttpError::Malformed)), "{garbage:?}");
        }
        assert!(matches!(answered(b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe".to_vec()), Err(HttpError::Malformed)));
        let long = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(DOCUMENT_MAX + 1));
        assert!(matches!(answered(long), Err(HttpError::Long)));
    }

    #[test]
    fn a_document_without_end_and_one_that_drips_are_given_up() {
        let endless = server(|mut stream, _| {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 4_096]).is_ok() {}
        });
        assert!(matches!(get(endless, "/x"), Err(HttpError::Long)));
        let start = Instant::now();
        let dripping = server(move |mut stream, _| {
            while start.elapsed() < Duration::from_secs(5) && stream.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        assert!(matches!(get(dripping, "/x"), Err(HttpError::Slow)));
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
