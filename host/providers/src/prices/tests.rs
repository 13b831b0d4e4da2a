//! Prices and costs, to the pico-dollar.

use super::*;

fn price(toml: &str) -> ModelPrice {
    toml::from_str(toml).unwrap()
}

const MINI: &str = "input_usd_per_million = 0.25\ncached_input_usd_per_million = 0.025\noutput_usd_per_million = 2\nmax_output_tokens = 1000";

#[test]
fn prices_are_exact() {
    for (text, pico) in [
        ("0.25", 250_000),
        ("2", 2_000_000),
        ("0.005", 5_000),
        ("0.0750000", 75_000),
        ("0.000001", 1),
        ("0", 0),
    ] {
        assert_eq!(
            TokenPrice::parse_usd_per_million(text),
            Ok(TokenPrice(pico)),
            "{text}"
        );
    }
    for text in [
        "",
        "-1",
        "1e3",
        "0.0000001",
        "1000000",
        "99999999999999999999",
        ".5",
        "1.2.3",
        "NaN",
        "inf",
        "$1",
    ] {
        assert!(TokenPrice::parse_usd_per_million(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_and_strings_of_a_file_mean_what_they_say() {
    for line in ["0.1", "\"0.1\"", "1e-1"] {
        let text = format!("input_usd_per_million = {line}\noutput_usd_per_million = 3");
        let price = price(&text);
        assert_eq!(
            (price.input, price.output),
            (TokenPrice(100_000), TokenPrice(3_000_000)),
            "{line}"
        );
    }
    for text in [
        "input_usd_per_million = -1\noutput_usd_per_million = 1",
        "input_usd_per_million = 1",
        "price = 1",
    ] {
        assert!(toml::from_str::<ModelPrice>(text).is_err(), "{text}");
    }
}

#[test]
fn a_cost_is_rounded_up_once() {
    let usage = |input_tokens, cached_input_tokens, output_tokens| Usage {
        input_tokens,
        cached_input_tokens,
        cache_write_tokens: 0,
        output_tokens,
    };
    let mini = price(MINI);
    for (usage, micro) in [
        (usage(0, 0, 0), 0),
        (usage(1, 0, 0), 1), // 0.25 of a micro-dollar
        (usage(4, 0, 0), 1),
        (usage(1_000, 400, 100), 360), // 600 × 0.25 + 400 × 0.025 + 100 × 2
        (usage(10, 50, 0), 1),         // more cached than there is
        (usage(u64::MAX, 0, u64::MAX), u64::MAX),
    ] {
        assert_eq!(mini.cost(&usage), MicroUsd(micro), "{usage:?}");
    }
}

#[test]
fn the_worst_case_covers_every_case() {
    let price = price(
        "input_usd_per_million = 2\ncached_input_usd_per_million = 0.1\ncache_write_usd_per_million = 2.5\noutput_usd_per_million = 10\n\
         long_input = { above_tokens = 1000, input_usd_per_million = 4, output_usd_per_million = 15 }",
    );
    assert_eq!(price.worst_case(1_000, 100), MicroUsd(2_500 + 1_000));
    assert_eq!(price.worst_case(1_001, 100), MicroUsd(4_004 + 1_500));
    for input in [0, 1, 999, 1_000, 1_001, 5_000] {
        for (cached, written) in [(0, 0), (input, 0), (0, input), (input / 2, input / 3)] {
            let usage = Usage {
                input_tokens: input,
                cached_input_tokens: cached,
                cache_write_tokens: written,
                output_tokens: 77,
            };
            for bound in [input, 2 * input] {
                assert!(
                    price.cost(&usage) <= price.worst_case(bound, 77),
                    "{usage:?} {bound}"
                );
            }
        }
    }
}

#[test]
fn the_tokens_a_budget_affords_fit_into_it() {
    let mini = price(MINI);
    assert_eq!(mini.max_tokens_within(MicroUsd(0), 1), None);
    assert_eq!(mini.max_tokens_within(MicroUsd(1), 4), Some(0));
    assert_eq!(mini.max_tokens_within(MicroUsd(101), 4), Some(50));
    assert_eq!(
        mini.max_tokens_within(MicroUsd(1_000_000), 4),
        Some(1_000),
        "the model's maximum"
    );
    for budget in 0..300 {
        if let Some(tokens) = mini.max_tokens_within(MicroUsd(budget), 100) {
            assert!(mini.worst_case(100, tokens) <= MicroUsd(budget), "{budget}");
            assert!(
                mini.worst_case(100, tokens + 1) > MicroUsd(budget),
                "{budget}"
            );
        }
    }
    let free = PriceTable::shipped();
    let free = free.get(crate::OFFLINE_MODEL).unwrap();
    assert_eq!(
        (
            free.worst_case(1_000_000, 1_000),
            free.max_tokens_within(MicroUsd(0), 9)
        ),
        (MicroUsd(0), Some(u32::MAX))
    );
}

#[test]
fn the_shipped_table_is_whole() {
    let table = PriceTable::shipped();
    for model in [
        "gpt-5-mini",
        "gpt-5-mini-2025-08-07",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
    ] {
        assert!(table.get(model).is_some(), "{model}");
    }
    assert_eq!(table.get("gpt-5-mini").unwrap().input, TokenPrice(250_000));
    for model in ["gpt-5-minimal", "", "-20250929", "größe-20250929"] {
        assert_eq!(table.get(model), None, "{model}");
    }
    for (model, price) in table
        .models()
        .filter(|(model, _)| *model != crate::OFFLINE_MODEL)
    {
        assert!(
            price.input > TokenPrice(0) && price.output >= price.input,
            "{model}"
        );
        assert!(
            price.max_input_tokens.is_some() && price.max_output_tokens.is_some(),
            "{model}"
        );
    }
    for block in SHIPPED.split("\n\n").filter(|block| block.starts_with('[')) {
        let first = block.lines().next().unwrap();
        assert!(first.contains("# "), "a line without its source: {first}");
    }
}

#[test]
fn the_operator_wins() {
    let mine = BTreeMap::from([(
        "gpt-5-mini".to_owned(),
        price("input_usd_per_million = 9\noutput_usd_per_million = 9"),
    )]);
    let table = PriceTable::shipped().with_overrides(mine);
    assert_eq!(
        table.get("gpt-5-mini").unwrap().input,
        TokenPrice(9_000_000)
    );
    assert_eq!(MicroUsd(1_234_567).to_string(), "$1.234567");
}
