//! Time zones, from the data that is compiled in: what the machine has installed is not looked at, so that every
//! machine that shares a journal means the same moments.

use std::fmt;
use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::fault::nearest;

/// Named rather than taken from the environment: that one would prefer the machine's files wherever another crate of
/// the same build has them enabled.
static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone by its IANA name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// Finds a time zone by its name, in whatever case it is written.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        let rules = BUNDLED.get(name).map_err(|_unknown| {
            let short: String = name.chars().take(80).collect();
            let known: Vec<String> = BUNDLED.available().map(|zone| zone.to_string()).collect();
            match nearest(&short, known.iter().map(String::as_str)) {
                Some(zone) => format!("there is no time zone `{short}`; did you mean `{zone}`?"),
                None => format!(
                    "there is no time zone `{short}`; write an IANA name such as `Europe/Berlin`"
                ),
            }
        })?;
        let name = rules.iana_name().unwrap_or(name).to_owned();
        Ok(Self { name, rules })
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub(super) fn rules(&self) -> &TimeZone {
        &self.rules
    }
}

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self {
            name: "UTC".to_owned(),
            rules: TimeZone::UTC,
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
