//! What helps whoever meets a limit: to use less, to ask for more, or to have the operator allow more.

use troupe_sandbox::{Denied, FilesLimit, Limit, Limits, OPEN_FILES_MAX};
use troupe_workflow::Limits as AskedLimits;

use super::{to_json, within};

/// Where limits are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedIn {
    /// The `limits` of an agent.
    Document,
    /// Options of the command line, which are called as the fields are.
    Options,
}

/// What was asked for, and what the operator allows: what a limit's remedy depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remedies<'a> {
    pub(crate) ceiling: Limits,
    pub(crate) asked: &'a AskedLimits,
    pub(crate) asked_in: AskedIn,
}

impl Remedies<'_> {
    /// The limit that ended a call, and what helps.
    pub(crate) fn ended(&self, limit: Limit) -> String {
        let remedy = match limit {
            Limit::Fuel => self.less_or_more("give it less to do", "fuel"),
            Limit::Memory => format!(
                "{}, or the operator's `guest_memory_mb` where that is lower",
                self.more("memory_mb")
            ),
            Limit::Time => self.more("timeout_ms"),
            Limit::Output => self.less_or_more("return less", "output_kb"),
            Limit::HostCalls => self.more("host_calls"),
            Limit::HostBytes => self.less_or_more("ask for less", "host_kb"),
            Limit::Instances => self.less_or_more("build it of fewer modules", "instances"),
        };
        format!("{limit}; {remedy}")
    }

    /// Says of what limits denied what helps.
    pub(crate) fn complete(&self, denials: &mut [Denied]) {
        for denied in denials {
            let remedy = match denied.limit {
                Some(FilesLimit::Disk) => format!(
                    "{}; a scratch folder holds a quarter of the operator's `guest_memory_mb` at most",
                    self.less_or_more("write less", "disk_mb")
                ),
                Some(FilesLimit::OpenFiles) => self.less_or_more("close some first", "open_files"),
                None => continue,
            };
            denied.message.push_str(": ");
            denied.message.push_str(&remedy);
        }
    }

    fn less_or_more(&self, less: &str, name: &str) -> String {
        // Nobody can set more of these.
        let is_highest = match name {
            "open_files" => self.has(name, OPEN_FILES_MAX),
            "instances" => self.has(name, Limits::STANDARD.instances_max),
            _ => false,
        };
        match is_highest {
            true => less.to_owned(),
            false => format!("{less}, or {}", self.more(name)),
        }
    }

    fn has(&self, name: &str, count: u32) -> bool {
        to_json(&within(self.ceiling, self.asked))[name] == count
    }

    fn more(&self, name: &str) -> String {
        let has = to_json(&within(self.ceiling, self.asked));
        if has[name] == to_json(&self.ceiling)[name] {
            return format!("raise `{name}` in the operator's `[limits]`, which allow no more");
        }
        match self.asked_in {
            AskedIn::Document => format!("raise `{name}` in its `limits`"),
            AskedIn::Options => format!("raise --{}", name.replace('_', "-")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedies(asked: &AskedLimits, asked_in: AskedIn) -> Remedies<'_> {
        Remedies {
            ceiling: Limits::STANDARD,
            asked,
            asked_in,
        }
    }

    #[test]
    fn what_is_raised_is_what_holds() {
        let little = AskedLimits {
            fuel: Some(5),
            open_files: Some(5),
            instances: Some(5),
            ..AskedLimits::default()
        };
        let too_much = AskedLimits {
            fuel: Some(u64::MAX),
            ..AskedLimits::default()
        };
        let of_operator =
            "give it less to do, or raise `fuel` in the operator's `[limits]`, which allow no more";
        for (asked, asked_in, says) in [
            (&little, AskedIn::Document, "raise `fuel` in its `limits`"),
            (&little, AskedIn::Options, "less to do, or raise --fuel"),
            (&too_much, AskedIn::Document, of_operator),
            (&too_much, AskedIn::Options, of_operator),
            (&AskedLimits::default(), AskedIn::Document, of_operator),
        ] {
            let said = remedies(asked, asked_in).ended(Limit::Fuel);
            assert!(said.starts_with("the agent used up its fuel; "), "{said}");
            assert!(said.ends_with(says), "{said}");
        }
        let output = remedies(&AskedLimits::default(), AskedIn::Document).ended(Limit::Output);
        assert!(
            output.contains("return less, or raise `output_kb` in "),
            "{output}"
        );
        let instances = |asked| remedies(asked, AskedIn::Document).ended(Limit::Instances);
        let (few, all) = (instances(&little), instances(&too_much));
        assert!(
            few.ends_with("or raise `instances` in its `limits`"),
            "{few}"
        );
        assert!(all.ends_with("build it of fewer modules"), "{all}");
    }

    #[test]
    fn what_was_denied_by_a_limit_is_told_of_and_nothing_else() {
        let denied = |limit| Denied {
            capability: "files".to_owned(),
            message: "so it was".to_owned(),
            count: 1,
            limit,
        };
        let mut denials = [None, Some(FilesLimit::Disk), Some(FilesLimit::OpenFiles)].map(denied);
        let asked = AskedLimits {
            disk_mb: Some(1),
            ..AskedLimits::default()
        };
        remedies(&asked, AskedIn::Options).complete(&mut denials);
        let messages = denials.map(|denied| denied.message);
        assert_eq!(
            messages,
            [
                "so it was",
                "so it was: write less, or raise --disk-mb; a scratch folder holds a quarter of the operator's `guest_memory_mb` at most",
                "so it was: close some first, or raise `open_files` in the operator's `[limits]`, which allow no more",
            ]
        );
    }
}
