//! Answers what a guest asks in a worker. A worker of ours has held every question to the guest's grants and limits
//! before it asks; one that a guest has broken asks for whatever it likes, so they are held to them here as well. What no
//! guest can ask for shows that a worker is broken.

use std::sync::Arc;

use crate::call::Call;
use crate::capability::http::SecondLook;
use crate::capability::memory;
use crate::capability::{Grants, REFUSED_CALLS_MAX, TextBytes};
use crate::guest_memory::HeldShare;
use crate::host_calls::{HostCalls, LogLine};
use crate::limits::Limits;
use crate::protocol::{Answer, Ask, Beside};
use crate::{human, llm, search, tools};

/// What one call may ask.
pub(super) struct Guard {
    agent: String,
    grants: Grants,
    limits: Limits,
    host: Arc<dyn HostCalls>,
    http: SecondLook,
    share: Arc<HeldShare>,
    /// Memory that it has, in bytes.
    memory_bytes: u64,
    /// Questions so far.
    asked: u32,
    /// Bytes of log lines so far.
    logged: u64,
    /// What its tools may still use.
    tool_fuel_left: u64,
}

/// What a worker asked that no guest can ask.
type Lie = String;

impl Guard {
    /// For a call that has `memory_bytes` already.
    pub(super) fn new(call: &Call, share: Arc<HeldShare>, memory_bytes: u64) -> Self {
        Guard {
            agent: call.agent.clone(),
            grants: call.grants.clone(),
            limits: call.limits,
            host: Arc::clone(&call.host),
            http: SecondLook::new(call.grants.http.as_ref(), &call.agent, &call.seed),
            share,
            memory_bytes,
            asked: 0,
            logged: 0,
            tool_fuel_left: call.limits.fuel,
        }
    }

    /// A session's next program may ask as much as the one before it; its memory is the session's.
    pub(super) fn next_program(&mut self) {
        self.asked = 0;
        self.logged = 0;
        self.tool_fuel_left = self.limits.fuel;
    }

    pub(super) fn agent(&self) -> &str {
        &self.agent
    }

    /// The answer, and what the host says beside it.
    ///
    /// # Errors
    /// No guest can ask for that.
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<(Answer, Beside), Lie> {
        let host = Arc::clone(&self.host);
        let answer = match self.admit(ask)? {
            Ask::Complete(requests) => Answer::Completions(host.complete_many(requests).await),
            Ask::Search(queries) => Answer::Found(host.search_many(queries).await),
            Ask::Tools(granted) => Answer::Tools(host.tools(granted).await),
            Ask::CallTools(requests, fuel_max) => {
                let answers = host.call_tools(requests, fuel_max).await;
                let used = answers.iter().map(|answer| answer.fuel.min(fuel_max));
                let used = used.fold(0, u64::saturating_add);
                self.tool_fuel_left = self.tool_fuel_left.saturating_sub(used);
                Answer::Called(answers)
            }
            Ask::Fetch(requests) => Answer::Fetched(host.fetch_many(requests).await),
            Ask::Inputs => Answer::Inputs(host.context_inputs().await),
            Ask::Output(step) => Answer::Output(host.context_output(step).await),
            Ask::Steps => Answer::Steps(host.context_steps().await),
            Ask::Human(question) => Answer::Human(host.ask(question).await),
            Ask::Budget(own) => Answer::Budget(host.budget_left(own).await),
            Ask::Remember(request) => Answer::Remembered(host.remember(request).await),
            Ask::Log(line) => {
                host.log(line).await;
                Answer::Logged
            }
            Ask::Memory(needed, welcome) => {
                Answer::Memory(self.give_memory(needed, welcome).await?)
            }
        };
        Ok((answer, Beside::of(&*host)))
    }

    /// Holds a question to grants and limits; what those decide is in what may be asked.
    fn admit(&mut self, ask: Ask) -> Result<Ask, Lie> {
        match &ask {
            Ask::Complete(requests) => {
                self.count(requests.len())?;
                self.check_models(requests)?;
            }
            Ask::Search(queries) => {
                self.count(queries.len())?;
                self.check_sources(queries)?;
            }
            Ask::CallTools(requests, _) => {
                self.count(requests.len())?;
                self.check_tools(requests)?;
            }
            Ask::Human(question) => {
                self.count(1)?;
                self.check_people(question)?;
            }
            Ask::Remember(request) => {
                self.count(1)?;
                self.grants
                    .memory
                    .ok_or("a memory that it is not granted")?;
                memory::check(request)?;
            }
            Ask::Inputs | Ask::Output(_) | Ask::Steps => self.check_context()?,
            Ask::Fetch(requests) => self.count(requests.len())?,
            Ask::Tools(_) | Ask::Budget(_) => self.count(1)?,
            Ask::Log(line) => self.count_line(line)?,
            Ask::Memory(..) => {}
        }
        Ok(match ask {
            Ask::Tools(_) => {
                let granted = self.grants.tools.as_ref();
                Ask::Tools(granted.ok_or("tools that it is not granted")?.names.clone())
            }
            Ask::CallTools(requests, fuel_max) => {
                // What a guest hands out to its tools is never more than what it has left itself.
                let count = u64::try_from(requests.len()).unwrap_or(u64::MAX);
                let most = self.tool_fuel_left / count.max(1);
                Ask::CallTools(requests, fuel_max.min(most))
            }
            Ask::Fetch(requests) => {
                let checked = requests.into_iter().map(|request| self.http.check(request));
                Ask::Fetch(checked.collect::<Result<_, Lie>>()?)
            }
            ask => ask,
        })
    }

    /// Counts questions: those that [`Limits::host_calls_max`] counts, and as many reads of the budget.
    fn count(&mut self, questions: usize) -> Result<(), Lie> {
        let questions = u32::try_from(questions).unwrap_or(u32::MAX);
        self.asked = self.asked.saturating_add(questions);
        let most = self.limits.host_calls_max.saturating_add(REFUSED_CALLS_MAX);
        match self.asked <= most.saturating_mul(2) {
            true => Ok(()),
            false => Err("more than it may ask for".to_owned()),
        }
    }

    fn check_models(&self, requests: &[llm::Request]) -> Result<(), Lie> {
        let granted = self.grants.llm.as_ref();
        let granted = granted.map_or(&[][..], |grant| &grant.models);
        let is_granted = |request: &llm::Request| {
            request
                .model
                .as_ref()
                .is_some_and(|it| granted.contains(it))
        };
        match requests.iter().all(is_granted) {
            true => Ok(()),
            false => Err("a model that it is not granted".to_owned()),
        }
    }

    fn check_sources(&self, queries: &[search::Query]) -> Result<(), Lie> {
        let granted = self.grants.search.as_ref();
        let granted = granted.map_or(&[][..], |grant| &grant.sources);
        let is_granted = |query: &search::Query| {
            !query.sources.is_empty() && query.sources.iter().all(|it| granted.contains(it))
        };
        match queries.iter().all(is_granted) {
            true => Ok(()),
            false => Err("a source that it is not granted".to_owned()),
        }
    }

    fn check_tools(&self, requests: &[tools::CallRequest]) -> Result<(), Lie> {
        let granted = self.grants.tools.as_ref();
        let is_granted =
            |request: &tools::CallRequest| granted.is_some_and(|grant| grant.allows(&request.name));
        match requests.iter().all(is_granted) {
            true => Ok(()),
            false => Err("a tool that it is not granted".to_owned()),
        }
    }

    fn check_people(&self, question: &human::Question) -> Result<(), Lie> {
        let mut all = question.assignees.iter();
        let is_granted =
            self.grants.human.is_some() && all.all(|who| self.grants.allow_question_to(who));
        match is_granted {
            true => Ok(()),
            false => Err("people that it is not granted".to_owned()),
        }
    }

    fn count_line(&mut self, line: &LogLine) -> Result<(), Lie> {
        let bytes = line.message.len() + line.fields.text_bytes();
        self.logged = self.logged.saturating_add(length(bytes));
        match self.logged <= self.limits.log_bytes_max {
            true => Ok(()),
            false => Err("more lines in the log than it may write".to_owned()),
        }
    }

    fn check_context(&mut self) -> Result<(), Lie> {
        self.count(1)?;
        match self.grants.context {
            Some(_) => Ok(()),
            None => Err("what it is not to know of its workflow".to_owned()),
        }
    }

    /// Gives what is welcome where there is plenty, else waits for what is needed; none: all wait, and it is the youngest.
    async fn give_memory(&mut self, needed: u64, welcome: u64) -> Result<Option<u64>, Lie> {
        // Memories and tables, and the scratch folder.
        let most = self
            .limits
            .memory_bytes_max
            .saturating_add(self.limits.disk_bytes_max);
        let left = most.saturating_sub(self.memory_bytes);
        if needed > left {
            return Err("more memory than it may have".to_owned());
        }
        let welcome = welcome.min(left);
        let given = if welcome > needed && self.share.take_to_spare(welcome) {
            welcome
        } else {
            if self.share.take(needed).await.is_err() {
                return Ok(None);
            }
            needed
        };
        self.memory_bytes = self.memory_bytes.saturating_add(given);
        Ok(Some(given))
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
