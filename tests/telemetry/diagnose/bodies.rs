//! Faults of bodies, except reencoded JSON.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    middleware::{Next, from_fn},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, header};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::decompression::RequestDecompressionLayer;
use tower_klikit::diagnose::Cause;

use crate::diagnose::{
    deliveries,
    kit::{BODY, MIXED, SECRET, assert_proven, assert_shown, assert_unknown, run, signed, with, without_length},
};

/// Calls `check` with each small sample and with [`MIXED`].
fn for_each_body(check: impl Fn(&[u8])) {
    let (_, samples) = deliveries::all();
    // The largest sample takes long and tests nothing more.
    let small = samples.iter().filter(|sample| sample.body.len() < 10_000).map(|sample| &sample.body[..]);
    small.chain([MIXED.as_bytes()]).for_each(check);
}

/// Returns the headers of a delivery of this body, without its length.
fn head(body: &[u8]) -> HeaderMap {
    without_length(signed(SECRET, body))
}

/// Asserts the cause for a body that a program changed, and for the reverse change.
fn assert_both_ways(command: &[&str], cause: Cause) {
    for_each_body(|body| {
        let changed = run(command, body);
        assert_ne!(changed, body, "{command:?} changes nothing");
        assert_proven(&head(body), &changed, cause);
        assert_proven(&head(&changed), body, cause);
    });
}

#[test]
fn newline_at_the_end() {
    assert_both_ways(&["sh", "-c", "printf '%s\\n' \"$(cat)\""], Cause::BodyFinalNewline);
    assert_both_ways(&["sh", "-c", "printf '%s\\r\\n' \"$(cat)\""], Cause::BodyFinalNewline);
    let diagnosis = assert_proven(&head(BODY.as_bytes()), format!("{BODY}\n").as_bytes(), Cause::BodyFinalNewline);
    assert!(diagnosis.to_string().contains("a line feed was added"), "{diagnosis}");
}

#[test]
fn byte_order_mark() {
    assert_both_ways(
        &[
            "python3",
            "-c",
            "import sys; b = sys.stdin.buffer.read(); sys.stdout.buffer.write(b.decode().encode('utf-8-sig'))",
        ],
        Cause::BodyByteOrderMark,
    );
}

#[test]
fn line_endings() {
    for_each_body(|body| {
        let lines = run(&["jq", "."], body);
        let in_dos = run(&["sed", "s/$/\\r/"], &lines);
        assert_proven(&head(&lines), &in_dos, Cause::BodyLineEndings);
        assert_proven(&head(&in_dos), &lines, Cause::BodyLineEndings);
    });
}

#[test]
fn other_character_set() {
    let latin1 = r#"{"title":"Café Söhne, Ñandú","orders":[]}"#;
    let windows = r#"{"title":"„Café“ — 5 €","orders":[]}"#;
    for (body, set) in [(latin1, "ISO-8859-1"), (latin1, "WINDOWS-1252"), (windows, "WINDOWS-1252")] {
        let body = body.as_bytes();
        let converted = run(&["iconv", "-f", "UTF-8", "-t", set], body);
        assert_proven(&head(body), &converted, Cause::BodyLatin1);
        let twice = run(&["iconv", "-f", set, "-t", "UTF-8"], body);
        assert_proven(&head(body), &twice, Cause::BodyEncodedTwice);
    }
    for_each_body(|body| {
        if !body.is_ascii() {
            let twice = run(&["iconv", "-f", "ISO-8859-1", "-t", "UTF-8"], body);
            assert_proven(&head(body), &twice, Cause::BodyEncodedTwice);
        }
    });
}

#[test]
fn compressed_after_signing() {
    let zlib = "import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))";
    let bare = "import sys, zlib; c = zlib.compressobj(wbits=-15); sys.stdout.buffer.write(c.compress(sys.stdin.buffer.read()) + c.flush())";
    for_each_body(|body| {
        for command in [&["gzip", "-c"][..], &["gzip", "-9nc"], &["python3", "-c", zlib], &["python3", "-c", bare]] {
            let packed = run(command, body);
            assert_proven(&head(body), &packed, Cause::BodyCompressed);
            assert_proven(&with(head(body), header::CONTENT_ENCODING, "gzip"), &packed, Cause::BodyCompressed);
            if command[1] != "-c" || command[0] == "gzip" || command[2] == zlib {
                assert_shown(&head(b"another"), &packed, Cause::BodyCompressed);
            }
        }
        assert_shown(&head(body), &run(&["zstd", "-c"], body), Cause::BodyCompressed);
    });
}

#[test]
fn text_that_begins_like_zlib_is_not_compressed() {
    for text in ["x^2 + y^2", "x\u{1}", "h\u{81}", "8O"] {
        assert_unknown(&head(BODY.as_bytes()), text.as_bytes());
    }
}

/// Sends a request through a layer, and returns the headers and the body that reach the handler.
async fn through<L>(layer: L, headers: HeaderMap, body: Vec<u8>) -> (HeaderMap, Bytes)
where
    L: tower::Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: tower::Service<Request> + Clone + Send + Sync + 'static,
    <L::Service as tower::Service<Request>>::Response: axum::response::IntoResponse + 'static,
    <L::Service as tower::Service<Request>>::Error: Into<std::convert::Infallible> + 'static,
    <L::Service as tower::Service<Request>>::Future: Send + 'static,
{
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let handler = async move |headers: HeaderMap, body: Bytes| sender.send((headers, body)).unwrap();
    let app = Router::new().route("/", post(handler)).layer(layer);
    let mut request = Request::post("/").body(Body::from(body)).unwrap();
    *request.headers_mut() = headers;
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    receiver.recv().await.unwrap()
}

#[tokio::test]
async fn decompressed_by_layer_that_removes_the_header() {
    let packed = run(&["gzip", "-c"], MIXED.as_bytes());
    let headers = with(signed(SECRET, &packed), header::CONTENT_ENCODING, "gzip");
    let layer = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: http::Request<_>| request.map(Body::new));
    let (headers, body) = through(layer, headers, packed).await;
    assert_eq!(body, MIXED);
    assert_unknown(&headers, &body);
}

/// Express's body-parser decompresses the body and keeps `Content-Encoding`.
#[tokio::test]
async fn decompressed_by_layer_that_keeps_the_header() {
    const ZLIB: &str = "import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))";
    const UNZLIB: &str = "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))";
    const BROTLI: &str = "process.stdout.write(require('zlib').brotliCompressSync(require('fs').readFileSync(0)))";
    const UNBROTLI: &str = "process.stdout.write(require('zlib').brotliDecompressSync(require('fs').readFileSync(0)))";
    type ShellCommand = &'static [&'static str];
    let cases: [(&str, ShellCommand, ShellCommand); 6] = [
        ("gzip", &["gzip", "-c"], &["gunzip", "-c"]),
        ("x-gzip", &["gzip", "-c"], &["gunzip", "-c"]),
        ("GZIP", &["gzip", "-c"], &["gunzip", "-c"]),
        ("deflate", &["python3", "-c", ZLIB], &["python3", "-c", UNZLIB]),
        ("br", &["node", "-e", BROTLI], &["node", "-e", UNBROTLI]),
        ("zstd", &["zstd", "-c"], &["zstd", "-dc"]),
    ];
    for (coding, pack, unpack) in cases {
        let packed = run(pack, MIXED.as_bytes());
        let unpacker = from_fn(async |request: Request, next: Next| {
            let (parts, body) = request.into_parts();
            let packed = to_bytes(body, 1 << 20).await.unwrap();
            next.run(Request::from_parts(parts, run(unpack, &packed).into())).await
        });
        for headers in [signed(SECRET, &packed), head(&packed)] {
            let headers = with(headers, header::CONTENT_ENCODING, coding);
            let (headers, body) = through(unpacker.clone(), headers, packed.clone()).await;
            assert_eq!(body, MIXED);
            let diagnosis = assert_shown(&headers, &body, Cause::BodyDecompressed);
            for part in [&*format!(": {} (", coding.to_lowercase()), "outside of the layer that decompresses the body"]
            {
                assert!(diagnosis.to_string().contains(part), "{diagnosis}");
            }
        }
        // A body that was signed compressed, and is still compressed, verifies.
        let headers = with(signed(SECRET, &packed), header::CONTENT_ENCODING, coding);
        assert_proven(&headers, &packed, Cause::Verifies);
    }
}

#[test]
fn other_content_encoding_is_no_cause() {
    for coding in ["identity", "", "gzip, br", "other"] {
        assert_unknown(&with(head(b"what klikit signed"), header::CONTENT_ENCODING, coding), BODY.as_bytes());
    }
    // The body is not JSON, so it may be compressed with brotli.
    assert_unknown(&with(head(BODY.as_bytes()), header::CONTENT_ENCODING, "br"), b"\x0b\x02{}\x03");
}

#[tokio::test]
async fn body_was_read_by_outer_middleware() {
    let reader = from_fn(async |request: Request, next: Next| {
        let (parts, body) = request.into_parts();
        assert_eq!(to_bytes(body, 1 << 20).await.unwrap(), BODY);
        next.run(Request::from_parts(parts, Body::empty())).await
    });
    let (headers, body) = through(reader, signed(SECRET, BODY.as_bytes()), BODY.into()).await;
    assert_eq!(body, "");
    let diagnosis = assert_shown(&headers, &body, Cause::BodyEmpty);
    assert!(diagnosis.to_string().contains("0 bytes of 49"), "{diagnosis}");
    assert_shown(&head(BODY.as_bytes()), b"", Cause::BodyEmpty);
}

#[test]
fn shorter_than_announced() {
    let cut = run(&["head", "-c", "20"], BODY.as_bytes());
    let diagnosis = assert_shown(&signed(SECRET, BODY.as_bytes()), &cut, Cause::BodyShorter);
    assert!(diagnosis.to_string().contains("20 bytes of 49"), "{diagnosis}");
    assert_unknown(&head(BODY.as_bytes()), &cut);
    let twice = with(signed(SECRET, BODY.as_bytes()), header::CONTENT_LENGTH, "49");
    assert_unknown(&twice, &cut);
}

#[test]
fn longer_than_announced() {
    assert_shown(&signed(SECRET, BODY.as_bytes()), BODY.repeat(2).as_bytes(), Cause::BodyLonger);
}

#[test]
fn proven_cause_wins_over_shown_cause() {
    // The request shows a body that is too short, and the signature proves that only the newline is missing.
    assert_proven(&signed(SECRET, format!("{BODY}\n").as_bytes()), BODY.as_bytes(), Cause::BodyFinalNewline);
}

#[test]
fn compressed_in_several_gzip_members() {
    for_each_body(|body| {
        let (start, end) = body.split_at(body.len() / 3);
        let packed = [run(&["gzip", "-c"], start), run(&["gzip", "-c"], end)].concat();
        assert_proven(&head(body), &packed, Cause::BodyCompressed);
    });
}

/// The data after the compressed part was not signed, so compression does not explain the mismatch.
#[test]
fn compressed_body_followed_by_other_data() {
    let zlib = "import sys, zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))";
    let bare = "import sys, zlib; c = zlib.compressobj(wbits=-15); sys.stdout.buffer.write(c.compress(sys.stdin.buffer.read()) + c.flush())";
    for command in [&["gzip", "-c"][..], &["python3", "-c", zlib], &["python3", "-c", bare]] {
        let packed = run(command, MIXED.as_bytes());
        assert_proven(&head(MIXED.as_bytes()), &packed, Cause::BodyCompressed);
        for trailing in [&b"garbage"[..], b"\0", &packed[..10]] {
            assert_unknown(&head(MIXED.as_bytes()), &[&packed[..], trailing].concat());
        }
    }
}

/// This crate cannot decode these bodies, but they are not text either.
#[test]
fn compressed_according_to_content_encoding() {
    // `{}` in brotli, and a zstd frame without its magic number.
    let labelled = |coding, body: &[u8]| (with(head(BODY.as_bytes()), header::CONTENT_ENCODING, coding), body.to_vec());
    for (headers, body) in
        [labelled("br", b"\x0b\x00\x80{}\x03"), labelled("zstd", b"\x50\x2a\x4d\x18\x01\x00\x00\x00\xff")]
    {
        let diagnosis = assert_shown(&headers, &body, Cause::BodyCompressed);
        assert!(diagnosis.detail().unwrap().contains("as its Content-Encoding says"), "{diagnosis}");
    }
    // With another `Content-Encoding`, a binary body is no evidence.
    let (headers, body) = labelled("identity", b"\x0b\x00\x80{}\x03");
    assert_unknown(&headers, &body);
}

/// Programs that wrap a body as AWS API Gateway does with a binary media type, and as other tools do.
const WRAPPERS: [&[&str]; 9] = [
    &["base64"],
    &["base64", "-w0"],
    &[
        "python3",
        "-c",
        "import sys, base64; print(base64.urlsafe_b64encode(sys.stdin.buffer.read()).decode().rstrip('='))",
    ],
    &["python3", "-c", "import sys; print(sys.stdin.buffer.read().hex())"],
    &["python3", "-c", "import sys, urllib.parse as u; print(u.quote(sys.stdin.buffer.read()), end='')"],
    &[
        "python3",
        "-c",
        "import sys, urllib.parse as u; print(u.urlencode({'payload': sys.stdin.buffer.read()}), end='')",
    ],
    &["python3", "-c", "import sys, json; print(json.dumps(sys.stdin.read()))"],
    &[
        "python3",
        "-c",
        "import sys, json; json.dump({'httpMethod': 'POST', 'body': sys.stdin.read(), 'isBase64Encoded': False}, sys.stdout)",
    ],
    &[
        "python3",
        "-c",
        "import sys, json, base64; json.dump({'body': base64.b64encode(sys.stdin.buffer.read()).decode(), 'isBase64Encoded': True}, sys.stdout)",
    ],
];

#[test]
fn wrapped_in_another_encoding() {
    for command in WRAPPERS {
        for_each_body(|body| {
            let wrapped = run(command, body);
            let diagnosis = assert_proven(&head(body), &wrapped, Cause::BodyWrapped);
            assert_eq!(diagnosis.further_causes(), [], "{diagnosis}");
            // The request shows the wrapping even if the secret is wrong.
            assert_shown(&without_length(signed("another secret", body)), &wrapped, Cause::BodyWrapped);
        });
    }
    let wrapped = run(&["base64", "-w0"], BODY.as_bytes());
    let diagnosis = assert_proven(&head(BODY.as_bytes()), &wrapped, Cause::BodyWrapped);
    assert_eq!(diagnosis.detail(), Some("base64"));
    let text = diagnosis.to_string();
    assert!(text.contains("AWS API Gateway") && !text.contains("brand_id") && !text.contains("eyJ"), "{text}");
    // A body that was wrapped before it was signed verifies. A wrapped body that is not an object has no shown cause.
    assert_proven(&head(&wrapped), &wrapped, Cause::Verifies);
    assert_unknown(&head(BODY.as_bytes()), &run(&["base64"], b"another text"));
}

#[test]
fn wrapped_after_another_change() {
    let changes: [(&[&str], Cause); 4] = [
        (&["sed", "s/$/\r/"], Cause::BodyLineEndings),
        (&["sh", "-c", "cat; echo"], Cause::BodyFinalNewline),
        (&["jq", "."], Cause::BodyReencoded),
        (&["gzip", "-c"], Cause::BodyCompressed),
    ];
    let compact = run(&["jq", "-cj", "."], MIXED.as_bytes());
    let lines = run(&["jq", "."], MIXED.as_bytes());
    for (command, cause) in changes {
        let original = if cause == Cause::BodyLineEndings { &lines } else { &compact };
        let wrapped = run(&["base64"], &run(command, original));
        let diagnosis = assert_proven(&head(original), &wrapped, Cause::BodyWrapped);
        assert_eq!(diagnosis.further_causes(), [cause], "{diagnosis}");
        for fix in [Cause::BodyWrapped.fix(), cause.fix()] {
            assert!(diagnosis.to_string().contains(fix), "{diagnosis}");
        }
    }
}

/// Some editors make two changes when they save a file.
#[test]
fn two_changes_of_the_text() {
    let lines = run(&["jq", "."], MIXED.as_bytes());
    let in_dos = run(&["sed", "s/$/\r/"], &lines);
    let marked = ["\u{feff}".as_bytes(), &in_dos].concat();
    let diagnosis = assert_proven(&head(&lines), &marked, Cause::BodyByteOrderMark);
    assert_eq!(diagnosis.further_causes(), [Cause::BodyLineEndings], "{diagnosis}");
    let marked = ["\u{feff}".as_bytes(), &lines].concat();
    let compact = run(&["jq", "-cj", "."], MIXED.as_bytes());
    let diagnosis = assert_proven(&head(&compact), &marked, Cause::BodyByteOrderMark);
    assert_eq!(diagnosis.further_causes(), [Cause::BodyReencoded], "{diagnosis}");
}
