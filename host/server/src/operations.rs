//! What people and programs do with executions, whatever they use to say so: recorded as events from outside, and the
//! execution's owner, or whoever takes it next, acts on them.

use std::sync::Arc;

use troupe_journal::{AppendError, ExecutionRow, Journal, ReadError, RecordWrite};
use troupe_workflow::{
    Answer, AnswerError, Event, EventKind, Execution, ExecutionId, Faults, Kept, RaisedBudgets,
    StepPath,
};

use crate::clock;
use crate::run;
use crate::stored::{Definitions, Loaded};

/// Why something was not done. Nothing changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    #[error("there is no {what} {id}")]
    NotFound { what: &'static str, id: String },
    /// The execution is not in a state for it.
    #[error("{0}")]
    Conflict(String),
    /// What was given is not right.
    #[error("{0}")]
    Invalid(String),
    /// The document or the inputs have faults.
    #[error("{0}")]
    Faults(Faults),
    /// There is more work than this server takes.
    #[error("{0}")]
    Full(String),
    /// The journal cannot be read or written now.
    #[error("{0}")]
    Busy(String),
    #[error(transparent)]
    Host(anyhow::Error),
}

impl From<anyhow::Error> for OperationError {
    fn from(error: anyhow::Error) -> Self {
        if let Some(ReadError::NotFound(id)) = error.downcast_ref() {
            return Self::NotFound {
                what: "execution",
                id: id.to_string(),
            };
        }
        let is_passing = match (
            error.downcast_ref::<AppendError>(),
            error.downcast_ref::<ReadError>(),
        ) {
            (Some(error), _) => {
                error.is_retryable() || matches!(error, AppendError::Unknown { .. })
            }
            (None, Some(error)) => error.is_retryable(),
            (None, None) => false,
        };
        if is_passing {
            return Self::Busy(format!("{error:#}"));
        }
        Self::Host(error)
    }
}

impl From<AppendError> for OperationError {
    fn from(error: AppendError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<ReadError> for OperationError {
    fn from(error: ReadError) -> Self {
        anyhow::Error::from(error).into()
    }
}

/// Where operations are recorded.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) journal: &'a dyn Journal,
    pub(crate) definitions: &'a Definitions,
}

/// What a person says to a question.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// The step that is asked about; none: the only one.
    pub(crate) step: Option<String>,
    pub(crate) answer: Answer,
}

impl Desk<'_> {
    /// Answers an approval.
    pub(crate) async fn answer(
        &self,
        id: ExecutionId,
        said: &Said,
        records: Vec<RecordWrite>,
    ) -> Result<Execution, OperationError> {
        let said = said.clone();
        self.bring(id, records, move |execution| {
            let event = execution
                .answer(said.step.as_deref(), said.answer.clone(), clock::now())
                .map_err(|error| match error {
                    AnswerError::Invalid { message } => OperationError::Invalid(message),
                    other => OperationError::Conflict(other.to_string()),
                })?;
            Ok(vec![event])
        })
        .await
    }

    /// Asks an execution to end.
    pub(crate) async fn cancel(
        &self,
        id: ExecutionId,
        records: Vec<RecordWrite>,
    ) -> Result<Execution, OperationError> {
        self.bring(id, records, move |execution| {
            let status = execution.status();
            if status.is_terminal() {
                let word = status.as_str();
                return Err(OperationError::Conflict(format!("{id} is {word} already")));
            }
            Ok(vec![EventKind::CancelRequested])
        })
        .await
    }

    /// Ends a pause, with budgets raised or not.
    pub(crate) async fn resume(
        &self,
        id: ExecutionId,
        raised: &RaisedBudgets,
        records: Vec<RecordWrite>,
    ) -> Result<Execution, OperationError> {
        let raised = *raised;
        self.bring(id, records, move |execution| {
            execution
                .resume(&raised)
                .map_err(|message| OperationError::Conflict(format!("{id}: {message}")))
        })
        .await
    }

    /// Starts nothing new of an execution until somebody lets it go on.
    pub(crate) async fn pause(
        &self,
        id: ExecutionId,
        (by, reason): (Option<&str>, Option<&str>),
        records: Vec<RecordWrite>,
    ) -> Result<Execution, OperationError> {
        let (by, reason) = (by.map(str::to_owned), reason.map(str::to_owned));
        self.bring(id, records, move |execution| {
            let event = execution
                .pause(by.as_deref(), reason.as_deref())
                .map_err(|error| refused(id, &error))?;
            Ok(vec![event])
        })
        .await
    }

    /// Tries a failed execution again from what failed, with budgets raised or not.
    pub(crate) async fn retry(
        &self,
        id: ExecutionId,
        (by, raised): (Option<&str>, &RaisedBudgets),
        records: Vec<RecordWrite>,
    ) -> Result<Execution, OperationError> {
        let (by, raised) = (by.map(str::to_owned), *raised);
        self.bring(id, records, move |execution| {
            let retried = execution.retry(by.as_deref());
            let mut events = vec![retried.map_err(|error| refused(id, &error))?];
            if raised != RaisedBudgets::default() {
                let at = clock::now();
                let mut again = execution.clone();
                for kind in events.clone() {
                    again
                        .apply(&Event { at, kind })
                        .map_err(anyhow::Error::from)?;
                }
                let more = again.resume(&raised);
                events.extend(
                    more.map_err(|message| OperationError::Conflict(format!("{id}: {message}")))?,
                );
            }
            Ok(events)
        })
        .await
    }

    /// What a new execution keeps of another one when it begins at one of its steps.
    pub(crate) async fn fork(
        &self,
        id: ExecutionId,
        from: &StepPath,
    ) -> Result<Forked, OperationError> {
        let Loaded { row, execution } = self.definitions.load(self.journal, id).await?;
        let kept = execution
            .fork(from)
            .map_err(|error| OperationError::Invalid(error.to_string()))?;
        Ok(Forked {
            row,
            kept,
            execution,
        })
    }

    async fn bring(
        &self,
        id: ExecutionId,
        records: Vec<RecordWrite>,
        make: impl Fn(&Execution) -> Result<Vec<EventKind>, OperationError> + Send + Sync + 'static,
    ) -> Result<Execution, OperationError> {
        run::bring((self.journal, self.definitions), (id, records), make).await
    }
}

/// An execution that another one is to begin from.
pub(crate) struct Forked {
    pub(crate) row: ExecutionRow,
    pub(crate) execution: Execution,
    pub(crate) kept: Vec<Kept>,
}

fn refused(id: ExecutionId, error: &troupe_workflow::OperationError) -> OperationError {
    let message = format!("{id}: {error}");
    match error {
        troupe_workflow::OperationError::Invalid { .. } => OperationError::Invalid(message),
        _ => OperationError::Conflict(message),
    }
}

/// A desk of its own, for a command that does one thing.
pub(crate) struct OwnDesk {
    pub(crate) journal: Arc<dyn Journal>,
    definitions: Definitions,
}

impl OwnDesk {
    pub(crate) fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            definitions: Definitions::default(),
        }
    }

    pub(crate) fn desk(&self) -> Desk<'_> {
        Desk {
            journal: &*self.journal,
            definitions: &self.definitions,
        }
    }
}
