//! The worst case of a call, and what the budgets leave its answer.

use troupe_providers::ModelPrice;
use troupe_workflow::{Execution, MicroUsd, StepPath};

use super::message::WorstCase;

/// Tokens that are reserved for an answer whose length nothing bounds.
const MAX_TOKENS_DEFAULT: u32 = 4096;
/// An answer shorter than this is not worth its question.
const MAX_TOKENS_LEAST: u32 = 256;

/// What a call takes from the budgets until it ends.
pub(super) struct Reserve {
    pub(super) usd: MicroUsd,
    pub(super) tokens: u64,
    /// What its answer is limited to; none: the model's own limit.
    pub(super) max_tokens: Option<u32>,
    /// Most that all calls of the step's agent may cost in it, as the operator says.
    pub(super) share: Option<MicroUsd>,
}

/// The worst case of a call of the step at `path`. Where a budget is kept and the caller set no limit, the answer
/// gets what the budgets afford.
pub(super) fn reserve(
    execution: &Execution,
    path: &StepPath,
    worst: Option<&WorstCase>,
) -> Reserve {
    match worst {
        None => Reserve {
            usd: MicroUsd::ZERO,
            tokens: 0,
            max_tokens: None,
            share: None,
        },
        Some(WorstCase::Fixed { usd, tokens }) => Reserve {
            usd: *usd,
            tokens: *tokens,
            max_tokens: None,
            share: None,
        },
        Some(WorstCase::Model {
            price,
            input_tokens,
            max_tokens,
            share,
        }) => {
            let price = price.as_ref();
            let most = price
                .and_then(|price| price.max_output_tokens)
                .unwrap_or(MAX_TOKENS_DEFAULT);
            let max_tokens = max_tokens.or_else(|| {
                let left = execution.money_left_within(path, *share);
                let by_tokens = execution.tokens_left(path);
                let affordable = affordable((left, by_tokens), price, *input_tokens)?;
                Some(affordable.min(most).max(MAX_TOKENS_LEAST))
            });
            let output = max_tokens.unwrap_or(most);
            let usd = price.map_or(0, |price| price.worst_case(*input_tokens, output).0);
            Reserve {
                usd: MicroUsd::new(usd),
                tokens: input_tokens.saturating_add(u64::from(output)),
                max_tokens,
                share: *share,
            }
        }
    }
}

/// The longest answer that what is left of money and tokens affords; none: nothing bounds it.
fn affordable(
    (money, tokens): (Option<MicroUsd>, Option<u64>),
    price: Option<&ModelPrice>,
    input_tokens: u64,
) -> Option<u32> {
    let by_money = money.and_then(|left| {
        let left = troupe_providers::MicroUsd(left.as_micro_usd());
        Some(price?.max_tokens_within(left, input_tokens).unwrap_or(0))
    });
    let by_tokens =
        tokens.map(|left| u32::try_from(left.saturating_sub(input_tokens)).unwrap_or(u32::MAX));
    by_money.into_iter().chain(by_tokens).min()
}
