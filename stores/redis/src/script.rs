//! The scripts that run on the server, and the format of an entry.
//!
//! An entry is a string:
//!
//! | bytes | |
//! |---|---|
//! | 1 | state: `C` for claimed, `D` for done |
//! | 8 | time of the claim, in microseconds since 1970 |
//! | 16 | token |
//! | 32 | digest of the body |
//! | 8 | grace, in milliseconds; only while claimed |
//! | 16 | event; only of a conflict |
//!
//! The key of a claimed entry expires when its lease and grace are over, so the lease ends when the key's time to live
//! has fallen to the grace. Renewing a claim therefore rewrites nothing: it works on a server whose memory is full. The
//! key of a done entry expires when its retention is over.
//!
//! Each event that has conflicts also has a set of their keys, which lives as long as the longest of them.

use std::time::Duration;

use redis::{Script, ToRedisArgs};
use tower_klikit::dedupe::{BodyDigest, ClaimOutcome, StoreError};

/// The longest time to live. Redis rejects one that ends beyond what its clock can hold; a hundred years are enough.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Functions that all scripts share.
///
/// Where a script takes an entry and its set as KEYS, an entry that is no conflict has no set: its own name stands for
/// it.
const COMMON: &str = "
-- Returns the value, nil if there is none, or nil and a problem.
local function entry(name)
  local value = redis.pcall('GET', name)
  if not value then return nil end
  if type(value) == 'table' then return nil, value.err end
  local length = ({C = 65, D = 57})[string.sub(value, 1, 1)]
  if not length or (#value ~= length and #value ~= length + 16) then
    return nil, 'WRONGVALUE a key of the ledger holds something else'
  end
  return value
end
local function is_claimed(value) return string.sub(value, 1, 1) == 'C' end
local function token(value) return string.sub(value, 10, 25) end
local function digest(value) return string.sub(value, 26, 57) end
local function grace(value) return struct.unpack('>I8', value, 58) end
local function event(value) return string.sub(value, is_claimed(value) and 66 or 58) end

local function claimed(at, token, digest, grace, event)
  return 'C' .. at .. token .. digest .. struct.pack('>I8', grace) .. event
end

-- Makes the set live for at least this time, without taking memory.
local function lengthen(name, set, time)
  if set ~= name and redis.call('PTTL', set) < tonumber(time) then redis.call('PEXPIRE', set, time) end
end
local function enlist(name, set, key, time)
  if set ~= name then redis.call('SADD', set, key) end
  lengthen(name, set, time)
end

-- Renews a claim. Only a grace other than before has to be written.
local function renew(name, set, value, time, new_grace)
  lengthen(name, set, time)
  if grace(value) == tonumber(new_grace) then
    redis.call('PEXPIRE', name, time)
  else
    local renewed = claimed(string.sub(value, 2, 9), token(value), digest(value), new_grace, event(value))
    redis.call('SET', name, renewed, 'PX', time)
  end
end
";

/// Claims an entry. Returns nothing if that succeeded, or else the digest and, if the entry is claimed, what remains of
/// its lease.
///
/// KEYS: the entry, its set. ARGV: the time to live, the grace, the token, the key, the digest, the event of a conflict
/// or nothing.
const CLAIM: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if value and not is_claimed(value) then return {digest(value), false} end
if value and token(value) == ARGV[3] then
  renew(KEYS[1], KEYS[2], value, ARGV[1], ARGV[2])
  return false
end
if value then
  local remaining = redis.call('PTTL', KEYS[1]) - grace(value)
  if remaining > 0 then return {digest(value), remaining} end
end
enlist(KEYS[1], KEYS[2], ARGV[4], ARGV[1])
local now = redis.call('TIME')
local at = struct.pack('>I8', now[1] * 1000000 + now[2])
redis.call('SET', KEYS[1], claimed(at, ARGV[3], ARGV[5], ARGV[2], ARGV[6]), 'PX', ARGV[1])
return false
";

/// KEYS: the entry, its set. ARGV: the retention, the token, the key.
const COMPLETE: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not value or token(value) ~= ARGV[2] then return 0 end
if is_claimed(value) then
  enlist(KEYS[1], KEYS[2], ARGV[3], ARGV[1])
  redis.call('SET', KEYS[1], 'D' .. string.sub(value, 2, 57) .. event(value), 'PX', ARGV[1])
end
return 1
";

/// Renews many claims. Returns 1 or 0 for each.
///
/// KEYS: for each claim the entry and its set. ARGV: the time to live, the grace, and for each claim its token.
const RENEW: &str = "
local renewed, failure = {}, nil
for n = 1, #KEYS / 2 do
  local name, set = KEYS[2 * n - 1], KEYS[2 * n]
  local value, problem = entry(name)
  failure = failure or problem
  local is_ours = value and is_claimed(value) and token(value) == ARGV[n + 2]
  if is_ours then renew(name, set, value, ARGV[1], ARGV[2]) end
  renewed[n] = is_ours and 1 or 0
end
-- Only now, so that one bad entry does not cost the other claims.
if failure then return redis.error_reply(failure) end
return renewed
";

/// KEYS: the entry, its set. ARGV: the token, the key.
const RELEASE: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not (value and is_claimed(value) and token(value) == ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
if KEYS[2] ~= KEYS[1] then redis.call('SREM', KEYS[2], ARGV[2]) end
return 1
";

/// Returns how many entries were removed.
///
/// KEYS: the entry under the event's own key, the set. ARGV: the event, the prefix.
const FORGET: &str = "
local names, forgotten = {KEYS[1]}, 0
for _, key in ipairs(redis.call('SMEMBERS', KEYS[2])) do names[#names + 1] = ARGV[2] .. key end
for _, name in ipairs(names) do
  local value, problem = entry(name)
  if problem then return redis.error_reply(problem) end
  -- The event of an entry that is no conflict is its key.
  local of = value and event(value)
  if of == ARGV[1] or (of == '' and name == KEYS[1]) then forgotten = forgotten + redis.call('DEL', name) end
end
redis.call('DEL', KEYS[2])
return forgotten
";

/// Returns how many entries were removed.
///
/// KEYS: entries. ARGV: the first microsecond of the window, and the first behind it.
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

/// The scripts, one for each call.
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

/// Returns whole milliseconds, rounded up.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.min(LONGEST).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Returns a time to live as an argument. It is at least a millisecond, because Redis rejects zero.
pub(super) fn time_to_live(millis: u64) -> impl ToRedisArgs {
    millis.max(1)
}

/// Reads what the claim script returned: the digest and the rest of the lease of the entry that was there.
pub(super) fn outcome(there: Option<(Vec<u8>, Option<u64>)>) -> Result<ClaimOutcome, StoreError> {
    let Some((digest, remaining)) = there else { return Ok(ClaimOutcome::Claimed) };
    let digest = <[u8; 32]>::try_from(digest).map_err(|_| StoreError::new("Redis returned no digest"))?;
    let digest = BodyDigest::from(digest);
    Ok(match remaining {
        Some(millis) => ClaimOutcome::InFlight { digest, remaining: Duration::from_millis(millis) },
        None => ClaimOutcome::Done { digest },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_claim_found() {
        let digest = BodyDigest::from([7; 32]);
        assert_eq!(outcome(None).unwrap(), ClaimOutcome::Claimed);
        assert_eq!(outcome(Some((vec![7; 32], None))).unwrap(), ClaimOutcome::Done { digest });
        let remaining = Duration::from_millis(25);
        assert_eq!(outcome(Some((vec![7; 32], Some(25)))).unwrap(), ClaimOutcome::InFlight { digest, remaining });
        outcome(Some((vec![7; 31], None))).unwrap_err();
        outcome(Some((vec![], Some(25)))).unwrap_err();
    }

    #[test]
    fn time_to_live_is_rounded_up_and_bounded() {
        let written = |time| time_to_live(millis(time)).to_redis_args().concat();
        assert_eq!(written(Duration::ZERO), b"1");
        assert_eq!(written(Duration::from_micros(1_001)), b"2");
        assert_eq!(written(Duration::from_secs(25)), b"25000");
        assert_eq!(written(Duration::MAX), b"3153600000000");
    }
}
