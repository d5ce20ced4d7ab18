//! Requests in text files: headers, and raw HTTP.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// Parses lines of headers. A request line before them and HTTP/2's pseudo-headers are skipped.
///
/// The error names the faulty line and not its content, which may be a secret.
pub(crate) fn headers(text: &[u8]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        if line.is_empty() || line.starts_with(b":") || (index == 0 && is_request_line(line)) {
            continue;
        }
        let (name, value) = header(line).ok_or_else(|| format!("line {} is not `name: value`", index + 1))?;
        headers.try_append(name, value).map_err(|_| "there are too many headers".to_owned())?;
    }
    Ok(headers)
}

/// Parses a raw HTTP request: a request line, headers, an empty line, and the body. Skips empty lines before the request
/// line (RFC 9112, section 2.2).
pub(crate) fn request(mut dump: &[u8]) -> Result<(HeaderMap, Vec<u8>), String> {
    while let Some(rest) = dump.strip_prefix(b"\r\n").or_else(|| dump.strip_prefix(b"\n")) {
        dump = rest;
    }
    let (head, body) = split(dump).ok_or("there is no empty line between headers and body")?;
    let headers = headers(head)?;
    let body = if is_chunked(&headers) {
        unchunked(body).ok_or("the chunked body is malformed")?
    } else {
        without_final_line_ending(body, &headers).to_vec()
    };
    Ok((headers, body))
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    // White space around a value is not part of it (RFC 9110, section 5.5).
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

fn is_request_line(line: &[u8]) -> bool {
    line.split(|byte| *byte == b' ').next_back().is_some_and(|version| version.starts_with(b"HTTP/"))
}

/// Splits a dump at its first empty line.
fn split(dump: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    for line in dump.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if matches!(line, b"\n" | b"\r\n") {
            return Some((&dump[..start], &dump[end..]));
        }
        start = end;
    }
    None
}

/// Returns whether the last transfer coding is `chunked` (RFC 9112, section 6.1).
fn is_chunked(headers: &HeaderMap) -> bool {
    let codings =
        headers.get_all(TRANSFER_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.last().is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Returns the content of a chunked body (RFC 9112, section 7.1). Trailers are ignored.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let size = str::from_utf8(&rest[..end]).ok()?;
        let size = size.split(';').next()?.trim();
        let is_hex = size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_hex)?;
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = &rest[size..];
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"))?;
    }
}

/// Removes what an editor added after the announced end of the body.
fn without_final_line_ending<'a>(body: &'a [u8], headers: &HeaderMap) -> &'a [u8] {
    let announced = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    match announced.and_then(|len| body.split_at_checked(len)) {
        Some((announced, b"\n" | b"\r\n")) => announced,
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(dump: &str) -> Result<String, String> {
        request(dump.as_bytes()).map(|(_, body)| String::from_utf8(body).unwrap())
    }

    #[test]
    fn reads_raw_requests() {
        let (headers, body) =
            request(b"POST /w HTTP/1.1\r\nX-Klikit-Event-Id:  evt-1 \r\nx: \xe9\r\nx: 2\r\n\r\n{}\r\n").unwrap();
        assert_eq!(headers["x-klikit-event-id"], "evt-1");
        assert_eq!(headers.get_all("x").iter().map(HeaderValue::as_bytes).collect::<Vec<_>>(), [&b"\xe9"[..], b"2"]);
        assert_eq!(body, b"{}\r\n");
        let (headers, body) = request(b":method: POST\n:path: /w\nA: b\n\n{\n\n}").unwrap();
        assert_eq!((headers.len(), &*body), (1, &b"{\n\n}"[..]));
        let (headers, body) = request(b"\r\n\nPOST /w HTTP/1.1\na: b\n\n{}").unwrap();
        assert_eq!((headers.len(), &*body), (1, &b"{}"[..]));
    }

    #[test]
    fn final_line_ending_counts_if_announced() {
        assert_eq!(body("content-length: 2\n\n{}\n").unwrap(), "{}");
        assert_eq!(body("content-length: 3\n\n{}\n").unwrap(), "{}\n");
        assert_eq!(body("content-length: 2\n\n{}xy").unwrap(), "{}xy");
        assert_eq!(body("content-length: 9\n\n{}\n").unwrap(), "{}\n");
    }

    #[test]
    fn chunked_bodies_are_joined() {
        let head = "Transfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(
            body(&format!("{head}4\r\n{{\"a\"\r\n00a;x=y\r\n:123456789\r\n1\n}}\n0\r\n\r\n")).unwrap(),
            "{\"a\":123456789}"
        );
        assert_eq!(body("transfer-encoding: gzip, chunked\n\n1\nx\n0\n\n").unwrap(), "x");
        assert_eq!(body("transfer-encoding: chunked, gzip\n\n1\nx\n0\n\n").unwrap(), "1\nx\n0\n\n");
        for malformed in
            ["", "+2\r\n{}\r\n0\r\n", "x\r\n", "5\r\n{}\r\n0\r\n", "2\r\n{}0\r\n", "ffffffffffffffff\r\n{}"]
        {
            assert_eq!(body(&format!("{head}{malformed}")), Err("the chunked body is malformed".into()), "{malformed}");
        }
    }

    #[test]
    fn faulty_lines_are_named_and_not_shown() {
        for (dump, fault) in [
            ("", "there is no empty line between headers and body"),
            ("a: b\n", "there is no empty line between headers and body"),
            ("a: b\nsecret\n\n", "line 2 is not `name: value`"),
            ("a b: c\n\n", "line 1 is not `name: value`"),
            ("a: b\n c\n\n", "line 2 is not `name: value`"),
            ("a: \u{1}\n\n", "line 1 is not `name: value`"),
        ] {
            assert_eq!(body(dump), Err(fault.into()), "{dump:?}");
        }
    }
}
