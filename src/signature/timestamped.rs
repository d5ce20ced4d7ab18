//! Timestamped signatures: klikit's older form of the signature header, in which a time is signed with the body.

use std::time::{Duration, SystemTime};

use super::Signature;

/// The most digits of a time in seconds, which the year 9999 needs.
const MAX_DIGITS: usize = 12;

/// A header of the form `t=<seconds since 1970>,v1=<hex>`, with a signature over `<t>.<body>`.
pub(crate) struct TimestampedSignature {
    pub(crate) signature: Signature,
    #[cfg_attr(not(feature = "payload"), allow(dead_code, reason = "timestamped signatures are only diagnosed"))]
    pub(crate) signed_at: SystemTime,
    /// The bytes that are signed before the body.
    pub(crate) prefix: Box<[u8]>,
}

impl TimestampedSignature {
    /// Parses the value of a header. Returns `None` if it has another form.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let value = value.strip_prefix(b"t=")?;
        let comma = value.iter().position(|&byte| byte == b',')?;
        let (digits, rest) = value.split_at(comma);
        if !is_number(digits) || digits.len() > MAX_DIGITS {
            return None;
        }
        let seconds = digits.iter().fold(0, |seconds: u64, digit| 10 * seconds + u64::from(digit - b'0'));
        Some(Self {
            signature: Signature::from_hex(rest.strip_prefix(b",v1=")?).ok()?,
            signed_at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
            prefix: signed_prefix(digits),
        })
    }

    /// Returns whether the time of the signature differs from `now` by at most `tolerance`, in either direction.
    #[cfg(feature = "payload")]
    pub(crate) fn is_within(&self, tolerance: Duration, now: SystemTime) -> bool {
        let distance = now.duration_since(self.signed_at).unwrap_or_else(|ahead| ahead.duration());
        distance <= tolerance
    }
}

/// A malformed [`TimestampedSignature`], for diagnoses. The layer never accepts one.
#[cfg(feature = "diagnose")]
pub(crate) struct MalformedTimestampedSignature {
    pub(crate) signature: Signature,
    pub(crate) prefix: Box<[u8]>,
    /// The fault.
    pub(crate) detail: &'static str,
}

#[cfg(feature = "diagnose")]
impl MalformedTimestampedSignature {
    /// The most digits of a 64-bit number.
    const MAX_DIGITS: usize = 20;

    /// Parses a time and a signature in any order, with white space and further parts. Returns `None` for any other
    /// value, and for a well-formed timestamped signature.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        if TimestampedSignature::parse(value).is_some() {
            return None;
        }
        let part =
            |name: &[u8]| value.split(|&byte| byte == b',').find_map(|part| part.trim_ascii().strip_prefix(name));
        let digits = part(b"t=").filter(|time| is_number(time) && time.len() <= Self::MAX_DIGITS)?;
        let signature = Signature::from_hex(part(b"v1=")?).ok()?;
        let detail = match digits.len() {
            13 => "its time has 13 digits, like a time in milliseconds",
            len if len > MAX_DIGITS => "its time has too many digits for a time in seconds",
            _ if value.iter().any(u8::is_ascii_whitespace) => "it contains white space",
            _ => "its parts have other names or another order",
        };
        Some(Self { signature, prefix: signed_prefix(digits), detail })
    }
}

/// Returns whether a body begins like the signed text of a timestamped signature, `<t>.<body>`.
///
/// A current signature covers only the body, so a captured timestamped delivery verifies as a current one whose body is
/// that text. Any spelling of `t` counts, even if the header could not have it, because the sender chose the spelling.
/// klikit's own bodies begin with `{`.
pub(crate) fn begins_with_timestamp(body: &[u8]) -> bool {
    let is_in_number = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || b"+-".contains(byte);
    body.iter().find(|byte| !is_in_number(byte)) == Some(&b'.')
}

fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Returns the bytes that are signed before the body: the time and a dot.
fn signed_prefix(time: &[u8]) -> Box<[u8]> {
    [time, b"."].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";

    #[test]
    fn parses_time_and_signature() {
        let stamp = TimestampedSignature::parse(format!("t=1777777777,v1={HEX}").as_bytes()).unwrap();
        assert_eq!(stamp.signature.to_string(), HEX);
        assert_eq!(stamp.signed_at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_777_777));
        assert_eq!(&*stamp.prefix, b"1777777777.");
        // The prefix keeps the spelling of the time, because that spelling was signed.
        assert_eq!(&*TimestampedSignature::parse(format!("t=007,v1={HEX}").as_bytes()).unwrap().prefix, b"007.");
    }

    #[test]
    fn rejects_other_headers() {
        for value in [
            String::new(),
            HEX.to_owned(),
            format!("v1={HEX}"),
            format!("t=,v1={HEX}"),
            format!("t=-1,v1={HEX}"),
            format!("t= 1,v1={HEX}"),
            format!("t=1, v1={HEX}"),
            format!("t=1,v1={HEX},v1={HEX}"),
            format!("t=1,v0={HEX}"),
            format!("t=1,v1={}", &HEX[1..]),
            format!("t=1234567890123,v1={HEX}"),
            "t=1".to_owned(),
            "t=1,".to_owned(),
        ] {
            assert!(TimestampedSignature::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[cfg(feature = "payload")]
    #[test]
    fn tolerance_applies_in_both_directions() {
        let stamp = TimestampedSignature::parse(format!("t=1000,v1={HEX}").as_bytes()).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let tolerance = Duration::from_secs(300);
        for (now, within) in [(1000, true), (1300, true), (1301, false), (700, true), (699, false), (0, false)] {
            assert_eq!(stamp.is_within(tolerance, at(now)), within, "{now}");
        }
    }

    /// No value is both well-formed and malformed, and values without a time or a signature are neither.
    #[cfg(feature = "diagnose")]
    #[test]
    fn parses_malformed_timestamped_signatures() {
        for (value, prefix, detail) in [
            (format!("t=1, v1={HEX}"), "1.", "it contains white space"),
            (format!(" t=1,v1={HEX}"), "1.", "it contains white space"),
            (format!("v1={HEX},t=1"), "1.", "its parts have other names or another order"),
            (format!("t=1,v0=x,v1={HEX}"), "1.", "its parts have other names or another order"),
            (
                format!("t=1777777777000,v1={HEX}"),
                "1777777777000.",
                "its time has 13 digits, like a time in milliseconds",
            ),
            (
                format!("t=17777777770000000000,v1={HEX}"),
                "17777777770000000000.",
                "its time has too many digits for a time in seconds",
            ),
        ] {
            assert!(TimestampedSignature::parse(value.as_bytes()).is_none(), "{value}");
            let malformed = MalformedTimestampedSignature::parse(value.as_bytes()).unwrap();
            assert_eq!((malformed.signature.to_string().as_str(), malformed.detail), (HEX, detail), "{value}");
            assert_eq!(&*malformed.prefix, prefix.as_bytes());
        }
        for value in [
            format!("t=1,v1={HEX}"),
            HEX.to_owned(),
            format!("v1={HEX}"),
            format!("t= 1,v1={HEX}"),
            format!("t=-1,v1={HEX}"),
            format!("t=177777777700000000000,v1={HEX}"),
            format!("t=1,v1={}", &HEX[1..]),
        ] {
            assert!(MalformedTimestampedSignature::parse(value.as_bytes()).is_none(), "{value}");
        }
    }
}
