//! Amounts of money as whole micro-dollars.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// An amount in micro-dollars: 1 USD is 1,000,000. It saturates rather than overflows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(u64);

/// A number that is no amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not an amount in US dollars: write a number from 0 to 1,000,000,000, for example 0.50"
)]
pub struct MoneyError(String);

impl MicroUsd {
    pub const ZERO: Self = Self(0);

    /// Protects sums from overflow: a billion dollars.
    const DOLLARS_MAX: f64 = 1e9;

    pub const fn new(micro_usd: u64) -> Self {
        Self(micro_usd)
    }

    pub const fn as_micro_usd(self) -> u64 {
        self.0
    }

    /// From dollars as a document states them, rounded down to a micro-dollar: a cap never grows.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked: 0 to 1e15, which a u64 holds exactly"
    )]
    pub fn from_dollars(dollars: f64) -> Result<Self, MoneyError> {
        if !(0.0..=Self::DOLLARS_MAX).contains(&dollars) {
            return Err(MoneyError(dollars.to_string()));
        }
        // 1.1 * 1e6 is 1_100_000.0000000001: nudge before cutting, or 0.29 would become 289_999.
        Ok(Self((dollars * 1e6 + 1e-4) as u64))
    }

    /// What is left after taking away; zero where more is taken than there is.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for MicroUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::add)
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if micros % 10_000 == 0 {
            write!(f, "${dollars}.{:02}", micros / 10_000)
        } else {
            write!(f, "${dollars}.{micros:06}")
        }
    }
}
