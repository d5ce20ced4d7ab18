//! The scripts that run on the server, and the format of an entry.
//!
//! An entry is a string:
//!
//! | bytes | content |
//! |---|---|
//! | 1 | state: `C` for claimed, `D` for done |
//! | 8 | time of the claim, in microseconds since 1970 |
//! | 16 | token |
//! | 32 | digest of the body |
//! | 8 | grace, in milliseconds; only in claimed entries |
//! | 16 | event; only in conflicts |
//!
//! The key of a claimed entry expires after its lease and its grace. So the lease ends when the remaining time to live
//! of the key equals the grace. Renewing a claim usually changes only the time to live, which works even if the
//! server's memory is full. The key of a done entry expires after its retention.
//!
//! Each event with conflicts also has a set with the keys of its conflicts, which lives as long as the longest-lived
//! conflict.

use std::time::{Duration, UNIX_EPOCH};

use redis::{Script, ToRedisArgs};
use tower_klikit::dedupe::{BodyDigest, ClaimOutcome, EventKey, LedgerEntry, LedgerState, StoreError};

/// The maximum time to live, a hundred years. Redis rejects times to live that exceed the range of its clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Functions that all scripts share.
///
/// Scripts take an entry and the set of its event's conflicts as KEYS. For an entry that is not a conflict, the name of
/// the entry takes the place of the set's name.
const COMMON: &str = "
-- Returns the value of an entry, nil if the entry is absent, or nil and an error text.
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

-- Returns the names and values of an event's entries: those of its own entry, and of the conflicts whose keys are in the
-- set. Or returns nil and an error text.
local function entries_of_event(own_name, set, wanted, prefix)
  local names = {own_name}
  for _, key in ipairs(redis.call('SMEMBERS', set)) do names[#names + 1] = prefix .. key end
  local entries = {}
  for _, name in ipairs(names) do
    local value, problem = entry(name)
    if problem then return nil, problem end
    -- An entry that is not a conflict has no event: its key is the event.
    local own = value and event(value)
    if own == wanted or (own == '' and name == own_name) then entries[#entries + 1] = {name, value} end
  end
  return entries
end

-- Returns the names and values of those of these entries that were claimed from one microsecond to before another. Or
-- returns nil and an error text.
local function entries_claimed_within(names, first, after)
  local entries = {}
  for _, name in ipairs(names) do
    local value, problem = entry(name)
    if problem then return nil, problem end
    local at = value and struct.unpack('>I8', value, 2)
    if at and at >= tonumber(first) and at < tonumber(after) then entries[#entries + 1] = {name, value} end
  end
  return entries
end

-- Returns the server's time in microseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Returns what the scripts that list entries return: the server's time and, for each entry, its key, its value and its
-- remaining milliseconds.
local function listed(entries)
  local listed = {}
  for n, found in ipairs(entries) do
    local name, value = found[1], found[2]
    listed[n] = {string.sub(name, -16), value, redis.call('PTTL', name)}
  end
  return {now(), listed}
end

-- Deletes entries. Returns how many were deleted: SCAN may have returned a name twice.
local function forget(entries)
  local forgotten = 0
  for _, found in ipairs(entries) do forgotten = forgotten + redis.call('DEL', found[1]) end
  return forgotten
end

local function claimed(at, token, digest, grace, event)
  return 'C' .. at .. token .. digest .. struct.pack('>I8', grace) .. event
end

-- Makes the set live for at least this time. Takes no memory.
local function lengthen(name, set, time)
  if set ~= name and redis.call('PTTL', set) < tonumber(time) then redis.call('PEXPIRE', set, time) end
end

-- Adds a key to the set, which then lives for at least this time.
local function add_to_set(name, set, key, time)
  if set ~= name then redis.call('SADD', set, key) end
  lengthen(name, set, time)
end

-- Renews a claim. Writes the entry only if the grace has changed.
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

/// Claims an entry. Returns nothing on success. Otherwise, returns the existing entry's digest and, if it is claimed,
/// the remaining milliseconds of its lease.
///
/// KEYS: the entry, its set. ARGV: the time to live, the grace, the token, the key, the digest, and the event of a
/// conflict or an empty string.
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
add_to_set(KEYS[1], KEYS[2], ARGV[4], ARGV[1])
redis.call('SET', KEYS[1], claimed(struct.pack('>I8', now()), ARGV[3], ARGV[5], ARGV[2], ARGV[6]), 'PX', ARGV[1])
return false
";

/// Completes a claim. Returns 1 if the entry is done and has this token, or else 0.
///
/// KEYS: the entry, its set. ARGV: the retention, the token, the key.
const COMPLETE: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not value or token(value) ~= ARGV[2] then return 0 end
if is_claimed(value) then
  add_to_set(KEYS[1], KEYS[2], ARGV[3], ARGV[1])
  redis.call('SET', KEYS[1], 'D' .. string.sub(value, 2, 57) .. event(value), 'PX', ARGV[1])
end
return 1
";

/// Renews many claims. Returns 1 or 0 for each.
///
/// KEYS: for each claim, the entry and its set. ARGV: the time to live, the grace, and for each claim its token.
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
-- Fail only after the loop, so that one foreign value does not prevent the other renewals.
if failure then return redis.error_reply(failure) end
return renewed
";

/// Releases a claim by deleting the entry. Returns 1, or 0 if the entry is not claimed with this token.
///
/// KEYS: the entry, its set. ARGV: the token, the key.
const RELEASE: &str = "
local value, problem = entry(KEYS[1])
if problem then return redis.error_reply(problem) end
if not (value and is_claimed(value) and token(value) == ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
if KEYS[2] ~= KEYS[1] then redis.call('SREM', KEYS[2], ARGV[2]) end
return 1
";

/// Lists the entries of an event. Returns the server's time in microseconds and, for each entry, its key, its value and
/// its remaining milliseconds.
///
/// KEYS: the entry under the event's own key, the set. ARGV: the event, the prefix.
const LIST: &str = "
local entries, problem = entries_of_event(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
if problem then return redis.error_reply(problem) end
return listed(entries)
";

/// Lists the entries that were claimed in a window. Returns them as the script for an event does.
///
/// KEYS: entries. ARGV: the first microsecond of the window, and the first microsecond after it.
const LIST_CLAIMED: &str = "
local entries, problem = entries_claimed_within(KEYS, ARGV[1], ARGV[2])
if problem then return redis.error_reply(problem) end
return listed(entries)
";

/// Counts the entries of an event.
///
/// KEYS: the entry under the event's own key, the set. ARGV: the event, the prefix.
const COUNT: &str = "
local entries, problem = entries_of_event(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
if problem then return redis.error_reply(problem) end
return #entries
";

/// Counts the entries that were claimed in a window.
///
/// KEYS: entries. ARGV: the first microsecond of the window, and the first microsecond after it.
const COUNT_CLAIMED: &str = "
local entries, problem = entries_claimed_within(KEYS, ARGV[1], ARGV[2])
if problem then return redis.error_reply(problem) end
return #entries
";

/// Deletes the entries of an event and its set. Returns how many entries were deleted.
///
/// KEYS: the entry under the event's own key, the set. ARGV: the event, the prefix.
const FORGET: &str = "
local entries, problem = entries_of_event(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
if problem then return redis.error_reply(problem) end
redis.call('DEL', KEYS[2])
return forget(entries)
";

/// Deletes the entries that were claimed in a window. Returns how many were deleted.
///
/// KEYS: entries. ARGV: the first microsecond of the window, and the first microsecond after it.
const FORGET_CLAIMED: &str = "
local entries, problem = entries_claimed_within(KEYS, ARGV[1], ARGV[2])
if problem then return redis.error_reply(problem) end
return forget(entries)
";

/// The scripts, one for each call.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) complete: Script,
    pub(super) renew: Script,
    pub(super) release: Script,
    pub(super) list: Script,
    pub(super) list_claimed: Script,
    pub(super) count: Script,
    pub(super) count_claimed: Script,
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
            list: script(LIST),
            list_claimed: script(LIST_CLAIMED),
            count: script(COUNT),
            count_claimed: script(COUNT_CLAIMED),
            forget: script(FORGET),
            forget_claimed: script(FORGET_CLAIMED),
        }
    }

    pub(super) fn all(&self) -> [&Script; 10] {
        [
            &self.claim,
            &self.complete,
            &self.renew,
            &self.release,
            &self.list,
            &self.list_claimed,
            &self.count,
            &self.count_claimed,
            &self.forget,
            &self.forget_claimed,
        ]
    }
}

/// Returns whole milliseconds, rounded up and limited to [`LONGEST`].
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.min(LONGEST).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Returns a time to live as an argument: at least a millisecond, because Redis rejects zero.
pub(super) fn time_to_live(millis: u64) -> impl ToRedisArgs {
    millis.max(1)
}

/// Converts the result of the claim script: the digest of an existing entry, and the remaining milliseconds of its
/// lease.
pub(super) fn outcome(existing: Option<(Vec<u8>, Option<u64>)>) -> Result<ClaimOutcome, StoreError> {
    let Some((digest, remaining)) = existing else { return Ok(ClaimOutcome::Claimed) };
    let digest = <[u8; 32]>::try_from(digest).map_err(|_| StoreError::new("Redis returned an invalid digest"))?;
    let digest = BodyDigest::from(digest);
    Ok(match remaining {
        Some(millis) => ClaimOutcome::InFlight { digest, remaining: Duration::from_millis(millis) },
        None => ClaimOutcome::Done { digest },
    })
}

/// The result of a script that lists entries: the server's time in microseconds and, for each entry, its key, its value
/// and its remaining milliseconds.
pub(super) type Listed = (u64, Vec<(Vec<u8>, Vec<u8>, i64)>);

/// Converts the result of a script that lists entries.
pub(super) fn entries((now, listed): Listed) -> Result<Vec<LedgerEntry>, StoreError> {
    let entry = |(key, value, remaining): (Vec<u8>, Vec<u8>, i64)| {
        entry(&key, &value, now, remaining).ok_or_else(|| StoreError::new("Redis returned an invalid entry"))
    };
    listed.into_iter().map(entry).collect()
}

fn entry(key: &[u8], value: &[u8], now: u64, remaining: i64) -> Option<LedgerEntry> {
    let key = EventKey::from(<[u8; 16]>::try_from(key).ok()?);
    let (state, rest) = value.split_first()?;
    let (claimed_at, rest) = rest.split_first_chunk::<8>()?;
    let (_token, rest) = rest.split_first_chunk::<16>()?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let (state, grace, event) = match state {
        b'C' => {
            let (grace, event) = rest.split_first_chunk()?;
            (LedgerState::Claimed, i64::try_from(u64::from_be_bytes(*grace)).ok()?, event)
        }
        _ => (LedgerState::Done, 0, rest),
    };
    let at = |micros: u64| UNIX_EPOCH + Duration::from_micros(micros);
    let in_millis = |millis: i64| at(now.saturating_add_signed(millis.saturating_mul(1000)));
    Some(LedgerEntry {
        key,
        event: if event.is_empty() { key } else { <[u8; 16]>::try_from(event).ok()?.into() },
        digest: BodyDigest::from(*digest),
        state,
        claimed_at: at(u64::from_be_bytes(*claimed_at)),
        until: in_millis(remaining.saturating_sub(grace)),
        kept_until: in_millis(remaining),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_listed_entries() {
        let value = |state: &[u8], rest: &[u8]| [state, &7_000_u64.to_be_bytes(), &[1; 16], &[2; 32], rest].concat();
        let grace = 3_u64.to_be_bytes();
        let listed = vec![
            (vec![8; 16], value(b"C", &grace), 5),
            (vec![9; 16], value(b"C", &[&grace[..], &[8; 16]].concat()), 1),
            (vec![7; 16], value(b"D", &[]), 5),
        ];
        let entry = |key, event, state, until, kept_until| LedgerEntry {
            key: EventKey::from([key; 16]),
            event: EventKey::from([event; 16]),
            digest: BodyDigest::from([2; 32]),
            state,
            claimed_at: UNIX_EPOCH + Duration::from_millis(7),
            until: UNIX_EPOCH + Duration::from_millis(until),
            kept_until: UNIX_EPOCH + Duration::from_millis(kept_until),
        };
        let expected = [
            entry(8, 8, LedgerState::Claimed, 1002, 1005),
            entry(9, 8, LedgerState::Claimed, 998, 1001),
            entry(7, 7, LedgerState::Done, 1005, 1005),
        ];
        assert_eq!(entries((1_000_000, listed)).unwrap(), expected);
        for (key, value) in [
            (vec![8; 15], value(b"D", &[])),
            (vec![8; 16], value(b"D", &[1])),
            (vec![8; 16], value(b"C", &[1; 7])),
            (vec![8; 16], vec![]),
        ] {
            entries((0, vec![(key, value, 0)])).unwrap_err();
        }
    }

    #[test]
    fn converts_results_of_the_claim_script() {
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
