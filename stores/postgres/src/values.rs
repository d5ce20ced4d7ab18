//! Conversions of keys, times and counts for Postgres.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use tower_klikit::dedupe::{BodyDigest, EventKey, StoreError};

use crate::connection::Answer;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

pub(crate) fn bytes(key: &EventKey) -> &[u8] {
    key.as_bytes()
}

/// Returns a duration in seconds, at most a hundred years, which Postgres can add to the current time.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.min(Duration::from_secs(100 * 365 * 24 * 60 * 60)).as_secs_f64()
}

/// Returns the duration of a number of seconds from the server. Returns zero for NULL, and for a negative number: the server's
/// clock may be set back.
pub(crate) fn elapsed(seconds: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()
}

/// Returns the nearest time between the years 1970 and 9999, which both the driver and Postgres can represent.
pub(crate) fn within_calendar(time: SystemTime) -> SystemTime {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    time.clamp(SystemTime::UNIX_EPOCH, last)
}

/// Replaces NULs with U+FFFD, because Postgres cannot store a NUL in text.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Reads the number in the only row.
pub(crate) fn count(answer: &Answer) -> Result<u64, StoreError> {
    let row = answer.rows.first().ok_or_else(|| StoreError::new("a count without a row"))?;
    let count: i64 = row.try_get(0).map_err(StoreError::new)?;
    u64::try_from(count).map_err(StoreError::new)
}

/// A digest, read from a column.
pub(crate) struct Digest(pub(crate) BodyDigest);

impl<'a> FromSql<'a> for Digest {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(<[u8; 32]>::try_from(raw)?.into()))
    }

    accepts!(BYTEA);
}

/// A key, read from the bytes of a `uuid` column.
pub(crate) struct Key(pub(crate) EventKey);

impl<'a> FromSql<'a> for Key {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(<[u8; 16]>::try_from(raw)?.into()))
    }

    accepts!(BYTEA);
}

/// A body as a parameter of a statement. The driver logs parameters with `Debug`, and a body holds customers' data.
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

impl ToSql for Body<'_> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(of, out)
    }

    accepts!(BYTEA);

    to_sql_checked!();
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}
