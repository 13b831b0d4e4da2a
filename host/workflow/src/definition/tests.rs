//! Documents that are refused, with all their faults; and what is derived from those that are not.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{Definition, NodeKind};

fn faults(document: &Value) -> String {
    match Definition::compile(document) {
        Ok(_) => "no faults".to_owned(),
        Err(faults) => faults.to_string(),
    }
}

fn check(document: Value, expected: Expect) {
    expected.assert_eq(&faults(&document));
}

#[test]
fn every_fault_is_named_at_once() {
    check(
        json!({
            "nam": "x",
            "agents": [
                { "id": "a", "type": "llm", "modle": "m", "temperature": 9 },
                { "id": "a", "type": "search", "sources": [] },
                { "id": "1x", "type": "lm" },
                { "id": "loop", "type": "llm", "model": "m" },
                { "id": "c", "type": "code", "language": "ruby", "code": "1" },
                { "id": "d", "type": "code" },
                { "id": "e", "type": "llm", "model": 7, "output_schema": { "type": "strin" } },
            ],
            "steps": [
                { "agent": "b", "action": "do", "input": "{{ a.x" },
                { "agent": "a", "input": "x", "condition": "{{ a }} ==" },
                { "id": "p", "parallel": [], "max_concurrency": 0 },
                { "id": "q", "agent": "a", "action": "do", "input": "{{ r.x }} {{ c | nosuch }}" },
                { "id": "r", "agent": "a", "action": "do", "input": "{% x %}", "on_error": "retyr" },
                { "id": "r", "agent": "a", "action": "do", "input": "{{ error }}" },
                { "loop": { "items": "{{ x }}", "as": "y", "steps": [] } },
                { "do": "something" },
                "text",
            ],
            "config": { "max_retries": -1, "budget_usd": "1", "on_error": "continu", "timeout": 5 },
        }),
        expect![[r#"
            /: `name` is missing
            /nam: the field `nam` is not known here; did you mean `name`?
            /agents/0: `model` is missing
            /agents/0/modle: the field `modle` is not known here; did you mean `model`?
            /agents/0/temperature: the temperature lies between 0 and 2
            /agents/1/sources: a search agent needs at least one source
            /agents/2/id: `1x` is not an id: use letters, digits and `_`, and begin with a letter or `_`
            /agents/2/type: `lm` is no type of agent; known are `llm`, `code`, `search`, `tool` and `human`
            /agents/3/id: `loop` is a reserved word; choose another id
            /agents/4/language: `ruby` is not known here; known are `python` and `javascript`
            /agents/5: a code agent needs `language` and `code`, or `component`
            /agents/6/model: this is the number 7, it must be a text
            /agents/6/output_schema/type: this is no valid JSON schema: "strin" is not valid under any of the schemas listed in the 'anyOf' keyword
            /steps/0/agent: there is no agent `b`; known are `1x`, `a`, `c`, `d`, `e` and `loop`
            /steps/0/input (column 1): this `{{` has no `}}`
            /steps/1: `action` is missing
            /steps/1/condition (column 9): unexpected end of input, expected expression
            /steps/2/parallel: this list needs at least one step
            /steps/2/max_concurrency: this is the number 0, it must be a whole number from 1 to 4294967295
            /steps/3/input (column 18): there is no filter `nosuch`; known are `abs`, `attr`, `batch`, `bool`, `capitalize`, `chain`, `count`, `d`, `default`, `dictsort`, `first`, `float`, `format`, `groupby`, `indent`, `int`, `items`, `join`, `keys`, `last` and 25 more
            /steps/4/input (column 1): `{%` is not available: there are no statements and comments, only `{{ expressions }}`; write `{{ '{%' }}` for the characters themselves
            /steps/4/on_error: `retyr` is not known here; did you mean `retry`?
            /steps/5/id: the step id `r` is there already; give each step its own
            /steps/5/input (column 4): `error` has a meaning only in a fallback's input
            /steps/6/loop/steps: this list needs at least one step
            /steps/7: a step needs one of `agent` (with `action` and `input`), `parallel`, `condition` with `then`, `loop`, `workflow`, `wait` or `set`
            /steps/8: this is a text, it must be an object
            /config/max_retries: this is the number -1, it must be a whole number from 0 to 100
            /config/budget_usd: this is a text, it must be a number
            /config/on_error: `continu` is not known here; did you mean `continue`?
            /config/timeout: the field `timeout` is not known here; did you mean `timeout_ms`?"#]],
    );
}

#[test]
fn what_is_no_document_is_said_so() {
    check(
        json!([]),
        expect!["/: this is a list, it must be an object"],
    );
    check(
        json!({}),
        expect![[r#"
        /: `name` is missing
        /: `agents` is missing
        /: `steps` is missing"#]],
    );
    check(
        json!({ "name": " ", "agents": {}, "steps": [] }),
        expect![[r#"
        /name: a workflow needs a name
        /agents: this is an object, it must be a list of agents
        /steps: this list needs at least one step"#]],
    );
}

#[test]
fn a_branch_sees_no_siblings_and_names_mean_one_thing() {
    let agent = |id: &str| json!({ "id": id, "type": "llm", "model": "m" });
    check(
        json!({
            "name": "x",
            "inputs": { "type": "object", "properties": { "a": {}, "topic": {} } },
            "agents": [agent("a"), agent("b")],
            "steps": [
                { "parallel": [
                    { "id": "s1", "agent": "a", "action": "do", "input": "x" },
                    { "id": "s2", "agent": "b", "action": "do", "input": "{{ s1 }} {{ a }} {{ topc }}" },
                ] },
                { "id": "b", "agent": "a", "action": "do", "input": "{{ s1 }} {{ s2 }} {{ topic }}" },
                { "agent": "b", "action": "do", "input": "{{ loop.index }}{{ secrets.x }}" },
            ],
        }),
        expect![[r#"
            /inputs/properties/a: `a` is also a step or an agent; a name must mean one thing
            /steps/0/parallel/1/input (column 4): the step `s1` has not ended here: it comes later, or runs at the same time in another branch
            /steps/0/parallel/1/input (column 13): no step of the agent `a` has ended here
            /steps/0/parallel/1/input (column 21): `topc` is no step, no agent and no input that `inputs` declares; did you mean `topic`?
            /steps/1/id: this is also the id of another agent; a name must mean one thing
            /steps/2/input (column 4): there is no loop around this
            /steps/2/input (column 20): `secrets` has a meaning only in settings of tools and providers"#]],
    );
}

#[test]
fn fields_that_are_read_become_a_schema() {
    let definition = Definition::compile(&json!({
        "name": "x",
        "agents": [
            { "id": "plan", "type": "llm", "model": "m" },
            { "id": "find", "type": "search", "sources": ["web"] },
            { "id": "write", "type": "llm", "model": "m", "system_prompt": "Write for {{ audience }}." },
        ],
        "steps": [
            { "agent": "plan", "action": "plan", "input": "{{ topic }}" },
            { "agent": "find", "action": "search", "input": " {{ plan.queries }} " },
            { "agent": "write", "action": "write",
              "condition": "{{ plan.go }} and plan.kind == 'long' and plan.size > 3",
              "input": "{{ find.results }} {{ plan.tone | default('dry') }} {{ plan.output }} {{ note | default('') }}" },
        ],
    }))
    .unwrap();
    let NodeKind::Step(step) = &definition.nodes[0].kind else {
        panic!()
    };
    expect![[r#"{"type":"object","properties":{"go":{"type":"boolean"},"kind":{"type":"string"},"queries":{"type":"array","items":{"type":"string"}},"size":{}},"required":["go","kind","queries","size"]}"#]].assert_eq(&step.required.schema().to_string());
    assert_eq!(definition.inferred_inputs(), ["audience", "note", "topic"]);
    let missing = definition
        .check_inputs(&json!({ "audience": 1, "topik": 2 }))
        .unwrap_err();
    expect![[r#"
        /: the input `topic` is missing; add `topic` to the inputs, on the command line with -i topic=…
        /topik: the workflow reads no input `topik`; did you mean `topic`?"#]]
    .assert_eq(&missing.to_string());
    assert!(
        definition
            .check_inputs(&json!({ "audience": 1, "topic": 2 }))
            .is_ok()
    );
    assert!(definition.check_inputs(&json!([])).is_err());
}

#[test]
fn what_a_name_cannot_mean_is_refused() {
    check(
        json!({
            "name": "x",
            "inputs": { "type": "object" },
            "agents": [{ "id": "a", "type": "llm", "model": "m" }],
            "steps": [
                { "set": null },
                { "id": "block", "parallel": [
                    { "id": "s1", "agent": "a", "action": "do", "input": "x" },
                    { "set": "{{ steps.s1.output }}" },
                ] },
                { "set": "{{ block }} {{ steps.zzz }} {{ steps }} {{ inputs.topic }} {{ topic }}" },
                { "set": "{{ steps.s1.output }}" },
            ],
        }),
        expect![[r#"
            /steps/0: `set` is missing
            /steps/1/parallel/1/set (column 4): the step `s1` has not ended here
            /steps/2/set (column 16): there is no step `zzz`
            /steps/2/set (column 16): write `steps.ID`, with the id of a step
            /steps/2/set (column 51): `inputs` declares no input `topic`
            /steps/2/set (column 51): `topic` is no step, no agent and no input that `inputs` declares"#]],
    );
}

#[test]
fn inputs_are_known_by_every_way_of_reading_them() {
    let definition = Definition::compile(&json!({
        "name": "x",
        "agents": [],
        "steps": [{ "set": "{{ inputs.topic }} {{ inputs.note | default('') }}" }],
    }))
    .unwrap();
    assert_eq!(definition.inferred_inputs(), ["note", "topic"]);
    let declared = Definition::compile(&json!({
        "name": "x",
        "inputs": { "type": "object", "properties": { "topic": {}, "note": {} }, "required": [] },
        "agents": [],
        "steps": [{ "set": "{{ topic }} {{ note | default('') }}" }],
    }))
    .unwrap();
    let missing = declared.check_inputs(&json!({})).unwrap_err().to_string();
    assert_eq!(
        missing,
        "/: the input `topic` is missing; add `topic` to the inputs, on the command line with -i topic=…"
    );
    assert!(declared.check_inputs(&json!({ "topic": 1 })).is_ok());
    let deep = (0..200).fold(json!(1), |value, _| json!([value]));
    assert!(declared.check_inputs(&json!({ "topic": deep })).is_err());
}

#[test]
fn a_long_chain_of_comparisons_is_refused() {
    let chain = format!("{{{{ 1{} }}}}", " < 1".repeat(30_000 / 4));
    let document = json!({ "name": "x", "agents": [], "steps": [{ "set": chain }] });
    assert!(faults(&document).contains("at most 100 links"));
}
