//! What components may use: the operator's ceilings, and what a workflow or a caller asks for below them. What helps whoever
//! meets a limit is in `limits/remedy.rs`.

mod remedy;

use std::time::Duration;

use serde_json::{Value, json};
use troupe_sandbox::{INSTANCES_MAX, Limit, Limits, OPEN_FILES_MAX};
use troupe_workflow::{Code, Limits as AskedLimits};

use crate::config::LimitsConfig;

pub(crate) use self::remedy::{AskedIn, Remedies};

/// Bytes of a kibibyte and a mebibyte, the units of configuration and documents.
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The operator's ceilings, over the standard ones.
pub(crate) fn ceilings(config: &LimitsConfig) -> Limits {
    let standard = Limits::STANDARD;
    let bytes = |count: Option<u64>, unit: u64, standard: u64| {
        count.map_or(standard, |count| count.saturating_mul(unit))
    };
    Limits {
        fuel: config.fuel.unwrap_or(standard.fuel),
        memory_bytes_max: bytes(config.memory_mb, MIB, standard.memory_bytes_max),
        time_max: config
            .timeout_ms
            .map_or(standard.time_max, Duration::from_millis),
        output_bytes_max: bytes(config.output_kb, KIB, standard.output_bytes_max),
        log_bytes_max: bytes(config.log_kb, KIB, standard.log_bytes_max),
        host_calls_max: config.host_calls.unwrap_or(standard.host_calls_max),
        host_bytes_max: bytes(config.host_kb, KIB, standard.host_bytes_max),
        disk_bytes_max: bytes(config.disk_mb, MIB, standard.disk_bytes_max),
        open_files_max: config
            .open_files
            .map_or(standard.open_files_max, |count| count.min(OPEN_FILES_MAX)),
        instances_max: config
            .instances
            .map_or(standard.instances_max, |count| count.min(INSTANCES_MAX)),
        traced_calls_max: standard.traced_calls_max,
    }
}

/// What is asked for, as far as the ceilings allow; the ceiling where nothing is.
pub(crate) fn within(ceiling: Limits, asked: &AskedLimits) -> Limits {
    let at_most = |count: Option<u64>, unit: u64, most: u64| {
        count.map_or(most, |count| count.saturating_mul(unit).min(most))
    };
    let count = |count: Option<u64>, most: u32| {
        u32::try_from(at_most(count, 1, most.into())).unwrap_or(most)
    };
    Limits {
        fuel: at_most(asked.fuel, 1, ceiling.fuel),
        memory_bytes_max: at_most(asked.memory_mb, MIB, ceiling.memory_bytes_max),
        time_max: asked
            .timeout
            .map_or(ceiling.time_max, |asked| asked.min(ceiling.time_max)),
        output_bytes_max: at_most(asked.output_kb, KIB, ceiling.output_bytes_max),
        log_bytes_max: at_most(asked.log_kb, KIB, ceiling.log_bytes_max),
        host_calls_max: count(asked.host_calls, ceiling.host_calls_max),
        host_bytes_max: at_most(asked.host_kb, KIB, ceiling.host_bytes_max),
        disk_bytes_max: at_most(asked.disk_mb, MIB, ceiling.disk_bytes_max),
        open_files_max: count(asked.open_files, ceiling.open_files_max),
        instances_max: count(asked.instances, ceiling.instances_max),
        traced_calls_max: ceiling.traced_calls_max,
    }
}

/// Limits under the names and in the units of configuration and documents.
pub(crate) fn to_json(limits: &Limits) -> Value {
    json!({
        "fuel": limits.fuel,
        "memory_mb": limits.memory_bytes_max / MIB,
        "timeout_ms": u64::try_from(limits.time_max.as_millis()).unwrap_or(u64::MAX),
        "output_kb": limits.output_bytes_max / KIB,
        "log_kb": limits.log_bytes_max / KIB,
        "host_calls": limits.host_calls_max,
        "host_kb": limits.host_bytes_max / KIB,
        "disk_mb": limits.disk_bytes_max / MIB,
        "open_files": limits.open_files_max,
        "instances": limits.instances_max,
    })
}

/// The code of a failure for a limit that was reached.
pub(crate) fn code_of(limit: Limit) -> Code {
    match limit {
        Limit::Fuel => Code::LimitFuel,
        Limit::Memory => Code::LimitMemory,
        Limit::Time => Code::LimitTime,
        Limit::Output => Code::LimitOutput,
        Limit::HostCalls => Code::LimitHostCalls,
        Limit::HostBytes => Code::LimitHostBytes,
        Limit::Instances => Code::LimitInstances,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_lowered_and_none_be_raised() {
        let ceiling = ceilings(&LimitsConfig {
            fuel: Some(10),
            memory_mb: Some(10),
            timeout_ms: Some(10),
            output_kb: Some(10),
            host_calls: Some(10),
            host_kb: Some(10),
            log_kb: Some(10),
            disk_mb: Some(10),
            open_files: Some(10),
            instances: Some(10),
        });
        let asked = |count: u64| AskedLimits {
            fuel: Some(count),
            memory_mb: Some(count),
            timeout: Some(Duration::from_millis(count)),
            output_kb: Some(count),
            host_calls: Some(count),
            host_kb: Some(count),
            log_kb: Some(count),
            disk_mb: Some(count),
            open_files: Some(count),
            instances: Some(count),
        };
        let shown = |limits: Limits| {
            let limits = to_json(&limits);
            let all = limits.as_object().expect("an object").values();
            all.map(|limit| limit.as_u64().expect("a number"))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(within(ceiling, &AskedLimits::default())), [10; 10]);
        assert_eq!(shown(within(ceiling, &asked(3))), [3; 10]);
        assert_eq!(shown(within(ceiling, &asked(u64::MAX))), [10; 10]);
        let standard = ceilings(&LimitsConfig::default());
        assert_eq!(standard, Limits::STANDARD);
        let higher = ceilings(&LimitsConfig {
            open_files: Some(OPEN_FILES_MAX + 1),
            instances: Some(INSTANCES_MAX + 1),
            ..LimitsConfig::default()
        });
        assert_eq!(higher.open_files_max, OPEN_FILES_MAX);
        assert_eq!(higher.instances_max, INSTANCES_MAX);
    }
}
