//! What a model call costs. It owns the shipped price table, the operator's corrections and the arithmetic, all in
//! integers: a price is parsed from its decimal digits, never from a rounded binary number.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Add;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::model::Usage;

/// The shipped table; sources and dates are in the file.
const SHIPPED: &str = include_str!("prices.toml");

/// Digits after the point of a price: a millionth of a dollar for a million tokens is a pico-dollar for one.
const PRICE_DECIMALS: usize = 6;
/// Highest price that is taken for meant, in dollars for a million tokens; two hundred times the dearest model sold.
/// It keeps every product below the limits of `u128`, and most typing errors out.
const USD_PER_MILLION_MAX: u64 = 100_000;
/// A micro-dollar in pico-dollars.
const PICO_PER_MICRO: u128 = 1_000_000;

/// An amount of money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The price of one token in pico-dollars. In configuration it is written as US dollars for a million tokens, as a
/// number or a string of digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPrice(u64);

impl TokenPrice {
    /// Parses US dollars for a million tokens, for example `0.25`: exact, at most six digits after the point.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the number.
    pub fn parse_usd_per_million(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(format!(
                "`{text}` is no price; write US dollars for a million tokens, for example 0.25"
            ));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > PRICE_DECIMALS {
            return Err(format!(
                "`{text}` has more than {PRICE_DECIMALS} digits after the point; round it up"
            ));
        }
        let whole: u64 = whole.parse().unwrap_or(u64::MAX);
        if whole > USD_PER_MILLION_MAX {
            return Err(format!(
                "`{text}` is more than {USD_PER_MILLION_MAX} dollars for a million tokens"
            ));
        }
        let fraction: u64 = format!("{fraction:0<PRICE_DECIMALS$}").parse().unwrap_or(0);
        Ok(Self(whole * 1_000_000 + fraction))
    }

    fn times(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

impl<'de> Deserialize<'de> for TokenPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decimal;

        impl Visitor<'_> for Decimal {
            type Value = TokenPrice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("US dollars for a million tokens, for example 0.25")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TokenPrice, E> {
                TokenPrice::parse_usd_per_million(text).map_err(E::custom)
            }

            // The shortest decimal that means this number, which is what the author wrote, up to 15 digits.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<TokenPrice, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<TokenPrice, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TokenPrice, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Decimal)
    }
}

/// One model's line, as in `prices.toml` and the operator's `[prices]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Input that no cache had.
    #[serde(rename = "input_usd_per_million")]
    pub input: TokenPrice,
    /// Input read from the provider's cache; like `input` where it is not given.
    #[serde(default, rename = "cached_input_usd_per_million")]
    pub cached_input: Option<TokenPrice>,
    /// Input written to the provider's cache; like `input` where it is not given.
    #[serde(default, rename = "cache_write_usd_per_million")]
    pub cache_write: Option<TokenPrice>,
    /// Output, reasoning included.
    #[serde(rename = "output_usd_per_million")]
    pub output: TokenPrice,
    /// Longest input the model takes, in tokens.
    #[serde(default)]
    pub max_input_tokens: Option<u64>,
    /// Most tokens it produces in one answer.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// Other prices for requests with a long input.
    #[serde(default)]
    pub long_input: Option<LongInputPrice>,
}

/// The prices of a request, all of it, whose input is longer than a limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongInputPrice {
    /// The limit, in input tokens.
    pub above_tokens: u64,
    /// As in [`ModelPrice`].
    #[serde(rename = "input_usd_per_million")]
    pub input: TokenPrice,
    /// As in [`ModelPrice`].
    #[serde(default, rename = "cached_input_usd_per_million")]
    pub cached_input: Option<TokenPrice>,
    /// As in [`ModelPrice`].
    #[serde(default, rename = "cache_write_usd_per_million")]
    pub cache_write: Option<TokenPrice>,
    /// As in [`ModelPrice`].
    #[serde(rename = "output_usd_per_million")]
    pub output: TokenPrice,
}

/// The four prices that hold for one request.
#[derive(Clone, Copy)]
struct Rates {
    input: TokenPrice,
    cached_input: TokenPrice,
    cache_write: TokenPrice,
    output: TokenPrice,
}

impl ModelPrice {
    /// What a call cost, rounded up once, to a micro-dollar.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        let rates = match &self.long_input {
            Some(long) if usage.input_tokens > long.above_tokens => long.rates(),
            _ => self.rates(),
        };
        // Parts that contradict the whole cannot make the call cheaper than its whole input at the cheapest price.
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
        let fresh = usage.input_tokens - cached - written;
        let input = rates.input.times(fresh)
            + rates.cached_input.times(cached)
            + rates.cache_write.times(written);
        round_up(input.saturating_add(rates.output.times(usage.output_tokens)))
    }

    /// The most a call can cost: all input fresh or written to a cache, whichever is dearer, and `max_tokens` of
    /// output, at the dearest prices that an input of up to `input_tokens_max` can meet.
    #[must_use]
    pub fn worst_case(&self, input_tokens_max: u64, max_tokens: u32) -> MicroUsd {
        let (input, output) = self.dearest(input_tokens_max);
        round_up(
            input
                .times(input_tokens_max)
                .saturating_add(output.times(u64::from(max_tokens))),
        )
    }

    /// The most output tokens whose worst case stays within `budget`, at most the model's own maximum. None where the
    /// budget does not even cover the input.
    #[must_use]
    pub fn max_tokens_within(&self, budget: MicroUsd, input_tokens_max: u64) -> Option<u32> {
        let (input, output) = self.dearest(input_tokens_max);
        let left =
            (u128::from(budget.0) * PICO_PER_MICRO).checked_sub(input.times(input_tokens_max))?;
        let affordable = left.checked_div(u128::from(output.0)).unwrap_or(u128::MAX);
        let affordable = u32::try_from(affordable).unwrap_or(u32::MAX);
        Some(affordable.min(self.max_output_tokens.unwrap_or(u32::MAX)))
    }

    fn dearest(&self, input_tokens_max: u64) -> (TokenPrice, TokenPrice) {
        let long = self
            .long_input
            .as_ref()
            .filter(|long| input_tokens_max > long.above_tokens);
        let all = [Some(self.rates()), long.map(LongInputPrice::rates)];
        all.into_iter().flatten().fold(
            Default::default(),
            |(input, output): (TokenPrice, TokenPrice), rates| {
                (
                    input.max(rates.input).max(rates.cache_write),
                    output.max(rates.output),
                )
            },
        )
    }

    fn rates(&self) -> Rates {
        Rates {
            input: self.input,
            cached_input: self.cached_input.unwrap_or(self.input),
            cache_write: self.cache_write.unwrap_or(self.input),
            output: self.output,
        }
    }
}

impl LongInputPrice {
    fn rates(&self) -> Rates {
        Rates {
            input: self.input,
            cached_input: self.cached_input.unwrap_or(self.input),
            cache_write: self.cache_write.unwrap_or(self.input),
            output: self.output,
        }
    }
}

fn round_up(pico: u128) -> MicroUsd {
    MicroUsd(u64::try_from(pico.div_ceil(PICO_PER_MICRO)).unwrap_or(u64::MAX))
}

/// The prices of all models that have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable(BTreeMap<String, ModelPrice>);

impl PriceTable {
    /// The table that ships with Troupe; each line names its source and date.
    #[must_use]
    pub fn shipped() -> Self {
        Self(toml::from_str(SHIPPED).expect("the shipped table is parsed by a test"))
    }

    /// Replaces or adds lines: the operator's `[prices]`. A line is replaced as a whole.
    #[must_use]
    pub fn with_overrides(mut self, overrides: BTreeMap<String, ModelPrice>) -> Self {
        self.0.extend(overrides);
        self
    }

    /// The price of a model by the provider's name for it. A dated name (`…-2025-08-07`, `…-20250929`) without a line
    /// of its own has the price of the undated one.
    #[must_use]
    pub fn get(&self, model: &str) -> Option<&ModelPrice> {
        self.0.get(model).or_else(|| self.0.get(undated(model)?))
    }

    /// All models with a price, in order of their names.
    pub fn models(&self) -> impl Iterator<Item = (&str, &ModelPrice)> {
        self.0.iter().map(|(name, price)| (name.as_str(), price))
    }
}

/// A name without the date at its end.
fn undated(model: &str) -> Option<&str> {
    let is_date = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(c, p)| {
                if p == b'0' {
                    c.is_ascii_digit()
                } else {
                    c == p
                }
            })
    };
    ["-0000-00-00", "-00000000"].iter().find_map(|pattern| {
        let (name, date) = model.split_at_checked(model.len().checked_sub(pattern.len())?)?;
        is_date(date, pattern).then_some(name)
    })
}

#[cfg(test)]
mod tests;
