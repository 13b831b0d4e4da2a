//! The clock and the entropy of a call: they follow from what the call is given, so that it can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use troupe_sandbox::{
    Call, Error, Grants, HostCalls, HostFuture, HumanGrant, LlmGrant, budget, human, llm,
};

use crate::support::{call, invocation, returned, run_guest};

/// When the calls of these tests begin.
const BEGAN: u64 = 1_800_000_000_000;

/// A world whose answers take a time on the machine's clock that has nothing to do with what the record says.
struct Recorded {
    /// How long each call takes in truth.
    slowness: Duration,
    /// When the last call ended by the record, in milliseconds.
    ended_at: AtomicU64,
}

impl Recorded {
    fn with(slowness: Duration) -> Arc<Self> {
        Arc::new(Self {
            slowness,
            ended_at: AtomicU64::new(BEGAN),
        })
    }

    async fn end_call(&self) {
        tokio::time::sleep(self.slowness).await;
        self.ended_at.fetch_add(40, Ordering::Relaxed);
    }
}

impl HostCalls for Recorded {
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        Box::pin(async move {
            self.end_call().await;
            Ok(llm::Completion {
                text: request.messages[0].content.clone(),
                value: None,
                tool_calls: Vec::new(),
                finish: llm::FinishReason::Stop,
                usage: llm::Usage {
                    input_tokens: 1,
                    cached_input_tokens: 0,
                    output_tokens: 1,
                },
                cost_microdollars: 0,
                model: "m".to_owned(),
            })
        })
    }

    fn ask(&self, _question: human::Question) -> HostFuture<'_, Result<human::Answer, Error>> {
        Box::pin(async move {
            self.end_call().await;
            Ok(human::Answer {
                approved: true,
                approved_by: None,
                notes: None,
                data: None,
                timed_out: false,
            })
        })
    }

    fn budget_left(&self, _own: budget::Remaining) -> HostFuture<'_, budget::Remaining> {
        Box::pin(async move {
            self.end_call().await;
            budget::Remaining {
                microdollars: Some(1),
                fuel: 2,
                time_ms: 3,
                host_calls: 4,
            }
        })
    }

    fn time(&self) -> Option<SystemTime> {
        let millis = self.ended_at.load(Ordering::Relaxed);
        Some(UNIX_EPOCH + Duration::from_millis(millis))
    }
}

/// A call whose answers are those on record, however slowly they come.
pub(crate) fn interview_call(slowness: Duration, seed: u8) -> Call {
    let grants = Grants {
        llm: Some(LlmGrant {
            models: vec!["m".to_owned()],
        }),
        human: Some(HumanGrant { assignees: None }),
        ..Grants::none()
    };
    Call {
        grants,
        host: Recorded::with(slowness),
        seed: [seed; 32],
        ..call()
    }
}

async fn interview(slowness: Duration, seed: u8) -> Value {
    let call = interview_call(slowness, seed);
    let question = json!({ "assignees": ["ann"], "message": "May I?" });
    let input = json!({ "questions": [question, question] }).to_string();
    returned(run_guest("interview", invocation("ask", &input), call).await)
}

#[tokio::test]
async fn the_clock_moves_only_at_host_calls_and_by_sleeping() {
    let said = interview(Duration::ZERO, 1).await;
    // The budget; two models; twice a pause of 7 ms and a person; a model.
    let times = [0, 40, 120, 160, 200, 240].map(|since| BEGAN + since);
    assert_eq!(said["times"], json!(times), "{said}");
    assert_eq!(said["elapsed_ns"], "240000000");
}

#[tokio::test]
async fn the_same_answers_make_the_same_run() {
    let fast = interview(Duration::ZERO, 1).await;
    let slow = interview(Duration::from_millis(30), 1).await;
    assert_eq!(fast.to_string(), slow.to_string());
    let other = interview(Duration::ZERO, 2).await;
    assert_ne!(fast["chance"], other["chance"]);
}

#[tokio::test]
async fn a_sleep_takes_just_as_long_as_it_was_meant_to() {
    let asleep = async |millis: &str| {
        returned(run_guest("surroundings", invocation("sleep", millis), call()).await)
    };
    assert_eq!(asleep("50").await, json!(50));
    assert_eq!(asleep("0").await, json!(0));
}
