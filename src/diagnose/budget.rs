//! The limit on the work of one diagnosis.

#[cfg(test)]
use std::cell::Cell;

/// The number of passes over a body (hashing, writing or decompressing) that one diagnosis may take. The limit counts bytes, so
/// that a body that grows when it is rewritten counts with its full length. 256 hashes of 8 KB take a few milliseconds.
pub(super) const MAX_PASSES: usize = 256;

/// The largest limit in bytes, except for bodies so large that it would allow fewer than [`MIN_PASSES`] passes. Spending it takes
/// about a tenth of a second. Bodies shorter than about 256 KiB do not reach it: they get [`MAX_PASSES`] passes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The number of passes that a body of any length gets: enough for the causes that need only one hash for each secret.
const MIN_PASSES: usize = 16;

/// The cost of deriving a key in addition to the secret's length: two blocks of SHA-256.
pub(super) const KEY_COST: usize = 128;

/// The cost of a signature in addition to the text's length: padding and the outer hash.
pub(super) const TAG_COST: usize = 128;

/// The remaining budget of one diagnosis, in bytes that are hashed with SHA-256, written or decompressed.
///
/// A budget can be divided but not copied, so that no byte is spent twice.
pub(super) struct SearchBudget {
    left: usize,
    is_cut_short: bool,
}

impl SearchBudget {
    /// Creates the budget for a body of `len` bytes.
    pub(super) fn for_body(len: usize) -> Self {
        // Reserve one pass: a text is charged after it is written, and the last one may exceed the remaining budget.
        Self { left: limit(len).saturating_sub(pass(len)), is_cut_short: false }
    }

    /// Moves a part of the remaining budget into a new one: the budget divided by `divisor`, or the cost of `min_passes` passes over
    /// a body of `len` bytes if that is more. Moves everything if less than that remains.
    pub(super) fn split_off(&mut self, divisor: usize, len: usize, min_passes: usize) -> Self {
        let left = pass(len).saturating_mul(min_passes).max(self.left / divisor).min(self.left);
        self.left -= left;
        Self { left, is_cut_short: false }
    }

    /// Runs a search that may spend only a part of the remaining budget: the budget divided by `divisor`.
    pub(super) fn within<T>(&mut self, divisor: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        let kept = self.left - self.left / divisor;
        self.left -= kept;
        let result = run(self);
        self.left += kept;
        result
    }

    /// Returns the remaining bytes, for work whose cost is not known in advance.
    pub(super) fn remaining(&self) -> usize {
        self.left
    }

    /// Spends `bytes` if that much remains, and returns whether it did. Otherwise marks the search as cut short.
    pub(super) fn try_spend(&mut self, bytes: usize) -> bool {
        let is_affordable = bytes <= self.left;
        if is_affordable {
            self.charge(bytes);
        } else {
            self.is_cut_short = true;
        }
        is_affordable
    }

    /// Spends `bytes` for work that is already done. Returns whether that much remained; if not, the budget is empty afterwards.
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        #[cfg(test)]
        SPENT.set(SPENT.get() + bytes);
        let left = self.left.checked_sub(bytes);
        self.is_cut_short |= left.is_none();
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Records that something was skipped because of its cost.
    pub(super) fn mark_cut_short(&mut self) {
        self.is_cut_short = true;
    }

    /// Returns whether something was skipped because of its cost.
    pub(super) fn was_cut_short(&self) -> bool {
        self.is_cut_short
    }
}

/// Returns the limit for a body of `len` bytes.
fn limit(len: usize) -> usize {
    pass(len).saturating_mul(MAX_PASSES).min(pass(len).saturating_mul(MIN_PASSES).max(MAX_BYTES))
}

/// Returns the cost of one pass over a body of `len` bytes.
fn pass(len: usize) -> usize {
    len.saturating_add(KEY_COST + TAG_COST)
}

#[cfg(test)]
thread_local! {
    /// The bytes that all budgets on this thread have spent.
    pub(super) static SPENT: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::{
        diagnose::{Cause, Diagnostician, search::EVIDENCE_PART, secret_variants},
        header::SIGNATURE,
        keyring::Keyring,
        secret::WebhookSecret,
    };

    /// Returns compressed zeros: at least `len` bytes of gzip data, which decompresses to about a thousand times as many.
    fn bomb(len: usize) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        while packer.get_ref().len() < len {
            packer.write_all(&[0; 64 * 1024]).unwrap();
        }
        packer.finish().unwrap()
    }

    /// Returns a secret in quotes and Base64, which has many variants.
    fn quoted(n: usize) -> String {
        format!("\"c2VjcmV0LT{n}=\"\n")
    }

    /// Returns a keyring with the maximum number of secrets.
    fn keyring(secret: impl Fn(usize) -> String) -> Keyring {
        let keyring = Keyring::new("tenant", "0", WebhookSecret::new(secret(0)).unwrap());
        for n in 1..Keyring::MAX_SECRETS {
            keyring.add(n.to_string(), WebhookSecret::new(secret(n)).unwrap()).unwrap();
        }
        keyring
    }

    #[test]
    fn diagnosis_stays_within_budget() {
        assert!(secret_variants::variants(quoted(0).as_bytes()).len() > 20);
        let long = |n: usize| format!("\"{n}{}\"\n", "x".repeat(4000));
        let single = Keyring::from(WebhookSecret::new(quoted(0)).unwrap());
        let keyrings = [single, keyring(quoted), keyring(long)];

        let timestamped: Vec<String> = (0..9).map(|n| format!("t={n},v1={}", "0".repeat(64))).collect();
        let signatures = [vec!["0".repeat(64)], timestamped, vec![vec!["0".repeat(64); 100].join(",")]];

        let text = |len: usize| format!("[\"{}\"]", "é/".repeat(len / 3)).into_bytes();
        let mut empty_gzip_members = Vec::new();
        for _ in 0..500 {
            empty_gzip_members.extend(bomb(0));
        }
        let bodies = [
            Vec::new(),
            b"1".to_vec(),
            text(1000),
            text(20_000),
            "\u{80}'\n".repeat(5000).into(),
            bomb(1),
            bomb(20_000),
            empty_gzip_members,
            [b"\x1f\x8b\x08".to_vec(), vec![0xff; 10_000]].concat(),
        ];
        let mut cut_short = 0;
        for keyring in &keyrings {
            for values in &signatures {
                let mut headers = HeaderMap::new();
                for value in values {
                    headers.append(SIGNATURE, HeaderValue::from_str(value).unwrap());
                }
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
                let diagnostician = Diagnostician::new(keyring.clone()).candidates(keyring.clone());
                for body in &bodies {
                    SPENT.set(0);
                    let diagnosis = diagnostician.diagnose(&headers, body);
                    let most = limit(body.len());
                    assert!(
                        SPENT.get() <= most,
                        "spent {} bytes of {most} on {}: {diagnosis}",
                        SPENT.get(),
                        body.len()
                    );
                    cut_short += usize::from(!diagnosis.tried_all());
                }
            }
        }
        assert!(cut_short > 20, "only {cut_short} searches were cut short");
    }

    #[test]
    fn exhausted_search_reports_shown_faults() {
        let headers = HeaderMap::from_iter([(SIGNATURE, HeaderValue::from_str(&"0".repeat(64)).unwrap())]);
        let body = bomb(20_000);
        let diagnosis = Diagnostician::new(keyring(|n| format!("a secret, {n}"))).diagnose(&headers, &body);
        assert_eq!(diagnosis.cause(), Cause::BodyCompressed, "{diagnosis}");
        assert!(!diagnosis.tried_all());
        // Without a signature there is no search. The diagnosis spends only the part of the budget for shown faults.
        SPENT.set(0);
        Diagnostician::new(keyring(|n| format!("a secret, {n}"))).diagnose(&HeaderMap::new(), &body);
        assert!(SPENT.get() <= limit(body.len()) / EVIDENCE_PART, "spent {} bytes", SPENT.get());
    }

    #[test]
    fn limit_depends_on_the_length_of_the_body() {
        const KIB: usize = 1024;
        for (len, most) in [
            (0, 256 * 256),
            (8 * KIB, 256 * (8 * KIB + 256)),
            (255 * KIB, 256 * (255 * KIB + 256)),
            (256 * KIB, MAX_BYTES),
            (4095 * KIB, MAX_BYTES),
            (8192 * KIB, 16 * (8192 * KIB + 256)),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(limit(len), most, "{len}");
        }
    }

    #[test]
    fn search_of_large_bodies_is_cut_short() {
        let order = r#"{"id":42,"title":"Nasi <göreng> & teh/kopi","x":[1,2,{"b":1,"a":null}]},"#;
        let body = |len: usize| format!("{{\"orders\":[{}1]}}", order.repeat(len / order.len())).into_bytes();
        let right = WebhookSecret::new("the right secret").unwrap();
        let signature = right.sign("another body").to_string();
        let headers = HeaderMap::from_iter([(SIGNATURE, HeaderValue::from_str(&signature).unwrap())]);
        for (len, secrets) in [(1 << 20, keyring(quoted)), (5 << 20, Keyring::from(right))] {
            let body = body(len);
            SPENT.set(0);
            let diagnosis = Diagnostician::new(secrets).diagnose(&headers, &body);
            assert!(SPENT.get() <= limit(body.len()), "spent {} bytes on {}", SPENT.get(), body.len());
            assert_eq!((diagnosis.cause(), diagnosis.tried_all()), (Cause::Unknown, false), "{diagnosis}");
            assert!(diagnosis.to_string().contains("the search was cut short"), "{diagnosis}");
        }
    }

    #[test]
    fn causes_are_found_in_large_bodies() {
        let order = r#"{"id":42,"title":"Nasi <göreng> & teh/kopi","x":[1,2,{"b":1,"a":null}]},"#;
        let body = |len: usize| format!("{{\"orders\":[{}1]}}", order.repeat(len / order.len()));
        let right = WebhookSecret::new("the right secret").unwrap();
        let assert_found = |original: &str, received: &[u8], cause| {
            let signature = right.sign(original).to_string();
            let headers = HeaderMap::from_iter([(SIGNATURE, HeaderValue::from_str(&signature).unwrap())]);
            let diagnosis = Diagnostician::new(right.clone().into()).diagnose(&headers, received);
            assert_eq!(diagnosis.cause(), cause, "{diagnosis}");
        };
        let original = body(1 << 20);
        let spaced = original.replace(',', ", ").replace(':', ": ");
        assert_found(&original, spaced.as_bytes(), Cause::BodyReencoded);
        let original = body(9 << 20);
        assert_found(&original, format!("{original}\n").as_bytes(), Cause::BodyFinalNewline);
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(original.as_bytes()).unwrap();
        assert_found(&original, &packer.finish().unwrap(), Cause::BodyCompressed);
    }

    #[test]
    fn dividing_a_budget_keeps_its_total() {
        let mut budget = SearchBudget::for_body(1000);
        let all = budget.remaining();
        budget.within(3, |part| {
            assert_eq!(part.remaining(), all / 3);
            assert!(part.try_spend(100) && !part.try_spend(all));
        });
        assert_eq!(budget.remaining(), all - 100);
        assert!(budget.was_cut_short());
        let part = budget.split_off(4, 0, 0);
        assert_eq!((budget.remaining() + part.remaining(), part.remaining()), (all - 100, (all - 100) / 4));
        let mut other = SearchBudget::for_body(1000);
        assert_eq!(other.split_off(1000, 1000, 2).remaining(), 2 * 1256);
        assert_eq!((other.split_off(4, 1000, 1000).remaining(), other.remaining()), (all - 2 * 1256, 0));
        // Charging more than remains empties the budget.
        assert!(!budget.charge(all) && budget.remaining() == 0);
    }
}
