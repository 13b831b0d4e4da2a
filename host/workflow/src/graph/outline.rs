//! What a picture shows of a document, in words: flows, their steps, and the lines of text on each.
//!
//! It reads JSON and knows nothing of how it is drawn. Texts are whole here; who draws shortens them.

mod phrase;
mod read;

/// All that one picture shows.
#[derive(Debug)]
pub(super) struct Outline {
    /// The workflow itself.
    pub(super) root: Flow,
    /// The workflows of its `workflows`, in the author's order.
    pub(super) workflows: Vec<Flow>,
}

/// One workflow from its start to its end.
#[derive(Debug)]
pub(super) struct Flow {
    /// The name by which steps call it; none for the document itself.
    pub(super) key: Option<String>,
    /// What it calls itself.
    pub(super) name: String,
    /// The names of the inputs that its schema declares.
    pub(super) inputs: Vec<String>,
    /// Its steps in order.
    pub(super) steps: Vec<Step>,
    /// The names of its outputs.
    pub(super) outputs: Vec<String>,
}

/// One step, with whatever stands inside it.
#[derive(Debug)]
pub(super) struct Step {
    /// Its id, where the author gave one.
    pub(super) name: Option<String>,
    /// The condition without which it is skipped.
    pub(super) guard: Option<String>,
    /// What happens when it fails.
    pub(super) on_error: OnError,
    /// What it does.
    pub(super) form: Form,
}

/// What happens when a step fails, as far as it changes the flow.
#[derive(Debug)]
pub(super) enum OnError {
    /// The workflow ends, perhaps after some retries.
    Stop,
    /// The flow goes on without the step's value.
    Continue,
    /// Another agent takes the step's place.
    Fallback(Task),
}

/// The forms of steps.
#[derive(Debug)]
pub(super) enum Form {
    /// An agent acts.
    Agent(Task),
    /// Branches side by side.
    Parallel {
        /// Each branch is a list of at least one step.
        branches: Vec<Vec<Step>>,
        /// How many run at the same time, where that is limited.
        at_once: Option<String>,
    },
    /// One of two branches; either may be empty.
    Choice {
        /// What decides.
        condition: String,
        /// The steps for "yes".
        then: Vec<Step>,
        /// The steps for "no".
        otherwise: Vec<Step>,
    },
    /// A body that is repeated.
    Loop {
        /// What it repeats for, in short phrases.
        heading: Vec<String>,
        /// The body.
        steps: Vec<Step>,
    },
    /// Another workflow, by its name.
    Workflow(String),
    /// A timer, as a phrase.
    Wait(String),
    /// A value made without an agent, as a phrase.
    Set(String),
    /// What stands for steps beyond a limit.
    Cut,
}

/// One call of an agent.
#[derive(Debug)]
pub(super) struct Task {
    /// The agent's id.
    pub(super) agent: String,
    /// What it is asked to do.
    pub(super) action: String,
    /// What sort of agent it is.
    pub(super) kind: Kind,
}

/// The sorts of agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A language model.
    Llm,
    /// A program.
    Code,
    /// A search service.
    Search,
    /// A tool.
    Tool,
    /// A person.
    Human,
    /// The document does not say, or says something unknown.
    Unknown,
}

impl Kind {
    /// Every kind that a document can name, with its word there.
    pub(super) const WORDS: [(&'static str, Self); 5] = [
        ("llm", Self::Llm),
        ("code", Self::Code),
        ("search", Self::Search),
        ("tool", Self::Tool),
        ("human", Self::Human),
    ];

    /// The word that a reader sees.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Llm => "LLM",
            Self::Code => "code",
            Self::Search => "search",
            Self::Tool => "tool",
            Self::Human => "human",
            Self::Unknown => "agent",
        }
    }

    /// The name of its style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Code => "code",
            Self::Search => "search",
            Self::Tool => "tool",
            Self::Human => "human",
            Self::Unknown => "plain",
        }
    }
}

impl Flow {
    /// The lines on its start: its name and its inputs.
    pub(super) fn start_lines(&self) -> Vec<String> {
        let mut lines = vec![self.name.clone()];
        if !self.inputs.is_empty() {
            lines.push(format!("inputs: {}", self.inputs.join(", ")));
        }
        lines
    }

    /// The lines on its end: the names of its outputs.
    pub(super) fn end_lines(&self) -> Vec<String> {
        if self.outputs.is_empty() {
            return vec!["end".to_owned()];
        }
        vec![
            "end".to_owned(),
            format!("outputs: {}", self.outputs.join(", ")),
        ]
    }

    /// The heading of its frame, if it stands in one.
    pub(super) fn heading(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(format!("workflow {key}"))
    }
}

impl Step {
    /// The lines on its box, the most important first. Of a step that holds others it is the heading's phrases.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = match &self.form {
            Form::Agent(task) => self.task_lines(task),
            Form::Workflow(name) => match &self.name {
                Some(id) => vec![id.clone(), format!("workflow {name}")],
                None => vec![name.clone(), "workflow".to_owned()],
            },
            Form::Wait(phrase) | Form::Set(phrase) => self.named(vec![phrase.clone()]),
            Form::Parallel { at_once, .. } => {
                let limit = at_once
                    .as_ref()
                    .map(|count| format!("at most {count} at once"));
                self.named(
                    std::iter::once("parallel".to_owned())
                        .chain(limit)
                        .collect(),
                )
            }
            Form::Loop { heading, .. } => self.named(heading.clone()),
            Form::Choice { condition, .. } => self.named(vec![condition.clone()]),
            Form::Cut => vec!["…".to_owned(), "more steps, not drawn".to_owned()],
        };
        lines.extend(self.guard.as_ref().map(|guard| format!("if {guard}")));
        if matches!(self.on_error, OnError::Continue) {
            lines.push("on error: continue".to_owned());
        }
        lines
    }

    fn task_lines(&self, task: &Task) -> Vec<String> {
        match self.name.as_ref().filter(|name| **name != task.agent) {
            Some(name) => {
                let words = [task.kind.label(), &task.agent, &task.action];
                vec![name.clone(), phrase::joined(&words)]
            }
            None => task.lines(),
        }
    }

    fn named(&self, phrases: Vec<String>) -> Vec<String> {
        self.name.iter().cloned().chain(phrases).collect()
    }
}

impl Task {
    /// The lines on a box that has no other name than the agent's.
    pub(super) fn lines(&self) -> Vec<String> {
        vec![
            self.agent.clone(),
            phrase::joined(&[self.kind.label(), &self.action]),
        ]
    }
}
