//! The workflow document and its scheduler, as pure functions.
//!
//! A document is read and checked whole ([`Definition::compile`]); an [`Execution`] is the state that its
//! events lead to ([`Execution::apply`]) and says what is to be done next ([`Execution::decide`]). Nothing in
//! this crate waits, reads a clock, draws a random number or touches the world.

mod depth;
mod document;
mod duration;
mod event;
// A new event, command or status must be thought of in every match of the scheduler.
#[deny(clippy::wildcard_enum_match_arm)]
mod execution;
mod expression;
mod failure;
mod fault;
pub mod graph;
mod ids;
mod interpret;
mod money;
mod retry;
mod schedule;
mod template;
mod yaml;

mod definition;

pub use definition::{Definition, FieldKind, RequiredFields};
pub use depth::check_depth;
pub use document::{
    Agent, AgentKind, BudgetPolicy, CodeAgent, CodeSource, ComponentTool, Config, Document,
    FileGrant, Grants, HumanAgent, HumanGrant, Language, Limits, LlmAgent, OnTimeout,
    ResponseFormat, SearchAgent, SecretGrant, SourceSettings, Tool, ToolAgent, document_schema,
};
pub use duration::Timestamp;
pub use event::{
    Answer, CallKind, CallOutcome, Event, EventKind, ForkedFrom, Kept, Question, Side, StepUsage,
    Usage,
};
pub use execution::{
    AnswerError, Approval, BudgetKind, BudgetVerdict, CallRecord, Command, Execution,
    ExecutionStatus, ForkError, GivenFuel, IllegalEvent, OpenQuestion, OperationError, Pause,
    Progress, RaisedBudgets, ReserveError, Series, Snapshot, SnapshotError, StartStep, StepState,
    StepStatus, StepView, WaitingApproval, WaitsFor,
};
pub use failure::{Code, Failure};
pub use fault::{Fault, Faults, nearest};
pub use ids::{ExecutionId, IdError, Name, StepPath, WorkflowDigest};
pub use interpret::{
    AnswerProblem, LlmAnswer, check_is_schema, check_schema, interpret_text, json_of,
};
pub use money::{MicroUsd, MoneyError};
pub use schedule::{
    Cron, Firing, LastRun, MISSED_COUNTED_MAX, Missed, Overlap, Schedule, Standing, Timing, Zone,
    schedule_schema,
};
pub use yaml::{YamlFault, parse_yaml, to_yaml};
