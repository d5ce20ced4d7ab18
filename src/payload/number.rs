use std::fmt;

use crate::json::Decimal;

/// A number type of Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberType {
    name: &'static str,
    /// The range of an integer type. `None` for floating point.
    range: Option<IntegerRange>,
}

/// The range of an integer type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IntegerRange {
    /// The absolute value of the lowest value, which is zero or negative.
    min: u128,
    max: u128,
}

/// The way in which a number is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    TooLarge,
    TooSmall,
    /// Too small for a type without negative values.
    Negative,
}

macro_rules! types {
    (signed: $($signed:ident)*, unsigned: $($unsigned:ident)*, floating: $($floating:ident)*) => {
        [
            $(NumberType {
                name: stringify!($signed),
                range: Some(IntegerRange { min: $signed::MAX as u128 + 1, max: $signed::MAX as u128 }),
            },)*
            $(NumberType {
                name: stringify!($unsigned),
                range: Some(IntegerRange { min: 0, max: $unsigned::MAX as u128 }),
            },)*
            $(NumberType { name: stringify!($floating), range: None },)*
        ]
    };
}

impl NumberType {
    const ALL: [Self; 14] = types! {
        signed: i8 i16 i32 i64 i128 isize, unsigned: u8 u16 u32 u64 u128 usize, floating: f32 f64
    };

    /// Finds the type in serde's description of what it expected: `i64`, or `a nonzero i64`.
    pub(super) fn expected(text: &str) -> Option<Self> {
        Self::named(text.strip_prefix("a nonzero ").unwrap_or(text))
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|number_type| number_type.name == name)
    }

    pub(super) fn is_integer(self) -> bool {
        self.range.is_some()
    }

    /// Returns how the number is out of the type's range. `None` if the number is in range, or if the number or the type is not an
    /// integer.
    pub(super) fn excess(self, number: &Decimal) -> Option<Excess> {
        let IntegerRange { min, max } = self.range.filter(|_| number.is_integer())?;
        let is_beyond = |limit| number.magnitude().is_none_or(|magnitude| magnitude > limit);
        match number.is_negative() {
            true if min == 0 => Some(Excess::Negative),
            true => is_beyond(min).then_some(Excess::TooSmall),
            false => is_beyond(max).then_some(Excess::TooLarge),
        }
    }
}

/// Writes the name with its article: "an i64", "a u8".
impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if self.name.starts_with('u') { "a" } else { "an" };
        write!(f, "{article} {}", self.name)
    }
}
