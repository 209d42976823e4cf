//! HTTP/1.1 as the plugin client of Docker speaks it: POST, a JSON body with its length, one request on each connection.
//!
//! That is all of HTTP that is needed, so it is parsed here: a crate for the head (`httparse`) would save half of this, and leave
//! the limits, the length and the refusals to it all the same.

/// The most bytes of a request line with its headers.
const MOST_HEAD: usize = 16 * 1024;
/// The most headers.
const MOST_HEADERS: usize = 64;
/// The most bytes of a body: those of Docker have some hundred.
pub(super) const MOST_BODY: usize = 1024 * 1024;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length in bytes.
    pub bytes: usize,
    /// What is called: `/NetworkDriver.Join`.
    pub path: String,
    /// The length of the body.
    pub body: usize,
}

/// Why a request is not served: the status of the answer, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub u16, pub &'static str);

/// Reads the head at the beginning of `text`. `None` if more bytes are to come.
///
/// # Errors
/// The connection can be used no longer.
pub(crate) fn head(text: &[u8]) -> Result<Option<Head>, Refusal> {
    let end = text.windows(4).take(MOST_HEAD).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return if text.len() > MOST_HEAD { Err(Refusal(431, "the headers are too long")) } else { Ok(None) };
    };
    let head = text.get(..end).and_then(|head| std::str::from_utf8(head).ok());
    let mut lines = head.ok_or(Refusal(400, "the headers are not text"))?.split("\r\n");
    let words: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let path = match words.as_slice() {
        ["POST", path, "HTTP/1.1" | "HTTP/1.0"] if path.starts_with('/') => (*path).to_owned(),
        [_, _, "HTTP/1.1" | "HTTP/1.0"] => return Err(Refusal(405, "only POST is served")),
        _ => return Err(Refusal(400, "the request line is not one of HTTP/1.1")),
    };
    let mut length = None;
    for (count, line) in lines.enumerate() {
        let (name, value) = line.split_once(':').ok_or(Refusal(400, "a header has no colon"))?;
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            _ if count >= MOST_HEADERS => return Err(Refusal(431, "there are too many headers")),
            "" => return Err(Refusal(400, "a header has no name")),
            // A second one would leave open which counts.
            "content-length" if length.is_some() => return Err(Refusal(400, "the length is given twice")),
            "content-length" => length = Some(digits(value).ok_or(Refusal(400, "the length is no number"))?),
            "transfer-encoding" => return Err(Refusal(501, "only bodies with a length are served")),
            _ => {}
        }
    }
    match length.unwrap_or_default() {
        body if body > MOST_BODY => Err(Refusal(413, "the body is too long")),
        body => Ok(Some(Head { bytes: end + 4, path, body })),
    }
}

/// A number of digits alone: `parse` would take a sign.
fn digits(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
}

/// The answer with this status and JSON body, after which the connection is closed. Docker would send another request on it when
/// this process is about to end, and repeats one that was cut without its body (moby, `pkg/plugins/client.go`).
pub(super) fn answer(status: u16, body: &str) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        _ => "Refused",
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/vnd.docker.plugins.v1.2+json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The answer to a request that is not served, as Docker shows it.
pub(super) fn refusal(Refusal(status, why): Refusal) -> Vec<u8> {
    answer(status, &serde_json::json!({ "Err": format!("the request is refused: {why}") }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker 28 sends it.
    const JOIN: &str = "POST /NetworkDriver.Join HTTP/1.1\r\nHost: %2Frun%2Fdocker%2Fplugins%2Funderlay.sock\r\n\
        User-Agent: Go-http-client/1.1\r\nContent-Length: 3\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n";

    fn refused(text: &str) -> u16 {
        head(text.as_bytes()).unwrap_err().0
    }

    #[test]
    fn requests_of_docker() {
        let text = format!("{JOIN}{{}}\nPOST");
        let path = "/NetworkDriver.Join".to_owned();
        let expected = Head { bytes: JOIN.len(), path, body: 3 };
        assert_eq!(head(text.as_bytes()), Ok(Some(expected)));
        for cut in 0..JOIN.len() {
            assert_eq!(head(&JOIN.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        let none = head(b"POST /Plugin.Activate HTTP/1.0\r\nconnection:\t close \r\n\r\n").unwrap().unwrap();
        assert_eq!(none.body, 0);
        let other = head(b"POST /x HTTP/1.1\r\nCONNECTION: Close\r\ncontent-length:7\r\n\r\n");
        assert!(other.unwrap().is_some_and(|head| head.body == 7));
    }

    #[test]
    fn what_is_refused() {
        for (text, status) in [
            ("GET /x HTTP/1.1\r\n\r\n", 405),
            ("POST x HTTP/1.1\r\n\r\n", 405),
            ("POST /x HTTP/2\r\n\r\n", 400),
            ("POST  /x HTTP/1.1\r\n\r\n", 400),
            ("\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nhost\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\n: x\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nContent-Length: +3\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nContent-Length: \r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
            ("POST /x HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
            ("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        ] {
            assert_eq!(refused(text), status, "{text:?}");
        }
        assert_eq!(refused(&"x".repeat(MOST_HEAD + 1)), 431);
        assert_eq!(refused(&format!("POST /x HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65))), 431);
        assert!(head(b"POST /\xff HTTP/1.1\r\n\r\n").is_err());
    }

    #[test]
    fn answers() {
        let text = String::from_utf8(answer(200, "{}")).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n")
                && text.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\n{}"),
            "{text}"
        );
        let text = String::from_utf8(refusal(Refusal(413, "the body is too long"))).unwrap();
        assert!(
            text.contains("Connection: close") && text.contains(r#"{"Err":"the request is refused: the"#),
            "{text}"
        );
    }
}
