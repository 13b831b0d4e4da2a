//! Language models. The host holds the keys and counts the money; an agent names a model that is granted.
//!
//! ```no_run
//! use serde::Deserialize;
//! use serde_json::json;
//! use troupe_sdk::llm;
//!
//! #[derive(Deserialize)]
//! struct Verdict { spam: bool }
//!
//! # fn main() -> Result<(), troupe_sdk::Error> {
//! let verdict: Verdict = llm::Request::new("You have won a prize! Send your bank details.")
//!     .system("Say whether the message is spam.")
//!     .schema(&json!({"type": "object", "properties": {"spam": {"type": "boolean"}}, "required": ["spam"]}))
//!     .max_tokens(50)
//!     .json()?;
//! # Ok(())
//! # }
//! ```

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::troupe::agent::llm as wit;
use crate::{Error, json};

pub use wit::{Completion, FinishReason, Message, Role, ToolCall, Usage};

/// Asks the first model that is granted, and returns its text.
///
/// # Errors
/// The host's, see [`Error`].
pub fn ask(question: impl Into<String>) -> Result<String, Error> {
    Request::new(question).text()
}

/// What to ask a model.
#[derive(Debug, Clone)]
pub struct Request(wit::Request);

impl Request {
    /// A conversation that begins with a user's message.
    pub fn new(question: impl Into<String>) -> Request {
        Request::conversation([message(Role::User, question)])
    }

    /// A conversation so far, oldest message first.
    pub fn conversation(messages: impl IntoIterator<Item = Message>) -> Request {
        Request(wit::Request {
            model: None,
            messages: messages.into_iter().collect(),
            max_tokens: None,
            temperature_hundredths: None,
            stop: Vec::new(),
            tools: Vec::new(),
            schema: None,
        })
    }

    /// Puts standing instructions before the conversation, for example `Answer in one sentence.`
    #[must_use]
    pub fn system(mut self, instructions: impl Into<String>) -> Request {
        self.0
            .messages
            .insert(0, message(Role::System, instructions));
        self
    }

    /// Adds a message at the conversation's end.
    #[must_use]
    pub fn message(mut self, message: Message) -> Request {
        self.0.messages.push(message);
        self
    }

    /// Names the model, or an alias of the operator's; without it the first that is granted answers.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>) -> Request {
        self.0.model = Some(name.into());
        self
    }

    /// The most tokens to produce; without it what the budget affords, at most the model's own maximum.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Request {
        self.0.max_tokens = Some(tokens);
        self
    }

    /// The temperature in hundredths: 70 is 0.7.
    #[must_use]
    pub fn temperature_hundredths(mut self, hundredths: u32) -> Request {
        self.0.temperature_hundredths = Some(hundredths);
        self
    }

    /// A text that ends the answer where it appears; at most 4.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Request {
        self.0.stop.push(text.into());
        self
    }

    /// A function the model may ask for, with the JSON schema of its arguments. The agent calls it itself
    /// and sends the result back with [`tool_result`].
    #[must_use]
    pub fn tool(
        mut self,
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: &Value,
    ) -> Request {
        self.0.tools.push(wit::ToolDefinition {
            name: name.into(),
            description: description.into(),
            parameters: parameters.to_string(),
        });
        self
    }

    /// The JSON schema that the answer must satisfy.
    #[must_use]
    pub fn schema(mut self, schema: &Value) -> Request {
        self.0.schema = Some(schema.to_string());
        self
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// The host's, see [`Error`].
    pub fn send(self) -> Result<Completion, Error> {
        wit::complete(&self.0).map_err(Error::from_wit)
    }

    /// Asks, and returns the text.
    ///
    /// # Errors
    /// The host's, see [`Error`].
    pub fn text(self) -> Result<String, Error> {
        Ok(self.send()?.text)
    }

    /// Asks, and reads the answer's JSON; give the request a [`schema`](Request::schema) of the same shape.
    ///
    /// # Errors
    /// The host's, and [`Error::Unexpected`] where the answer has another shape.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.send()?.json()
    }
}

impl Completion {
    /// Reads the answer's JSON.
    ///
    /// # Errors
    /// [`Error::Unexpected`] where the answer is no JSON, or JSON of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::read(
            "the model's answer",
            self.value.as_deref().unwrap_or(&self.text),
        )
    }
}

impl ToolCall {
    /// Reads the arguments that the model chose.
    ///
    /// # Errors
    /// [`Error::Unexpected`] where they have another shape: a model can be wrong.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::read(
            &format!("the model's call of `{}`", self.name),
            &self.arguments,
        )
    }
}

/// Asks several times at once; the answers come in the order of the requests.
pub fn complete_many(
    requests: impl IntoIterator<Item = Request>,
) -> Vec<Result<Completion, Error>> {
    let requests: Vec<wit::Request> = requests.into_iter().map(|request| request.0).collect();
    wit::complete_many(&requests)
        .into_iter()
        .map(|answer| answer.map_err(Error::from_wit))
        .collect()
}

/// The models that are granted, by the names [`Request::model`] takes.
pub fn models() -> Vec<String> {
    wit::models()
}

/// A plain message, of any role but `tool`.
pub fn message(role: Role, content: impl Into<String>) -> Message {
    Message {
        role,
        content: content.into(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

/// The assistant's message that a completion is, to be sent back before the results of its tool calls.
pub fn assistant(completion: &Completion) -> Message {
    let tool_calls = completion.tool_calls.clone();
    Message {
        tool_calls,
        ..message(Role::Assistant, completion.text.clone())
    }
}

/// The result of a call that the model asked for.
pub fn tool_result(call: &ToolCall, result: &Value) -> Message {
    Message {
        tool_call_id: Some(call.id.clone()),
        ..message(Role::Tool, result.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_built_in_any_order() {
        let request = Request::new("Hello")
            .model("fast")
            .schema(&json!({"type": "string"}))
            .system("Be brief.")
            .message(message(Role::User, "World"))
            .0;
        let roles: Vec<_> = request
            .messages
            .iter()
            .map(|message| (message.role, message.content.as_str()))
            .collect();
        assert_eq!(
            roles,
            [
                (Role::System, "Be brief."),
                (Role::User, "Hello"),
                (Role::User, "World")
            ]
        );
        assert_eq!(request.schema.as_deref(), Some(r#"{"type":"string"}"#));
    }

    #[test]
    fn the_json_of_an_answer_is_its_value() {
        let completion = |text: &str, value: Option<&str>| Completion {
            text: text.into(),
            value: value.map(str::to_owned),
            tool_calls: Vec::new(),
            finish: FinishReason::Stop,
            usage: Usage {
                input_tokens: 1,
                cached_input_tokens: 0,
                output_tokens: 1,
            },
            cost_microdollars: 0,
            model: "fast".into(),
        };
        let fenced = completion("Here: ```json\n[1, 2]\n```", Some("[1, 2]"));
        assert_eq!(fenced.json::<Vec<u32>>(), Ok(vec![1, 2]));
        let prose = completion("I cannot say", None)
            .json::<Vec<u32>>()
            .expect_err("it is no JSON");
        assert!(
            prose
                .to_string()
                .starts_with("the model's answer is not what was expected"),
            "{prose}"
        );
    }

    #[test]
    fn tool_calls_are_answered_by_id() {
        let call = ToolCall {
            id: "call_1".into(),
            name: "weather".into(),
            arguments: r#"{"city": "Pune"}"#.into(),
        };
        assert_eq!(call.arguments::<Value>(), Ok(json!({"city": "Pune"})));
        let result = tool_result(&call, &json!({"celsius": 31}));
        assert_eq!(result.tool_call_id.as_deref(), Some("call_1"));
        assert_eq!(result.content, r#"{"celsius":31}"#);
    }
}
