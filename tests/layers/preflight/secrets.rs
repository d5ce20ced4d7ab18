//! Tests of secrets that were copied with something around them, that are too short, or that are nearly equal.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use tower_klikit_test_support::random::Random;

use super::*;

/// Replaces `…` with the secret.
fn fill<const N: usize>(patterns: [&str; N]) -> [String; N] {
    patterns.map(|pattern| pattern.replace('…', SECRET))
}

#[test]
fn finds_white_space_at_the_ends() {
    assert_each(fill(["…\n", "…\r\n", " …", "\t…", "…\u{a0}", "\u{feff}…", "…\u{200b}", "…\0"]), SecretWhiteSpace);
}

#[test]
fn finds_quotes() {
    assert_each(fill(["\"…\"", "'…'", "`…`", "“…”", "„…“", "‘…’", "«…»", "…\"", "'…", "…”"]), SecretQuoted);
    // The quote is part of a random secret with punctuation.
    assert_eq!(of_secret("'hK#9$vT!pQ2@mZ7&wX4%rL8^"), []);
}

#[test]
fn finds_whole_lines() {
    let lines = [
        "KLIKIT_WEBHOOK_SECRET=…",
        "KLIKIT_WEBHOOK_SECRET = …",
        "export KLIKIT_WEBHOOK_SECRET=\"…\"",
        "$env:KLIKIT_WEBHOOK_SECRET = '…'",
        "webhook_secret_key: …",
        "webhook-secret: \"…\"",
        "\"webhook_secret_key\": \"…\",",
        "{\"webhook_secret_key\":\"…\"}",
    ];
    assert_each(fill(lines), SecretLine);
}

#[test]
fn finds_escape_sequences() {
    assert_each(fill([r"…\n", r"…\r\n"]), SecretEscaped);
}

#[test]
fn finds_binary_secrets() {
    for bytes in [&[0xff; 32][..], b"\xff\xfec\0d\x003\0b\x007\0a\08\0a\0c\0", b"cd3b7a8ac9bd4b1d\n9f6be0cc21d37a55"] {
        assert_eq!(of_secret(bytes), [SecretNotText]);
    }
    // A key of control bytes only is binary, not white space around a text.
    let key: Vec<u8> = (0..32).collect();
    assert_eq!(of_secret(&key), [SecretNotText]);
    let keyring = Keyring::from(secret(&key));
    keyring.add("new", secret([0x1f; 32])).unwrap();
    assert_eq!(kinds(keyring.preflight()), [SecretNotText, SecretNotText]);
}

#[test]
fn finds_short_secrets() {
    assert_each(["hunter2".to_owned(), SECRET[..15].to_owned()], SecretTooShort);
    assert_eq!(of_secret(&SECRET[..16]), []);
    // Escapes, quotes and white space do not count towards the length.
    assert_eq!(of_secret(r"\n"), [SecretEscaped, SecretTooShort]);
    assert_eq!(of_secret("\"hunter2\"          "), [SecretWhiteSpace, SecretQuoted, SecretTooShort]);
}

#[test]
fn finds_nearly_equal_secrets() {
    for typo in fill(["…\n", "\"…\"", "“…”", "KLIKIT_WEBHOOK_SECRET=…", r"…\n"]) {
        let keyring = Keyring::new("bali-bites", "2026-06", secret(SECRET));
        keyring.add("2026-11", secret(&typo)).unwrap();
        let error = keyring.preflight().unwrap_err();
        let found: Vec<_> = error.problems().iter().map(|problem| (problem.kind(), problem.secret_id())).collect();
        assert_eq!(found.len(), 2, "{error}");
        assert_eq!((found[0].1, found[1]), (Some("2026-11"), (SecretNearlyTwice, Some("2026-06"))), "{error}");
    }
    let keyring = Keyring::from(secret(SECRET));
    keyring.add("other", secret(&SECRET[1..])).unwrap();
    assert_eq!(keyring.preflight(), Ok(()));
}

fn alphanumerics(random: &mut Random, length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).map(|_| char::from(random.of(LETTERS))).collect()
}

/// Returns random words, joined by dashes. Two of the candidates also occur in placeholders.
fn words(random: &mut Random, count: usize) -> String {
    const WORDS: &str = "acid badge cargo delta ember fable gecko hazel ivory jumbo key lunar mango noble open pixel quota \
        ranch solar test umbra vivid walnut xenon yacht zebra";
    let words: Vec<&str> = WORDS.split(' ').collect();
    (0..count).map(|_| random.of(&words)).collect::<Vec<_>>().join("-")
}

/// All visible ASCII characters except quotes and the backslash, which at the ends of a secret may by chance look like
/// mistakes.
const VISIBLE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&()*+,-./:;<=>?@[]^_{|}~";

#[test]
fn random_secrets_pass() {
    let random = &mut Random(20_261_122);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for _ in 0..10_000 {
        let bytes = random.bytes::<32>();
        let digits = hex(&random.bytes::<16>());
        let uuid = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-");
        let secrets = [
            hex(&bytes),
            hex(&bytes).to_uppercase(),
            Base64::encode_string(&bytes),
            Base64UrlUnpadded::encode_string(&bytes),
            uuid,
            alphanumerics(random, 24),
            alphanumerics(random, 16),
            words(random, 5),
            (0..20).map(|_| char::from(random.of(VISIBLE))).collect(),
        ];
        for text in secrets {
            assert_eq!(of_secret(&text), [], "{text}");
        }
    }
}
