//! What an agent tells about itself, for people who look for one and for tools that check its input.

use serde_json::Value;

use crate::bindings::described::exports::troupe::agent::description as wit;

/// An agent that describes itself. Export it with [`export_described!`](crate::export_described).
pub trait Describe {
    /// Describes the component. It is called once, when the component is added, and may call nothing of
    /// the host.
    fn describe() -> Description;
}

/// What a component is, and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    name: String,
    version: String,
    description: String,
    actions: Vec<Action>,
}

impl Description {
    /// A component of this name, for example `summarizer`, and its own version, for example
    /// `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Description {
        Description {
            name: name.into(),
            version: version.into(),
            description: String::new(),
            actions: Vec::new(),
        }
    }

    /// What it is, for a person.
    #[must_use]
    pub fn text(mut self, description: impl Into<String>) -> Description {
        self.description = description.into();
        self
    }

    /// Adds something that it can do.
    #[must_use]
    pub fn action(mut self, action: Action) -> Description {
        self.actions.push(action);
        self
    }
}

/// Something that an agent can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    name: String,
    description: String,
    input_schema: Value,
    output_schema: Value,
}

impl Action {
    /// An action of this name, for example `summarize`, and what it does, for a person. Its input and
    /// output may be anything until schemas say more.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Action {
        let anything = Value::Bool(true);
        Action {
            name: name.into(),
            description: description.into(),
            input_schema: anything.clone(),
            output_schema: anything,
        }
    }

    /// The JSON schema of the input.
    #[must_use]
    pub fn input(mut self, schema: Value) -> Action {
        self.input_schema = schema;
        self
    }

    /// The JSON schema of the output.
    #[must_use]
    pub fn output(mut self, schema: Value) -> Action {
        self.output_schema = schema;
        self
    }
}

/// Hands an agent's description to the host.
#[doc(hidden)]
pub fn describe<A: Describe>() -> wit::Described {
    let described = A::describe();
    let actions = described.actions.into_iter().map(|action| wit::Action {
        name: action.name,
        description: action.description,
        input_schema: action.input_schema.to_string(),
        output_schema: action.output_schema.to_string(),
    });
    wit::Described {
        name: described.name,
        version: described.version,
        description: described.description,
        actions: actions.collect(),
    }
}

/// Makes a component of an [`Agent`](crate::Agent) that can [`Describe`] itself:
/// `troupe_sdk::export_described!(MyAgent);`, once, in the crate's root, in the place of `export!`.
#[macro_export]
macro_rules! export_described {
    ($agent:ty) => {
        $crate::export!($agent);

        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = $crate::glue::describe::<$agent>;
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Described;

            impl $crate::bindings::described::exports::troupe::agent::description::Guest for Described {
                fn describe() -> $crate::bindings::described::exports::troupe::agent::description::Described
                {
                    $crate::glue::describe::<$agent>()
                }
            }

            $crate::bindings::described::export_described!(
                Described with_types_in $crate::bindings::described
            );
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Summarizer;

    impl Describe for Summarizer {
        fn describe() -> Description {
            Description::new("summarizer", "1.4.0")
                .text("Summarizes texts.")
                .action(
                    Action::new("summarize", "Summarizes a text.").input(json!({"type": "string"})),
                )
        }
    }

    #[test]
    fn schemas_are_handed_over_as_json() {
        let described = describe::<Summarizer>();
        assert_eq!(
            (described.name.as_str(), described.version.as_str()),
            ("summarizer", "1.4.0")
        );
        assert_eq!(described.actions[0].input_schema, r#"{"type":"string"}"#);
        assert_eq!(described.actions[0].output_schema, "true");
    }
}
