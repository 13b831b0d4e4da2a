//! The trait of an agent, and the way from the component's export to it.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::troupe::agent::types as wit;

/// Does one step of a workflow.
///
/// A new instance of the component is made for every call: statics hold nothing from the call before.
pub trait Agent {
    /// What the step's `input` is read into. A workflow's text is a JSON string, and `serde_json::Value`
    /// takes anything.
    type Input: DeserializeOwned;
    /// What becomes the step's output.
    type Output: Serialize;

    /// Does what is asked, or says why not.
    ///
    /// # Errors
    /// Whatever keeps the agent from its output; `?` turns any error into a [`Failure`].
    fn run(input: Self::Input, invocation: &Invocation) -> Result<Self::Output, Failure>;
}

/// What an agent is told beside its input: one attempt of one step of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invocation {
    /// What to do, in the workflow author's words, for example `summarize`. An agent that does one thing
    /// may ignore it.
    pub action: String,
    /// The execution this belongs to, for example `exec_01JD2Q…`.
    pub execution: String,
    /// The workflow's name, for example `Research Assistant`.
    pub workflow: String,
    /// The path of the step in the workflow, for example `summarize` or `each[17].summarize`.
    pub step: String,
    /// Which try this is, counted from 1.
    pub attempt: u32,
    /// The same text at every attempt of this step of this execution, and of no other. Hand it to services
    /// that can recognise a repeated request.
    pub idempotency_key: String,
    /// How long this invocation may compute. Time spent waiting for the host does not count.
    pub time_limit: Duration,
}

/// Runs an agent on what the host hands over, as JSON text on both sides.
#[doc(hidden)]
pub fn run<A: Agent>(invocation: wit::Invocation) -> Result<String, wit::Failure> {
    let input = match serde_json::from_str(&invocation.input) {
        Ok(input) => input,
        Err(error) => {
            return Err(
                Failure::new(format!("the input is not what this agent takes: {error}")).into_wit(),
            );
        }
    };
    let invocation = Invocation {
        action: invocation.action,
        execution: invocation.execution,
        workflow: invocation.workflow,
        step: invocation.step,
        attempt: invocation.attempt,
        idempotency_key: invocation.idempotency_key,
        time_limit: Duration::from_millis(invocation.time_limit_ms),
    };
    let output = A::run(input, &invocation).map_err(Failure::into_wit)?;
    serde_json::to_string(&output).map_err(|error| {
        Failure::new(format!("the output cannot be written as JSON: {error}")).into_wit()
    })
}

/// Makes a component of an [`Agent`]: `troupe_sdk::export!(MyAgent);`, once, in the crate's root.
///
/// For any other target than WebAssembly nothing is exported: the names of a component's exports are no
/// symbols that other linkers take.
#[macro_export]
macro_rules! export {
    ($agent:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            // The agent is named, so that it is checked, and is not reported as unused.
            let _ = $crate::glue::run::<$agent>;
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;

            impl $crate::bindings::exports::troupe::agent::guest::Guest for Exported {
                fn run(
                    invocation: $crate::bindings::troupe::agent::types::Invocation,
                ) -> ::core::result::Result<
                    ::std::string::String,
                    $crate::bindings::troupe::agent::types::Failure,
                > {
                    $crate::glue::run::<$agent>(invocation)
                }
            }

    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    struct Divider;

    #[derive(Deserialize)]
    struct Fraction {
        above: i64,
        below: i64,
    }

    impl Agent for Divider {
        type Input = Fraction;
        type Output = i64;

        fn run(input: Fraction, invocation: &Invocation) -> Result<i64, Failure> {
            assert_eq!(invocation.time_limit, Duration::from_secs(2));
            input
                .above
                .checked_div(input.below)
                .ok_or_else(|| Failure::new("a division by zero"))
        }
    }

    fn invoke(input: &str) -> Result<String, String> {
        let invocation = wit::Invocation {
            action: "divide".into(),
            input: input.into(),
            execution: "exec_1".into(),
            workflow: "Numbers".into(),
            step: "divide".into(),
            attempt: 1,
            idempotency_key: "key".into(),
            time_limit_ms: 2000,
        };
        run::<Divider>(invocation).map_err(|failure| failure.message)
    }

    #[test]
    fn values_go_through_the_agent_as_json() {
        assert_eq!(invoke(r#"{"above": 12, "below": 4}"#), Ok("3".into()));
        assert_eq!(
            invoke(r#"{"above": 12, "below": 0}"#),
            Err("a division by zero".into())
        );
    }

    #[test]
    fn an_input_of_another_shape_is_a_failure() {
        let message = invoke(r#"{"above": 12}"#).expect_err("a field is missing");
        assert!(
            message.starts_with("the input is not what this agent takes: missing field `below`"),
            "{message}"
        );
    }
}
