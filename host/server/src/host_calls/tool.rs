//! Calls of tools by a guest: each in an instance of its own, with fuel of the guest's, recorded with what it cost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_sandbox::{Call, CancelFlag, DenyAll, Error, Grants, ToolAnswer, tools};
use troupe_workflow::{CallKind, CallOutcome, Code, Failure};

use super::{GuestHost, error_of, parse_json};
use crate::agents::code;
use crate::limits::{AskedIn, Remedies, within};
use crate::replay::Place;
use crate::tools::{AnyName, LoadedTool, NoReport, ToolFunction, call, find, limits, list};

/// How a tool's call ended, as the journal keeps it. A failure costs fuel too, and a guest that is run again must
/// pay the same.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(default)]
    result: Value,
    fuel: u64,
}

impl From<Recorded> for ToolAnswer {
    fn from(recorded: Recorded) -> Self {
        ToolAnswer {
            result: match &recorded.failure {
                Some(failure) => Err(error_of("tools", failure)),
                None => Ok(recorded.result.to_string()),
            },
            fuel: recorded.fuel,
        }
    }
}

impl GuestHost {
    /// The functions that there are, as they were when the component first asked.
    pub(super) async fn list_tools(&self) -> Result<Vec<tools::Tool>, Error> {
        let place = self.place(CallKind::Tool, &"available").await;
        let told = place.last().map(|outcome| self.gateway.replayed(outcome));
        if let Some(told) = told {
            return told.map_err(|failure| error_of("tools", &failure));
        }
        let tools = list(&self.tools);
        if let Ok(value) = serde_json::to_value(&tools) {
            let outcome = CallOutcome::Answered(value);
            // Where the driver is gone the whole call ends.
            let _ = self.gateway.note(CallKind::Tool, &place, outcome).await;
        }
        Ok(tools)
    }

    pub(super) async fn call_tool_at(
        &self,
        request: tools::CallRequest,
        fuel_max: u64,
        place: &Place,
    ) -> ToolAnswer {
        let asking = async {
            let recorded = self.make_tool_call(&request, fuel_max, place).await?;
            serde_json::to_value(recorded).map_err(|error| {
                let message = format!("a tool's answer cannot be stored: {error}");
                Failure::new(Code::Internal, message)
            })
        };
        let answer = self.gateway.tool(&request.name, place, asking).await;
        let recorded = answer.and_then(|value| {
            serde_json::from_value::<Recorded>(value).map_err(|error| {
                let message = format!("a recorded answer cannot be read: {error}");
                Failure::new(Code::Internal, message)
            })
        });
        match recorded {
            Ok(recorded) => recorded.into(),
            Err(failure) => ToolAnswer {
                result: Err(error_of("tools", &failure)),
                fuel: 0,
            },
        }
    }

    /// The outer error is the host's own.
    async fn make_tool_call(
        &self,
        request: &tools::CallRequest,
        fuel_max: u64,
        place: &Place,
    ) -> Result<Recorded, Failure> {
        let failed = |failure| {
            Ok(Recorded {
                failure: Some(failure),
                result: Value::Null,
                fuel: 0,
            })
        };
        let ToolFunction { tool, function } =
            match find(&self.tools, &request.name, AnyName::Refused) {
                Ok(found) => found,
                Err(message) => return failed(Failure::new(Code::InputInvalid, message)),
            };
        let arguments = match parse_json(&request.arguments, "the arguments") {
            Ok(arguments) => arguments,
            Err(Error::Invalid(message)) => {
                return failed(Failure::new(Code::InputInvalid, message));
            }
            Err(_) => Value::Null,
        };
        let circumstances = self.tool_circumstances(tool, fuel_max, place.position);
        let sandbox = self.services.components.sandbox().for_tools();
        let most = circumstances.limits.fuel;
        self.tool_fuel.fetch_add(most, Ordering::Relaxed);
        let called = call(
            &sandbox,
            (&tool.component, function),
            &arguments,
            circumstances,
        )
        .await;
        let used = match &called {
            Ok(report) => report.usage.fuel,
            Err(NoReport::Failed(_)) => 0,
            // Nobody knows what it used.
            Err(NoReport::Interrupted(_)) => most,
        };
        let unused = most.saturating_sub(used);
        self.tool_fuel.fetch_sub(unused, Ordering::Relaxed);
        let report = match called {
            Ok(report) => report,
            Err(NoReport::Failed(failure)) if failure.code == Code::InputInvalid => {
                return failed(failure);
            }
            Err(no_report) => return Err(no_report.into()),
        };
        let fuel = report.usage.fuel;
        let remedies = Remedies {
            ceiling: self.services.limits,
            asked: &tool.asked,
            asked_in: AskedIn::Document,
        };
        Ok(match code::value_of(report, &remedies) {
            Ok(result) => Recorded {
                failure: None,
                result,
                fuel,
            },
            Err(failure) => Recorded {
                failure: Some(self.for_caller(failure, (tool, most))),
                result: Value::Null,
                fuel,
            },
        })
    }

    /// A tool's failure, where its caller had less fuel left for it than it may use.
    fn for_caller(&self, failure: Failure, (tool, fuel_max): (&LoadedTool, u64)) -> Failure {
        let own = within(self.services.limits, &tool.asked).fuel;
        match failure.code {
            Code::LimitFuel if fuel_max < own => Failure::new(
                Code::LimitFuel,
                "the tool used up the fuel that its caller had left; give it less to do, or raise its caller's `fuel`",
            ),
            _ => failure,
        }
    }

    fn tool_circumstances(&self, tool: &LoadedTool, fuel_max: u64, position: u32) -> Call {
        let seed = json!(["tool", self.seed, position]).to_string();
        Call {
            agent: tool.name.clone(),
            grants: Grants::none(),
            limits: limits(self.services.limits, &tool.asked, fuel_max),
            host: Arc::new(DenyAll),
            seed: Sha256::digest(seed).into(),
            started_at: self.began_at,
            cancel: CancelFlag::new(),
        }
    }
}
