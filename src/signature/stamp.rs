//! The older form of the signature header: a time that is signed with the body.

use std::time::{Duration, SystemTime};

use super::Signature;

/// Of the digits of a time. Those of the year 9999 have 12.
const MAX_DIGITS: usize = 12;

/// What the header holds: `t=<seconds since 1970>,v1=<hex>`, over `<t>.<body>`.
pub(crate) struct Stamp {
    pub(crate) signature: Signature,
    #[cfg_attr(not(feature = "payload"), allow(dead_code, reason = "none is accepted without it"))]
    pub(crate) signed_at: SystemTime,
    /// What is signed before the body.
    pub(crate) prefix: Box<[u8]>,
}

impl Stamp {
    /// `None` when it is of another form.
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
            prefix: signed_before_the_body(digits),
        })
    }

    /// Whether it was signed neither longer ago, nor further ahead, than this.
    #[cfg(feature = "payload")]
    pub(crate) fn is_within(&self, tolerance: Duration, now: SystemTime) -> bool {
        let distance = now.duration_since(self.signed_at).unwrap_or_else(|ahead| ahead.duration());
        distance <= tolerance
    }
}

/// What was meant for a [`Stamp`], and is none: nothing is accepted by it.
#[cfg(feature = "diagnose")]
pub(crate) struct NearlyStamp {
    pub(crate) signature: Signature,
    pub(crate) prefix: Box<[u8]>,
    /// How it is not as it should be.
    pub(crate) detail: &'static str,
}

#[cfg(feature = "diagnose")]
impl NearlyStamp {
    /// Of a number of 64 bits.
    const MAX_DIGITS: usize = 20;

    /// A time and a signature, in any order, with white space around them and further parts. `None` for a stamp too.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        if Stamp::parse(value).is_some() {
            return None;
        }
        let part =
            |name: &[u8]| value.split(|&byte| byte == b',').find_map(|part| part.trim_ascii().strip_prefix(name));
        let digits = part(b"t=").filter(|time| is_number(time) && time.len() <= Self::MAX_DIGITS)?;
        let signature = Signature::from_hex(part(b"v1=")?).ok()?;
        let detail = match digits.len() {
            13 => "its time has as many digits as one in milliseconds",
            len if len > MAX_DIGITS => "its time has too many digits for one in seconds",
            _ if value.iter().any(u8::is_ascii_whitespace) => "there is white space in it",
            _ => "its parts are others, or in another order",
        };
        Some(Self { signature, prefix: signed_before_the_body(digits), detail })
    }
}

/// Returns whether a body begins like the signed text of the timestamped form, `<t>.<body>`.
///
/// The current form signs the body alone, so a captured timestamped delivery would verify as a current one whose body is that text.
/// Of `t`, any spelling counts, including those that the header may not have: the sender decided how to write it. A body of
/// klikit's begins with `{`.
pub(crate) fn begins_with_timestamp(body: &[u8]) -> bool {
    let is_of_number = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || b"+-".contains(byte);
    body.iter().find(|byte| !is_of_number(byte)) == Some(&b'.')
}

fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn signed_before_the_body(time: &[u8]) -> Box<[u8]> {
    [time, b"."].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d";

    #[test]
    fn a_stamp_is_a_time_and_a_signature() {
        let stamp = Stamp::parse(format!("t=1777777777,v1={HEX}").as_bytes()).unwrap();
        assert_eq!(stamp.signature.to_string(), HEX);
        assert_eq!(stamp.signed_at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_777_777_777));
        assert_eq!(&*stamp.prefix, b"1777777777.");
        // What was sent is what was signed.
        assert_eq!(&*Stamp::parse(format!("t=007,v1={HEX}").as_bytes()).unwrap().prefix, b"007.");
    }

    #[test]
    fn nothing_else_is() {
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
            assert!(Stamp::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[cfg(feature = "payload")]
    #[test]
    fn the_tolerance_has_two_sides() {
        let stamp = Stamp::parse(format!("t=1000,v1={HEX}").as_bytes()).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let tolerance = Duration::from_secs(300);
        for (now, within) in [(1000, true), (1300, true), (1301, false), (700, true), (699, false), (0, false)] {
            assert_eq!(stamp.is_within(tolerance, at(now)), within, "{now}");
        }
    }

    /// Whatever has a time and a signature is one of the two, and nothing is both.
    #[cfg(feature = "diagnose")]
    #[test]
    fn what_is_nearly_a_stamp_is_none() {
        for (value, prefix, detail) in [
            (format!("t=1, v1={HEX}"), "1.", "there is white space in it"),
            (format!(" t=1,v1={HEX}"), "1.", "there is white space in it"),
            (format!("v1={HEX},t=1"), "1.", "its parts are others, or in another order"),
            (format!("t=1,v0=x,v1={HEX}"), "1.", "its parts are others, or in another order"),
            (
                format!("t=1777777777000,v1={HEX}"),
                "1777777777000.",
                "its time has as many digits as one in milliseconds",
            ),
            (
                format!("t=17777777770000000000,v1={HEX}"),
                "17777777770000000000.",
                "its time has too many digits for one in seconds",
            ),
        ] {
            assert!(Stamp::parse(value.as_bytes()).is_none(), "{value}");
            let nearly = NearlyStamp::parse(value.as_bytes()).unwrap();
            assert_eq!((nearly.signature.to_string().as_str(), nearly.detail), (HEX, detail), "{value}");
            assert_eq!(&*nearly.prefix, prefix.as_bytes());
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
            assert!(NearlyStamp::parse(value.as_bytes()).is_none(), "{value}");
        }
    }
}
