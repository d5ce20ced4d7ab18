//! What a diagnosis may cost.

#[cfg(test)]
use std::cell::Cell;

/// How often a body is hashed, written or unpacked, at most, in one diagnosis: in bytes, so that a body that grows when written
/// anew counts for what it costs. 256 hashes of 8 KB take some milliseconds.
pub(super) const TIMES: usize = 256;

/// What a key takes to be made, beside the secret: two blocks of SHA-256.
pub(super) const KEY: usize = 128;

/// What a tag takes beside its text: padding, and the outer hash.
pub(super) const TAG: usize = 128;

/// What is left to spend, in bytes that are hashed with SHA-256, written or unpacked. One diagnosis has one. It is divided and
/// never copied, so that what is spent stays spent.
pub(super) struct Work {
    left: usize,
    ran_out: bool,
}

impl Work {
    pub(super) fn for_body(len: usize) -> Self {
        // The last one is for the text during which it runs out.
        Self { left: Self::once(len).saturating_mul(TIMES - 1), ran_out: false }
    }

    fn once(len: usize) -> usize {
        len.saturating_add(KEY + TAG)
    }

    /// Takes a `part`th of what is left out of it, for good.
    pub(super) fn split_off(&mut self, part: usize) -> Self {
        let left = self.left / part;
        self.left -= left;
        Self { left, ran_out: false }
    }

    /// Lets this spend a `part`th of what is left, and keeps the rest for what comes later.
    pub(super) fn within<T>(&mut self, part: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        let kept = self.left - self.left / part;
        self.left -= kept;
        let result = run(self);
        self.left += kept;
        result
    }

    /// What may still be done, where that shows only in the doing.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether there is as much left for what is to be done; it is spent then.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let is_left = bytes <= self.left;
        if is_left {
            self.done(bytes);
        } else {
            self.ran_out = true;
        }
        is_left
    }

    /// Spends what was done. Whether as much was left.
    pub(super) fn done(&mut self, bytes: usize) -> bool {
        #[cfg(test)]
        SPENT.set(SPENT.get() + bytes);
        let left = self.left.checked_sub(bytes);
        self.ran_out |= left.is_none();
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Leaves something untried that would cost more than it may.
    pub(super) fn leave_out(&mut self) {
        self.ran_out = true;
    }

    /// Whether something was left untried for its cost.
    pub(super) fn ran_out(&self) -> bool {
        self.ran_out
    }
}

#[cfg(test)]
thread_local! {
    /// By all on this thread, in bytes.
    pub(super) static SPENT: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::{
        diagnose::{Cause, Diagnostician, misread},
        header::SIGNATURE,
        keyring::Keyring,
        secret::WebhookSecret,
    };

    /// Zeros that are packed into so many bytes.
    fn bomb(len: usize) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        while packer.get_ref().len() < len {
            packer.write_all(&[0; 64 * 1024]).unwrap();
        }
        packer.finish().unwrap()
    }

    fn keyring(secret: impl Fn(usize) -> String) -> Keyring {
        let keyring = Keyring::new("tenant", "0", WebhookSecret::new(secret(0)).unwrap());
        for n in 1..Keyring::MAX_SECRETS {
            keyring.add(n.to_string(), WebhookSecret::new(secret(n)).unwrap()).unwrap();
        }
        keyring
    }

    /// Counted in bytes where they are spent, of all that one diagnosis does.
    #[test]
    fn a_diagnosis_does_no_more_than_it_may() {
        let nearly = |n: usize| format!("\"c2VjcmV0LT{n}=\"\n");
        assert!(misread::variants(nearly(0).as_bytes()).len() > 20);
        let long = |n: usize| format!("\"{n}{}\"\n", "x".repeat(4000));
        let one = Keyring::from(WebhookSecret::new(nearly(0)).unwrap());
        let keyrings = [one, keyring(nearly), keyring(long)];

        let stamps: Vec<String> = (0..9).map(|n| format!("t={n},v1={}", "0".repeat(64))).collect();
        let signatures = [vec!["0".repeat(64)], stamps, vec![vec!["0".repeat(64); 100].join(",")]];

        let text = |len: usize| format!("[\"{}\"]", "é/".repeat(len / 3)).into_bytes();
        let mut members = Vec::new();
        for _ in 0..500 {
            members.extend(bomb(0));
        }
        let bodies = [
            Vec::new(),
            b"1".to_vec(),
            text(1000),
            text(20_000),
            "\u{80}'\n".repeat(5000).into(),
            bomb(1),
            bomb(20_000),
            members,
            [b"\x1f\x8b\x08".to_vec(), vec![0xff; 10_000]].concat(),
        ];
        let mut left_out = 0;
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
                    let most = TIMES * (body.len() + 256);
                    assert!(SPENT.get() <= most, "{} bytes of {most} for {}: {diagnosis}", SPENT.get(), body.len());
                    left_out += usize::from(!diagnosis.tried_all());
                }
            }
        }
        assert!(left_out > 20, "{left_out}: there is more to try than may be");
    }

    /// A search that spends all hides nothing that is plain to see, and that costs little.
    #[test]
    fn what_is_plain_to_see_is_seen_when_all_is_spent() {
        let headers = HeaderMap::from_iter([(SIGNATURE, HeaderValue::from_str(&"0".repeat(64)).unwrap())]);
        let body = bomb(20_000);
        SPENT.set(0);
        let diagnosis = Diagnostician::new(keyring(|n| format!("a secret, {n}"))).diagnose(&headers, &body);
        assert_eq!(diagnosis.cause(), Cause::BodyCompressed, "{diagnosis}");
        assert!(!diagnosis.tried_all());
        // Without a signature that could be tried.
        SPENT.set(0);
        Diagnostician::new(keyring(|n| format!("a secret, {n}"))).diagnose(&HeaderMap::new(), &body);
        assert!(SPENT.get() <= 16 * (body.len() + 256), "{}", SPENT.get());
    }

    #[test]
    fn what_is_divided_is_no_more_than_it_was() {
        let mut work = Work::for_body(1000);
        let all = work.left();
        work.within(3, |part| {
            assert_eq!(part.left(), all / 3);
            assert!(part.spend(100) && !part.spend(all));
        });
        assert_eq!(work.left(), all - 100);
        assert!(work.ran_out());
        let part = work.split_off(4);
        assert_eq!(work.left() + part.left(), all - 100);
        // What was done is spent, be it more than there was.
        assert!(!work.done(all) && work.left() == 0);
    }
}
