//! `preflight` finds mistakes in secrets and limits, and passes sound ones.

use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use tower_klikit::{
    Keyring, KlikitVerifyLayer, WebhookSecret,
    preflight::{
        PreflightError,
        ProblemKind::{self, *},
    },
};
use tower_klikit_test_support::random::Random;

/// A secret without problems: random and long enough.
const SECRET: &str = "cd3b7a8ac9bd4b1d9f6be0cc21d37a55";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn secret(text: impl AsRef<[u8]>) -> WebhookSecret {
    WebhookSecret::new(text).unwrap()
}

/// Returns the kinds of the problems that a check found.
fn kinds(result: Result<(), PreflightError>) -> Vec<ProblemKind> {
    result.map_or_else(|error| error.problems().iter().map(|problem| problem.kind()).collect(), |()| Vec::new())
}

fn of_secret(text: impl AsRef<[u8]>) -> Vec<ProblemKind> {
    kinds(Keyring::from(secret(text)).preflight())
}

/// Asserts that each of these secrets has only this problem.
#[track_caller]
fn assert_each(texts: impl IntoIterator<Item = String>, kind: ProblemKind) {
    for text in texts {
        assert_eq!(of_secret(&text), [kind], "{text:?}");
    }
}

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
fn finds_short_placeholders() {
    let placeholders = [
        "your-webhook-secret",
        "YOUR_WEBHOOK_SECRET",
        "<your webhook secret here>",
        "your-webhook-secret-key",
        "klikit-webhook-secret",
        "klikit-test-secret",
        "changeme",
        "change-me",
        "CHANGE_ME_123",
        "secret",
        "supersecret",
        "my-secret-key",
        "password",
        "test",
        "testing123",
        "example",
        "placeholder",
        "todo",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "xxxx-xxxx-xxxx",
        "********************************",
        "0",
        "12345678",
        "<secret>",
        "[SECRET]",
        "%KLIKIT_WEBHOOK_SECRET%",
        "${KLIKIT_WEBHOOK_SECRET}",
        "${KLIKIT_WEBHOOK_SECRET:-}",
        "$(cat /run/secrets/klikit)",
        "{{ .Values.klikit.secret }}",
        "$KLIKIT_WEBHOOK_SECRET",
        "undefined",
        "null",
    ];
    assert_each(placeholders.map(str::to_owned), SecretPlaceholder);
}

#[test]
fn passes_random_secrets_that_contain_words() {
    for word in ["test", "secret", "example", "changeme", "xxx", "your-webhook-secret"] {
        for text in [format!("{word}{SECRET}"), format!("{SECRET}{word}"), format!("cd3b7a8a-{word}-c9bd4b1d9f6b")] {
            assert_eq!(of_secret(&text), [], "{text}");
        }
    }
    for text in [
        "#$%^&*(!@me)_+{}|~,.;",
        "correct-horse-battery-staple",
        "klikit-2948571029385716",
        "$2b$10$N9qo8uLOickgx2ZMRZoMye",
    ] {
        assert_eq!(of_secret(text), [], "{text}");
    }
}

/// Each placeholder is paired with a similar text that may be random.
#[test]
fn finds_long_placeholders() {
    let cases = [
        // Words.
        ("your-secret-goes-here", "your-secret-goes-here-k7"),
        ("YOUR_SECRET_HERE_PLEASE", "YOUR_SECRET_HERE_QVXJK"),
        ("your-webhook-secret-from-klikit-dashboard", "your-webhook-secret-from-klikit-f6be0cc2"),
        ("klikit-fixture-secret", "klikit-fixture-6be0cc21d37a55"),
        ("klikit-secret-0123456789", "klikit-secret-0123456798"),
        // Runs.
        ("0123456789abcdef", "0123456789abcefd"),
        ("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abdcef"),
        ("12345678901234567890", "12345678901243567890"),
        ("FEDCBA9876543210", "FEDCBA9876542310"),
        ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxzy"),
        ("aaaa-bbbb-cccc-dddd", "aaaa-bbbb-cccc-ddee"),
        // Blocks.
        ("deadbeefdeadbeefdeadbeefdeadbeef", "deadbeefdeadbeefdeadbeefdeadbeaf"),
        ("abc123abc123abc123", "abc132abc123abc123"),
        ("hunter2-hunter2-hunter2", "hunter2-hunter3-hunter2"),
        ("!$%&!$%&!$%&!$%&", "!$%&!$%&!$%&!$&%"),
        // References.
        ("process.env.KLIKIT_WEBHOOK_SECRET", "process-env-9f6be0cc21d37a55"),
        ("os.environ[\"KLIKIT_WEBHOOK_SECRET\"]", "os.environs.KLIKIT_WEBHOOK_QVXJK"),
        ("secrets.KLIKIT_WEBHOOK_SECRET", "secrets.KLIKIT_WEBHOOK_9f6be0cc"),
        ("op://prod/klikit/webhook-secret", "op//prod/klikit/webhook-secret"),
        ("ref+vault://secret/klikit#/webhook", "9f6b:/e0cc/21d37a55c9bd"),
        ("vault:secret/data/klikit#webhook", "vaults:9f6be0cc21d37a55c9bd"),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:klikit-a1b2c3", "bali-bites:9f6be0cc21d37a55"),
        ("${{ secrets.KLIKIT_WEBHOOK_SECRET }}", "${{9f6be0cc21d37a55"),
        ("#{orders.webhook.secret}", "#klikit9f6be0cc21d37a55}"),
    ];
    for (placeholder, secret) in cases {
        assert_eq!(of_secret(placeholder), [SecretPlaceholder], "{placeholder}");
        assert_eq!(of_secret(secret), [], "{secret}");
    }
    // The secret of the sample deliveries is among the placeholders.
    assert!(include_str!("../deliveries/index.json").contains(cases[3].0));
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

#[test]
fn reports_all_problems_at_once() {
    let layer = KlikitVerifyLayer::new(" \"changeme\"").body_limit(0).body_deadline(Duration::ZERO);
    let expected = [SecretWhiteSpace, SecretQuoted, SecretPlaceholder, BodyLimitTooLow, BodyDeadlineZero];
    assert_eq!(kinds(layer.preflight()), expected);
}

#[test]
fn checks_limits_of_verify_layer() {
    let layer = || KlikitVerifyLayer::new(SECRET);
    assert_eq!(layer().preflight(), Ok(()));
    let cases = [
        (layer().body_limit(0), BodyLimitTooLow),
        (layer().body_limit(160 * 1024 - 1), BodyLimitTooLow),
        (layer().buffer_budget(0), BufferBudgetTooLow),
        (layer().buffer_budget(1024 * 1024 - 1), BufferBudgetTooLow),
        (layer().body_deadline(Duration::ZERO), BodyDeadlineZero),
        (layer().body_deadline(10 * SECOND + Duration::from_nanos(1)), BodyDeadlineTooLong),
    ];
    for (layer, kind) in cases {
        assert_eq!(kinds(layer.preflight()), [kind]);
    }
    let edges = [
        layer().body_limit(160 * 1024),
        layer().buffer_budget(1024 * 1024),
        layer().body_deadline(10 * SECOND),
        layer().body_deadline(SECOND / 1000),
    ];
    for layer in edges {
        assert_eq!(layer.preflight(), Ok(()), "{layer:?}");
    }
    // The largest known delivery fits.
    assert!(include_bytes!("../deliveries/batch-of-six-large-orders.json").len() <= 160 * 1024);
}

#[cfg(feature = "payload")]
#[test]
fn finds_tolerance_below_a_second() {
    let layer = |tolerance| KlikitVerifyLayer::new(SECRET).accept_timestamped(tolerance);
    assert_eq!(kinds(layer(SECOND / 2).preflight()), [ToleranceTooShort]);
    assert_eq!(layer(SECOND).preflight(), Ok(()));
}

#[test]
fn checks_known_keyrings_of_a_resolver() {
    let keyring = |tenant, text| Keyring::new(tenant, "2026-11", secret(text));
    let layer = KlikitVerifyLayer::with_resolver(|_| None);
    let layer = layer.known_keyrings([keyring("warung", SECRET), keyring("bali-bites", "your-webhook-secret")]);
    assert_eq!(kinds(layer.preflight()), [SecretPlaceholder]);
}

#[test]
fn does_not_call_the_resolver() {
    let layer = KlikitVerifyLayer::with_resolver(|_| panic!("there is no request"));
    assert_eq!(layer.preflight(), Ok(()));
    assert_eq!(kinds(layer.body_limit(1).preflight()), [BodyLimitTooLow]);
}

#[cfg(feature = "dedupe")]
#[test]
fn checks_times_of_dedupe_layer() {
    use tower_klikit::{
        dedupe::{Identity, KlikitDedupeLayer},
        store::MemoryStore,
    };
    let layer = || KlikitDedupeLayer::new(MemoryStore::new());
    assert_eq!(layer().preflight(), Ok(()));
    let cases = [
        (layer().lease(Duration::ZERO), LeaseTooShort),
        (layer().lease(3 * SECOND), LeaseTooShort),
        (layer().lease(4 * SECOND).claim_deadline(3 * SECOND), LeaseTooShort),
        (layer().lease(30 * SECOND), LeaseTooLong),
        (layer().retention(31 * HOUR), RetentionTooShort),
        (layer().claim_deadline(Duration::ZERO), ClaimDeadlineZero),
        (layer().claim_deadline(5 * SECOND), ClaimDeadlineTooLong),
        (layer().handler_deadline(Duration::ZERO), HandlerDeadlineZero),
    ];
    for (layer, kind) in cases {
        assert_eq!(kinds(layer.preflight()), [kind], "{layer:?}");
    }
    let edges = [
        layer().lease(3001 * SECOND / 1000),
        layer().lease(29 * SECOND),
        layer().retention(32 * HOUR),
        layer().claim_deadline(4999 * SECOND / 1000),
        layer().handler_deadline(SECOND),
        layer().replay_limit(1000, HOUR),
        layer().replay_limit(1, SECOND * 4),
        layer().replay_limit(u16::MAX, HOUR).identity(Identity::Body),
    ];
    for layer in edges {
        assert_eq!(layer.preflight(), Ok(()), "{layer:?}");
    }
}

#[cfg(feature = "inbox")]
#[test]
fn checks_limits_of_inbox_and_worker() {
    use tower_klikit::{inbox::Inbox, store::MemoryStore};
    let inbox = || Inbox::new(MemoryStore::new());
    assert_eq!(inbox().preflight(), Ok(()));
    let cases = [
        (inbox().retention(HOUR), RetentionTooShort),
        (inbox().accept_deadline(Duration::ZERO), AcceptDeadlineZero),
        (inbox().accept_deadline(10 * SECOND), AcceptDeadlineTooLong),
        (inbox().max_backlog(0), MaxBacklogZero),
        (inbox().max_stored(99_999), MaxStoredTooLow),
        (inbox().max_backlog(1_000_001), MaxStoredTooLow),
        (inbox().replay_limit(0, HOUR), ReplayLimitZero),
        (inbox().replay_limit(16, SECOND / 2), ReplayLimitZero),
        (inbox().replay_limit(16, SECOND), ReplayLimitTooHigh),
        (inbox().allow_unlimited_replays(), ReplayLimitTooHigh),
    ];
    for (inbox, kind) in cases {
        assert_eq!(kinds(inbox.preflight()), [kind], "{inbox:?}");
    }
    for inbox in [inbox().accept_deadline(9 * SECOND), inbox().max_backlog(1), inbox().max_stored(100_000)] {
        assert_eq!(inbox.preflight(), Ok(()), "{inbox:?}");
    }

    let worker = || inbox().worker(());
    assert_eq!(worker().preflight(), Ok(()));
    let cases = [
        (worker().handler_deadline(Duration::ZERO), HandlerDeadlineZero),
        (worker().backoff(2 * SECOND, SECOND), BackoffReversed),
        (worker().backoff(Duration::ZERO, SECOND), BackoffZero),
        (worker().backoff(SECOND, Duration::ZERO), BackoffZero),
    ];
    for (worker, kind) in cases {
        assert_eq!(kinds(worker.preflight()), [kind], "{worker:?}");
    }
    assert_eq!(worker().backoff(SECOND, SECOND).preflight(), Ok(()));
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

#[test]
fn error_names_settings_but_no_secret() {
    let keyring = Keyring::new("bali-bites", "2026-06", secret(format!("\"{SECRET}\"\n")));
    keyring.add("2026-11", secret(SECRET)).unwrap();
    keyring.add("2026-12", secret("hunter2")).unwrap();
    let error = KlikitVerifyLayer::with_keyring(keyring).body_limit(1).preflight().unwrap_err();
    let text = error.to_string();
    for part in
        ["\"2026-06\" has white space", "\"2026-06\" has quotes", "next to \"2026-11\"", "; body_limit is below"]
    {
        assert!(text.contains(part), "{text}");
    }
    for line in error.problems() {
        assert!(line.to_string().starts_with(char::is_lowercase), "{line}");
    }
    let printed = format!("{text} {error:?} {error:#?}");
    // Neither parts of the secrets nor their lengths, which are 32, 34, 35 and 7 bytes.
    for hidden in [&SECRET[..6], &SECRET[26..], "hunter", "32", "34", "35", "7"] {
        assert!(!printed.contains(hidden), "{hidden}: {printed}");
    }
}
