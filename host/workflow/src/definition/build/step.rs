//! Steps of agents: their agent, their input, and what they do about a failure.

use super::super::scope::ErrorName;
use super::super::{Compiled, Fallback, NodeIndex, StepNode, Then};
use super::Builder;
use crate::document::{AgentKind, AgentStepSpec, FallbackSpec, OnError, OnErrorRule, StepSpec};
use crate::fault::{Faults, suggestion};
use crate::ids::Name;
use crate::retry::{AskedBy, RetryPolicy};

use serde_json::Value;

impl Builder<'_> {
    pub(super) fn step(
        &mut self,
        step: &AgentStepSpec,
        spec: &StepSpec,
        index: NodeIndex,
        faults: &mut Faults,
    ) -> StepNode {
        let pointer = &spec.pointer;
        let agent_name = self.agent_name(&step.agent, &format!("{pointer}/agent"), faults);
        let input_place = format!("{pointer}/input");
        let input = self.compiled(&step.input, &input_place, ErrorName::Unknown, faults);
        self.note_list_use(&step.agent, &input);
        let agent = self.agents.get(step.agent.as_str());
        let is_human = agent.is_some_and(|agent| matches!(agent.kind, AgentKind::Human(_)));
        if is_human && step.timeout.is_some() {
            faults.add(
                format!("{pointer}/timeout_ms"),
                "people have `timeout_hours`, at their agent, not `timeout_ms`",
            );
        }
        let agent_rule = agent.and_then(|agent| agent.on_error.clone());
        let rule = spec
            .on_error
            .clone()
            .or(agent_rule)
            .unwrap_or(OnError::Rule(self.config.on_error));
        let (retry, then) = self.policy(rule, faults);
        self.nodes[index.0].retry = retry;
        self.nodes[index.0].then = then;
        StepNode {
            system_prompt: self.system_prompt(&step.agent, ErrorName::Unknown, faults),
            agent: agent_name,
            action: step.action.clone(),
            input,
            timeout: step.timeout,
            required: super::RequiredFields::default(),
        }
    }

    fn agent_name(&self, id: &str, pointer: &str, faults: &mut Faults) -> Name {
        if let Some((name, _)) = self.agents.get_key_value(id) {
            return name.clone();
        }
        // An agent with faults of its own is there all the same.
        if !self.names.agents.contains(id) {
            let known = suggestion(id, self.names.agents.iter().map(String::as_str));
            faults.add(pointer, format!("there is no agent `{id}`{known}"));
        }
        Name::numbered(0)
    }

    /// How often a step is tried, and what happens then.
    pub(super) fn policy(&mut self, rule: OnError, faults: &mut Faults) -> (RetryPolicy, Then) {
        let workflow = self.workflow_retries();
        match rule {
            OnError::Rule(OnErrorRule::Retry) => (workflow, Then::Fail),
            OnError::Rule(OnErrorRule::Stop) => (self.no_retries(), Then::Fail),
            OnError::Rule(OnErrorRule::Continue) => (self.no_retries(), Then::Continue),
            OnError::Detailed { retry, delay, then } => {
                let policy = RetryPolicy {
                    retries: retry.unwrap_or(workflow.retries),
                    delay: delay.unwrap_or(workflow.delay),
                    asked_by: if retry.is_some() {
                        AskedBy::Step
                    } else {
                        AskedBy::Workflow
                    },
                };
                let then = match then {
                    None => Then::Fail,
                    Some(FallbackSpec::Continue) => Then::Continue,
                    Some(FallbackSpec::Agent {
                        agent,
                        action,
                        input,
                        pointer,
                    }) => {
                        let (input, action) = (&input, action);
                        Then::Fallback(Box::new(self.fallback(
                            &agent,
                            action,
                            input,
                            (&pointer, faults),
                        )))
                    }
                };
                (policy, then)
            }
        }
    }

    fn fallback(
        &mut self,
        agent: &str,
        action: String,
        input: &Value,
        (pointer, faults): (&str, &mut Faults),
    ) -> Fallback {
        let name = self.agent_name(agent, &format!("{pointer}/agent"), faults);
        let place = format!("{pointer}/input");
        let input = self.compiled(input, &place, ErrorName::Known, faults);
        self.note_list_use(agent, &input);
        Fallback {
            agent: name,
            action,
            input,
            system_prompt: self.system_prompt(agent, ErrorName::Known, faults),
            retry: match self.config.on_error {
                OnErrorRule::Stop => self.no_retries(),
                OnErrorRule::Retry | OnErrorRule::Continue => self.workflow_retries(),
            },
        }
    }

    fn system_prompt(
        &mut self,
        agent: &str,
        error: ErrorName,
        faults: &mut Faults,
    ) -> Option<Compiled> {
        let agent = self.agents.get(agent)?;
        let AgentKind::Llm(llm) = &agent.kind else {
            return None;
        };
        let text = Value::String(llm.system_prompt.clone()?);
        let pointer = format!("{}/system_prompt", agent.pointer);
        Some(self.compiled(&text, &pointer, error, faults))
    }
}
