//! Faults of configured secrets.

use tower_klikit::{
    Keyring, WebhookSecret,
    diagnose::{Cause, Certainty, Diagnosis, diagnose},
};

use crate::diagnose::kit::{
    BODY, SECRET, assert_found, diagnose_with, file_by_shell, keyring, run, signature, signed, with_signature,
};

/// Diagnoses a delivery that is signed with `right`, for a receiver with `configured`.
fn diagnosed(right: impl AsRef<[u8]>, configured: impl AsRef<[u8]>) -> Diagnosis {
    diagnose(&keyring(configured), &signed(right, BODY.as_bytes()), BODY.as_bytes())
}

#[track_caller]
fn assert_cause(right: impl AsRef<[u8]>, configured: impl AsRef<[u8]>, cause: Cause) {
    let diagnosis = diagnosed(right, configured);
    assert_found(&diagnosis, cause, Certainty::Proven);
    assert_eq!(diagnosis.secret_id(), Some("default"));
}

/// Asserts the cause with each of the two secrets as the right one.
#[track_caller]
fn assert_either_way(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>, cause: Cause) {
    assert_cause(&one, &other, cause);
    assert_cause(&other, &one, cause);
}

#[test]
fn white_space_at_start_or_end() {
    let by_echo = file_by_shell(&format!("echo {SECRET} > \"$1\""));
    assert_eq!(by_echo, format!("{SECRET}\n").as_bytes());
    assert_either_way(SECRET, &by_echo, Cause::SecretWhiteSpace);
    let in_dos = run(&["sed", "s/$/\\r/"], &by_echo);
    assert_either_way(SECRET, &in_dos, Cause::SecretWhiteSpace);
    for end in [" ", "\t", "\r\n", "\n"] {
        assert_either_way(SECRET, format!("{SECRET}{end}"), Cause::SecretWhiteSpace);
        assert_either_way(SECRET, format!("{end}{SECRET}"), Cause::SecretWhiteSpace);
    }
    for configured in [format!("  {SECRET}"), format!("{SECRET} \n\n"), format!("\n {SECRET} \t\n")] {
        assert_cause(SECRET, configured, Cause::SecretWhiteSpace);
    }
    // The right secret ends in white space itself, and the configured one has more of it.
    assert_cause(format!("{SECRET} "), format!("{SECRET} \n"), Cause::SecretWhiteSpace);
}

#[test]
fn byte_order_mark() {
    let saved = run(
        &["python3", "-c", "import sys; sys.stdout.buffer.write(sys.stdin.read().encode('utf-8-sig'))"],
        SECRET.as_bytes(),
    );
    assert_either_way(SECRET, &saved, Cause::SecretByteOrderMark);
    assert_cause(SECRET, [&saved[..], b"\r\n"].concat(), Cause::SecretByteOrderMark);
}

#[test]
fn quotes_around_the_secret() {
    // Docker's --env-file takes everything after the first `=`.
    let line = file_by_shell(&format!("printf '%s' 'KLIKIT_WEBHOOK_SECRET=\"{SECRET}\"' > \"$1\""));
    let value = &line[line.iter().position(|&byte| byte == b'=').unwrap() + 1..];
    assert_either_way(SECRET, value, Cause::SecretQuoted);
    for quoted in [format!("'{SECRET}'"), format!("`{SECRET}`")] {
        assert_either_way(SECRET, quoted, Cause::SecretQuoted);
    }
    for configured in [format!("“{SECRET}”"), format!("\"{SECRET}\"\n"), format!("\"{SECRET}\n\"")] {
        assert_cause(SECRET, configured, Cause::SecretQuoted);
    }
}

#[test]
fn escaped_newline_at_the_end() {
    let configured = run(&["sh", "-c", "printf '%s' \"$0\"", &format!("{SECRET}\\n")], b"");
    assert_either_way(SECRET, configured, Cause::SecretEscaped);
    assert_cause(SECRET, format!("{SECRET}\\r\\n"), Cause::SecretEscaped);
}

#[test]
fn whole_line_of_an_environment_file() {
    let line = file_by_shell(&format!("echo 'KLIKIT_WEBHOOK_SECRET={SECRET}' > \"$1\""));
    assert_cause(SECRET, line, Cause::SecretLine);
    for line in [format!("SECRET='{SECRET}'"), format!("export KLIKIT_WEBHOOK_SECRET=\"{SECRET}\"\n")] {
        assert_cause(SECRET, line, Cause::SecretLine);
    }
}

#[test]
fn detects_encoded_secret() {
    let program = |line: &[&str], input: &str| {
        let text = String::from_utf8(run(line, input.as_bytes())).unwrap();
        text.split_whitespace().collect::<String>()
    };
    let line = format!("{SECRET}\n");
    let hex = program(&["python3", "-c", "import sys; print(sys.stdin.buffer.read().hex())"], SECRET);
    let texts = [
        program(&["base64"], SECRET),
        program(&["base64"], &line),
        program(&["base64"], SECRET).trim_end_matches('=').to_owned(),
        hex.to_uppercase(),
        hex,
    ];
    for text in texts {
        assert_cause(SECRET, &text, Cause::SecretEncoded);
        assert_cause(SECRET, format!("{text}\n"), Cause::SecretEncoded);
        assert_cause(SECRET, format!("\"{text}\""), Cause::SecretEncoded);
        assert_cause(&text, SECRET, Cause::SecretDecoded);
    }
    // Bytes that are not text, in all four variants of base64.
    let bytes: Vec<u8> = (0..=255).rev().step_by(8).collect();
    let standard = String::from_utf8(run(&["base64", "-w0"], &bytes)).unwrap();
    let url = standard.replace('+', "-").replace('/', "_");
    assert_ne!(standard, url);
    for text in [&standard, &url, standard.trim_end_matches('='), url.trim_end_matches('=')] {
        assert_cause(&bytes, text, Cause::SecretEncoded);
        assert_cause(text, &bytes, Cause::SecretDecoded);
    }
}

#[test]
fn detects_url_encoded_secret() {
    let secret = "s3cret/with+signs & spaces=é";
    let quote = |function: &str| {
        let program = format!("import sys, urllib.parse as u; print(u.{function}(sys.stdin.read()), end='')");
        run(&["python3", "-c", &program], secret.as_bytes())
    };
    for text in [quote("quote_plus"), [&quote("quote")[..], b"\n"].concat(), quote("quote_plus").to_ascii_lowercase()] {
        assert_cause(secret, &text, Cause::SecretEncoded);
    }
    for text in [quote("quote_plus"), run(&["jq", "-Rrj", "@uri"], secret.as_bytes())] {
        assert_cause(&text, secret, Cause::SecretDecoded);
    }
    // Only spaces are encoded, as plus signs.
    assert_cause("correct horse battery", "correct+horse+battery", Cause::SecretEncoded);
    assert_cause("correct+horse+battery", "correct horse battery", Cause::SecretDecoded);
}

#[test]
fn names_the_faulty_secret() {
    let keyring = Keyring::new("tenant", "good", WebhookSecret::new("another").unwrap());
    keyring.add("bad", WebhookSecret::new(format!("'{SECRET}'")).unwrap()).unwrap();
    keyring.add("other", WebhookSecret::new("a third").unwrap()).unwrap();
    let diagnosis = diagnose(&keyring, &signed(SECRET, BODY.as_bytes()), BODY.as_bytes());
    assert_found(&diagnosis, Cause::SecretQuoted, Certainty::Proven);
    assert_eq!(diagnosis.secret_id(), Some("bad"));
}

#[test]
fn names_the_candidate_that_matched() {
    let candidates = Keyring::new("candidates", "partner API", WebhookSecret::new("api-key").unwrap());
    candidates.add("sandbox", WebhookSecret::new("sandbox-key").unwrap()).unwrap();
    candidates.add("previous", WebhookSecret::new("previous-key").unwrap()).unwrap();
    for (secret, name) in [("api-key", "partner API"), ("sandbox-key", "sandbox"), ("previous-key", "previous")] {
        let headers = signed(secret, BODY.as_bytes());
        let diagnosis = diagnose_with(&candidates, keyring(SECRET), &headers, BODY.as_bytes());
        assert_found(&diagnosis, Cause::OtherSecret, Certainty::Proven);
        assert_eq!(diagnosis.secret_id(), Some(name));
        assert!(diagnosis.to_string().contains(&format!("{name:?}")), "{diagnosis}");

        let headers = with_signature(headers.clone(), format!("sha256={}", signature(&headers)));
        let diagnosis = diagnose_with(&candidates, keyring(SECRET), &headers, BODY.as_bytes());
        assert_eq!(
            (diagnosis.cause(), diagnosis.further_causes()),
            (Cause::OtherSecret, &[Cause::SignaturePrefixed][..])
        );
        // Without candidates, the cause is unknown.
        assert_found(
            &diagnose(&keyring(SECRET), &signed(secret, BODY.as_bytes()), BODY.as_bytes()),
            Cause::Unknown,
            Certainty::Unknown,
        );
    }
    let genuine = signed(SECRET, BODY.as_bytes());
    let diagnosis = diagnose_with(&candidates, keyring(SECRET), &genuine, BODY.as_bytes());
    assert_found(&diagnosis, Cause::Verifies, Certainty::Proven);
}

/// All layers around a secret must be removed, so all are named.
#[test]
fn names_all_layers_around_a_secret() {
    let all = |configured: String| {
        let diagnosis = diagnosed(SECRET, configured);
        assert_eq!(diagnosis.certainty(), Certainty::Proven, "{diagnosis}");
        [&[diagnosis.cause()], diagnosis.further_causes()].concat()
    };
    assert_eq!(all(format!("KLIKIT_WEBHOOK_SECRET=\"{SECRET}\"")), [Cause::SecretLine, Cause::SecretQuoted]);
    assert_eq!(all(format!("\"{SECRET}\"\n")), [Cause::SecretQuoted, Cause::SecretWhiteSpace]);
    let base64 = String::from_utf8(run(&["base64", "-w0"], SECRET.as_bytes())).unwrap();
    assert_eq!(all(format!("'{base64}'")), [Cause::SecretEncoded, Cause::SecretQuoted]);
}

/// Secrets that were copied from web pages and other kinds of files.
#[test]
fn invisible_characters_and_other_lines() {
    for configured in [format!("{SECRET}\u{a0}"), format!("\u{200b}{SECRET}"), format!("{SECRET}\u{2060} ")] {
        assert_cause(SECRET, configured, Cause::SecretWhiteSpace);
    }
    assert_cause("0123456789abcdef", "\"0123456789abcdef", Cause::SecretQuoted);
    for line in [format!("webhook_secret_key: {SECRET}"), format!("\"webhook_secret_key\": \"{SECRET}\",")] {
        assert_cause(SECRET, line, Cause::SecretLine);
    }
}

/// Anyone could guess the rest of these secrets and sign with it, and the log would then recommend that secret.
#[test]
fn empty_or_short_variants_are_not_tried() {
    for (configured, key) in [
        ("SECRET=", ""),
        ("SECRET=\"\"", ""),
        ("0000", "\0\0"),
        ("\\n", ""),
        ("A= ", " "),
        ("c2VjcmV0LTAxMjM0NQ==", "="),
        ("aB3x9=q", "q"),
        ("my-secret=1234567", "1234567"),
        ("\"1234567\"", "1234567"),
        ("MTIzNDU2Nw==", "1234567"),
    ] {
        let hex = String::from_utf8(run(
            &["openssl", "dgst", "-sha256", "-hmac", key.trim_end_matches('\0')],
            BODY.as_bytes(),
        ))
        .unwrap();
        let headers = with_signature(signed(SECRET, BODY.as_bytes()), hex.trim().rsplit(' ').next().unwrap());
        let diagnosis = diagnose(&keyring(configured), &headers, BODY.as_bytes());
        assert_ne!(diagnosis.certainty(), Certainty::Proven, "{configured}: {diagnosis}");
    }
}
