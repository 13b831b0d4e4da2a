//! Functions of components that can be called with JSON: names, schemas, arguments, and what becomes of results.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use serde_json::{Value, json};
use wasmtime::component::Val;

use crate::description::Action;
use crate::limits::{Limit, Limits};
use crate::outcome::{Failure, Outcome};
use crate::value::{self, ReadError, SharedType, Type};

/// Names and types of parameters.
pub(crate) type Parameters = Vec<(String, SharedType)>;

/// Bytes of the texts in a failure that a guest gave as a `result`'s error.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// A function that can be called with JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Function {
    pub(crate) name: String,
    pub(crate) interface: Option<String>,
    pub(crate) export: String,
    pub(crate) parameters: Parameters,
    pub(crate) result: Option<SharedType>,
    /// For those who read what can be called; a worker only calls.
    #[serde(skip)]
    pub(crate) described: Option<Arc<Action>>,
}

/// A function that cannot be called with JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFunction {
    /// Its name, as [`Function::name`] would be.
    pub name: String,
    /// Why: the parameter or result, and its type.
    pub reason: String,
}

/// Arguments that were checked against a function's types.
#[derive(Clone, Debug)]
pub struct Arguments(pub(crate) Vec<Val>);

impl Arguments {
    /// Those of a function without parameters.
    pub(crate) fn none() -> Self {
        Arguments(Vec::new())
    }
}

impl Function {
    /// What it is called by: its own name, with that of its interface where it would not be clear.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface that it belongs to; none: it is exported by itself.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// What it does, where the component describes itself.
    pub fn description(&self) -> Option<&str> {
        self.described
            .as_ref()
            .map(|action| action.description.as_str())
    }

    /// The JSON schema of its arguments: the component's own, else the one that follows from the types.
    pub fn parameters_schema(&self) -> Value {
        match &self.described {
            Some(action) => action.input_schema.clone(),
            None => value::parameters_schema(&self.parameters),
        }
    }

    /// The JSON schema of its result; of a `result<T, E>` that of `T`, for an error is a failure of the call.
    pub fn result_schema(&self) -> Value {
        if let Some(action) = &self.described {
            return action.output_schema.clone();
        }
        let null = || json!({ "type": "null" });
        match self.result.as_deref() {
            None => null(),
            Some(Type::Result { ok, .. }) => ok.as_deref().map_or_else(null, value::schema),
            Some(ty) => value::schema(ty),
        }
    }

    /// The JSON schema of the error of a `result<T, E>`; none: it cannot decline.
    pub fn error_schema(&self) -> Option<Value> {
        match self.result.as_deref()? {
            Type::Result { err, .. } => Some(
                err.as_deref()
                    .map_or_else(|| json!({ "type": "null" }), value::schema),
            ),
            _ => None,
        }
    }

    /// The name of the only parameter that must be given, where that is a string.
    pub fn only_string_parameter(&self) -> Option<&str> {
        let mut needed = self
            .parameters
            .iter()
            .filter(|(_, ty)| !matches!(**ty, Type::Option(_)));
        match (needed.next(), needed.next()) {
            (Some((name, ty)), None) if **ty == Type::String => Some(name),
            _ => None,
        }
    }

    /// Reads an object of arguments, each under its parameter's name.
    ///
    /// # Errors
    /// The first value that is not of its type, with its place.
    pub fn read_arguments(&self, arguments: &Value) -> Result<Arguments, ReadError> {
        value::read_arguments(&self.parameters, arguments).map(Arguments)
    }

    /// What a call that came back gave: the result as JSON, or a `result`'s error as a failure.
    pub(crate) fn outcome(&self, result: Option<&Val>, limits: &Limits) -> Outcome {
        let (Some(ty), Some(result)) = (self.result.as_deref(), result) else {
            return Outcome::Returned("null".to_owned());
        };
        let write = |ty: Option<&Type>, value: Option<&Val>| match ty.zip(value) {
            Some((ty, value)) => value::write(ty, value, limits.output_bytes_max),
            None => Ok("null".to_owned()),
        };
        let written = match (ty, result) {
            (Type::Result { ok, .. }, Val::Result(Ok(value))) => {
                write(ok.as_deref(), value.as_deref()).map(Outcome::Returned)
            }
            (Type::Result { err, .. }, Val::Result(Err(value))) => {
                write(err.as_deref(), value.as_deref()).map(|error| self.declined(error))
            }
            (ty, value) => write(Some(ty), Some(value)).map(Outcome::Returned),
        };
        written.unwrap_or(Outcome::LimitHit(Limit::Output))
    }

    /// The error's JSON goes whole into the details; a person reads its text, or its `message`.
    fn declined(&self, error: String) -> Outcome {
        let value: Value = serde_json::from_str(&error).unwrap_or_default();
        let text = value
            .as_str()
            .or_else(|| value.get("message").and_then(Value::as_str));
        let text = match text {
            Some(text) => text,
            None if value.is_null() => "no reason given",
            None => &error,
        };
        let text: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
        Outcome::Declined(Failure {
            message: format!("`{}` declined: {text}", self.name),
            transient: false,
            details: Some(error),
        })
    }
}

/// A component has no function of the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownFunction {
    /// It has others.
    #[error("there is no function `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are, at most twenty.
        known: Vec<String>,
    },
    /// It is there and cannot be called.
    #[error("the function `{name}` cannot be called: {reason}")]
    Refused {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Finds a function by its name, or by a longer one that says its interface.
pub(crate) fn find<'a>(
    functions: &'a [Function],
    refused: &[RefusedFunction],
    name: &str,
) -> Result<&'a Function, UnknownFunction> {
    const KNOWN_MAX: usize = 20;
    let is_long_name = |function: &&Function| {
        let interface = function.interface.as_deref().unwrap_or_default();
        let mut ends = ["#", "."].into_iter();
        ends.any(|sign| name == format!("{interface}{sign}{}", function.export))
    };
    let mut all = functions.iter();
    if let Some(function) = all
        .find(|function| function.name == name)
        .or_else(|| functions.iter().find(is_long_name))
    {
        return Ok(function);
    }
    if let Some(function) = refused.iter().find(|function| function.name == name) {
        return Err(UnknownFunction::Refused {
            name: name.to_owned(),
            reason: function.reason.clone(),
        });
    }
    let known = functions.iter().take(KNOWN_MAX);
    Err(UnknownFunction::Unknown {
        name: name.chars().take(100).collect(),
        known: known
            .map(|function| format!("`{}`", function.name))
            .collect(),
    })
}
