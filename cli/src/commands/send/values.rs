//! The values of options: percentages, positive numbers and settings.

use std::str::FromStr;

use serde_json::value::RawValue;

use crate::json_edit::JsonPath;

/// A part of the deliveries, such as `5%`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percent(f64);

impl Percent {
    /// Returns whether the delivery with this number is selected. The selected ones are spread evenly, and are the same
    /// in each run.
    pub(crate) fn selects(self, number: u64) -> bool {
        self.selected(number + 1) > self.selected(number)
    }

    /// Returns how many of the first `count` deliveries are selected.
    #[allow(clippy::cast_possible_truncation, reason = "at most `count` are selected")]
    pub(crate) fn selected(self, count: u64) -> u64 {
        (count as f64 * self.0 / 100.0 + 0.5) as u64
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).parse();
        number
            .ok()
            .filter(|number| (0.0..=100.0).contains(number))
            .map(Self)
            .ok_or_else(|| "a part is 0% to 100%, such as 5% or 0.5%".into())
    }
}

/// A value to put into the body, such as `orders.0.status=3`.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) path: JsonPath,
    pub(crate) value: Box<RawValue>,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = text.split_once('=').ok_or("a setting is PATH=JSON, such as orders.0.status=3")?;
        let value = serde_json::from_str(value)
            .map_err(|_| "the value is not JSON: write a text with quotes, such as 'orders.0.short_id=\"K1\"'")?;
        Ok(Self { path: path.parse()?, value })
    }
}

/// Parses a number that is at least one.
pub(crate) fn factor(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 1.0 && number.is_finite());
    number.ok_or_else(|| "must be at least 1".into())
}

/// Parses a number of deliveries a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.001..=1e6).contains(number));
    number.ok_or_else(|| "a rate is 0.001 to 1000000 deliveries a second".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_select_evenly() {
        for (text, of_a_thousand) in [("0%", 0), ("5%", 50), ("0.5", 5), ("33.3%", 333), ("100%", 1000)] {
            let percent: Percent = text.parse().unwrap();
            let selected: Vec<u64> = (0..1000).filter(|&number| percent.selects(number)).collect();
            assert_eq!(selected.len(), of_a_thousand, "{text}");
            let gaps: Vec<u64> = selected.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().max().unwrap_or(&0) - gaps.iter().min().unwrap_or(&0) <= 1, "{text}: {gaps:?}");
        }
        for wrong in ["", "-1%", "101%", "five", "NaN", "5%%"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_limits() {
        assert!(factor("1").is_ok() && factor("1e9").is_ok() && rate("0.5").is_ok());
        assert!(["0", "-1", "inf", "NaN", ""].iter().all(|text| factor(text).is_err() && rate(text).is_err()));
    }
}
