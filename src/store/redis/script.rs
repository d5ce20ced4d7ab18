//! What runs on the server, and how an entry looks there.
//!
//! An entry is a string: `C` or `D`, the time of the claim in microseconds (8 bytes), the token (16), the digest (32), and for
//! a conflict the event (16). Its time to live is the key's. Each event that has conflicts has a set of their keys beside.

use std::time::Duration;

use redis::{Script, ToRedisArgs};

use crate::dedupe::{BodyDigest, ClaimOutcome, StoreError};

/// Redis takes no time to live that leads beyond what its clock can hold. A hundred years are enough.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Up to the digest, and through it.
const HEAD: usize = 1 + 8 + 16;
const LENGTH: usize = HEAD + 32;

/// Used by all that follow. Those that are about a claim get as KEYS the entry and, for a conflict, the set; as ARGV the token,
/// the new time to live, the key and the digest, and for a conflict the event.
const COMMON: &str = "
local function entry(name)
  local value = redis.call('GET', name)
  if value and #value ~= 57 and #value ~= 73 then
    return nil, 'WRONGVALUE a key of the ledger holds something else'
  end
  return value
end
local function state(value) return string.sub(value, 1, 1) end
local function ours(value) return value and string.sub(value, 10, 25) == ARGV[1] end
local function enlist()
  if KEYS[2] then
    redis.call('SADD', KEYS[2], ARGV[3])
    if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
  end
end
";

/// Gives what is there and the time that is left, or nothing when it is claimed now.
const CLAIM: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if value and not (ours(value) and state(value) == 'C') then
  return {value, redis.call('PTTL', KEYS[1])}
end
enlist()
if value then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  local now = redis.call('TIME')
  local at = struct.pack('>I8', now[1] * 1000000 + now[2])
  redis.call('SET', KEYS[1], 'C' .. at .. ARGV[1] .. ARGV[4] .. (ARGV[5] or ''), 'PX', ARGV[2])
end
return false
";

const COMPLETE: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not ours(value) then return 0 end
if state(value) == 'C' then
  enlist()
  redis.call('SET', KEYS[1], 'D' .. string.sub(value, 2), 'PX', ARGV[2])
end
return 1
";

const RENEW: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not (ours(value) and state(value) == 'C') then return 0 end
enlist()
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";

const RELEASE: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not (ours(value) and state(value) == 'C') then return 0 end
redis.call('DEL', KEYS[1])
if KEYS[2] then redis.call('SREM', KEYS[2], ARGV[3]) end
return 1
";

/// KEYS: the entry under the event's own key, the set. ARGV: the event, the prefix.
const FORGET: &str = "
local names, forgotten = {KEYS[1]}, 0
for _, key in ipairs(redis.call('SMEMBERS', KEYS[2])) do names[#names + 1] = ARGV[2] .. key end
for _, name in ipairs(names) do
  local value, problem = entry(name)
  if problem then return redis.error_reply(problem) end
  -- An entry without an event has a key that is the event.
  if value and (#value == 57 and name == KEYS[1] or string.sub(value, 58) == ARGV[1]) then
    forgotten = forgotten + redis.call('DEL', name)
  end
end
redis.call('DEL', KEYS[2])
return forgotten
";

/// KEYS: entries. ARGV: the first microsecond, and the first after the last.
const FORGET_CLAIMED: &str = "
local forgotten = 0
for _, name in ipairs(KEYS) do
  local value, problem = entry(name)
  if problem then return redis.error_reply(problem) end
  if value then
    local at = struct.unpack('>I8', value, 2)
    if at >= tonumber(ARGV[1]) and at < tonumber(ARGV[2]) then
      forgotten = forgotten + redis.call('DEL', name)
    end
  end
end
return forgotten
";

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) complete: Script,
    pub(super) renew: Script,
    pub(super) release: Script,
    pub(super) forget: Script,
    pub(super) forget_claimed: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |code| Script::new(&[COMMON, code].concat());
        Self {
            claim: script(CLAIM),
            complete: script(COMPLETE),
            renew: script(RENEW),
            release: script(RELEASE),
            forget: script(FORGET),
            forget_claimed: script(FORGET_CLAIMED),
        }
    }

    pub(super) fn all(&self) -> [&Script; 6] {
        [&self.claim, &self.complete, &self.renew, &self.release, &self.forget, &self.forget_claimed]
    }
}

/// A time to live as Redis takes it: at least a millisecond, since none at all is an error there.
pub(super) fn millis(time: Duration) -> impl ToRedisArgs {
    u64::try_from(time.min(LONGEST).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

/// Reads what a claim found.
pub(super) fn found(value: &[u8], remaining: i64) -> Result<ClaimOutcome, StoreError> {
    let digest = value
        .get(HEAD..LENGTH)
        .and_then(|digest| <[u8; 32]>::try_from(digest).ok())
        .map(BodyDigest::from)
        .ok_or_else(|| StoreError::new("a key of the ledger holds something else"))?;
    match value[0] {
        b'C' => {
            // Negative for an entry that never ends, which is none of this crate's making.
            let remaining = Duration::from_millis(remaining.try_into().unwrap_or_default());
            Ok(ClaimOutcome::InFlight { digest, remaining })
        }
        b'D' => Ok(ClaimOutcome::Done { digest }),
        _ => Err(StoreError::new("a key of the ledger holds something else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_entry_is_read_as_one() {
        let entry = |state: u8, length| {
            let mut value = vec![7; length];
            value[0] = state;
            value
        };
        let digest = BodyDigest::from([7; 32]);
        assert_eq!(found(&entry(b'D', LENGTH), 1).unwrap(), ClaimOutcome::Done { digest });
        let remaining = Duration::from_millis(25);
        assert_eq!(found(&entry(b'C', LENGTH + 16), 25).unwrap(), ClaimOutcome::InFlight { digest, remaining });
        assert_eq!(
            found(&entry(b'C', LENGTH), -1).unwrap(),
            ClaimOutcome::InFlight { digest, remaining: Duration::ZERO }
        );
        found(&entry(b'X', LENGTH), 1).unwrap_err();
        found(&entry(b'D', LENGTH - 1), 1).unwrap_err();
        found(b"", 1).unwrap_err();
    }

    #[test]
    fn a_time_to_live_is_rounded_up_and_bounded() {
        let written = |time| millis(time).to_redis_args().concat();
        assert_eq!(written(Duration::ZERO), b"1");
        assert_eq!(written(Duration::from_micros(1_001)), b"2");
        assert_eq!(written(Duration::from_secs(25)), b"25000");
        assert_eq!(written(Duration::MAX), b"3153600000000");
    }
}
