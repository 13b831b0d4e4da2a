//! The operator's file.

use super::{ModelConfig, ServerConfig, SourceConfig};

#[test]
fn a_file_is_read_and_its_secrets_are_not_shown() {
    let config: ServerConfig = toml::from_str(
        r#"
        [providers.mine]
        kind = "openai"
        base_url = "http://127.0.0.1:1/v1"
        api_key = "sk-very-secret"
        [models]
        "m" = { provider = "mine", model = "m-1" }
        fast = { route = ["m"] }
        [prices]
        "m-1" = { input_usd_per_million = 0.5, output_usd_per_million = 2 }
        [sources.web]
        kind = "searxng"
        base_url = "http://127.0.0.1:2"
        [sources.document]
        kind = "documents"
        path = "docs"
        [limits]
        fuel = 1_000
        "#,
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("very-secret"));
    assert_eq!(
        config.providers["mine"]
            .api_key
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose(),
        "sk-very-secret"
    );
    assert!(matches!(&config.models["fast"], ModelConfig::Route { route } if *route == ["m"]));
    assert!(matches!(
        config.sources["document"],
        SourceConfig::Documents { .. }
    ));
}

#[test]
fn unknown_keys_are_refused_with_their_place() {
    let error = toml::from_str::<ServerConfig>("[limits]\nfule = 3\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("fule") && error.contains("line 2"),
        "{error}"
    );
}

#[test]
fn rates_are_read_and_none_is_zero() {
    let read = |rate: &str| {
        toml::from_str::<ServerConfig>(&format!(
            "[providers.mine]\nkind = \"openai\"\nrequests_per_minute = {rate}\ntokens_per_minute = 30_000\n"
        ))
    };
    let config = read("60").unwrap();
    let provider = &config.providers["mine"];
    assert_eq!(provider.requests_per_minute.unwrap().get(), 60);
    assert_eq!(provider.tokens_per_minute.unwrap().get(), 30_000);
    let error = read("0").unwrap_err().to_string();
    assert!(
        error.contains("line 3") && error.contains("nonzero"),
        "{error}"
    );
}
