//! Tests of placeholders in place of a secret, and of random secrets that resemble them.

use super::*;

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
    assert!(include_str!("../../deliveries/index.json").contains(cases[3].0));
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
