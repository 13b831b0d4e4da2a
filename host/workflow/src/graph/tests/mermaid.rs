//! The flowcharts, construct by construct.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{HOSTILE, document, everywhere, plain};
use crate::graph::mermaid;

fn check(steps: Value, expected: Expect) {
    check_document(&document(&steps), expected);
}

fn check_document(document: &Value, expected: Expect) {
    let chart = mermaid(document);
    let lines = chart.lines().filter(|line| !line.contains("classDef"));
    expected.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_empty_value_has_a_start_and_an_end() {
    let chart = mermaid(&json!({}));
    expect![[r#"
        flowchart TD
          n1(["start"]):::plain
          n2(["end"]):::plain
          n1 --> n2
          classDef llm fill:#f3e8ff,stroke:#8250df,color:#1f2328
          classDef code fill:#ddf4ff,stroke:#0969da,color:#1f2328
          classDef search fill:#dafbe1,stroke:#1a7f37,color:#1f2328
          classDef tool fill:#fff8c5,stroke:#9a6700,color:#1f2328
          classDef human fill:#ffeff7,stroke:#bf3989,color:#1f2328
          classDef plain fill:#f6f8fa,stroke:#656d76,color:#1f2328
          classDef dashed stroke-dasharray:5 4
          classDef dot fill:#656d76,stroke:#656d76,color:#656d76
    "#]]
    .assert_eq(&chart);
}

#[test]
fn agents_of_all_kinds() {
    check(
        json!([
            {"id": "draft", "agent": "writer", "action": "write"},
            {"id": "script", "agent": "script", "action": "run"},
            {"agent": "finder", "action": "search"},
            {"agent": "caller", "action": "call"},
            {"agent": "editor", "action": "approve"},
            {"agent": "nobody"},
        ]),
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              n2["draft<br/>LLM · writer · write"]:::llm
              n3["script<br/>code · run"]:::code
              n4["finder<br/>search · search"]:::search
              n5["caller<br/>tool · call"]:::tool
              n6["editor<br/>human · approve"]:::human
              n7["nobody<br/>agent"]:::plain
              n8(["end"]):::plain
              n1 --> n2
              n2 --> n3
              n3 --> n4
              n4 --> n5
              n5 --> n6
              n6 --> n7
              n7 --> n8"#]],
    );
}

#[test]
fn inputs_and_outputs() {
    let mut document = document(&json!([plain()]));
    document["inputs"] = json!({"type": "object", "properties": {"topic": {}, "depth": {}}});
    document["outputs"] = json!({"report": "{{ writer }}", "sources": []});
    check_document(
        &document,
        expect![[r#"
            flowchart TD
              n1(["Test<br/>inputs: topic, depth"]):::plain
              n2["writer<br/>LLM · write"]:::llm
              n3(["end<br/>outputs: report, sources"]):::plain
              n1 --> n2
              n2 --> n3"#]],
    );
}

#[test]
fn guards_and_errors() {
    check(
        json!([
            {"agent": "writer", "action": "write", "condition": "{{ a.ok }}", "on_error": "continue"},
            {"agent": "careful", "action": "write"},
            {"agent": "careful", "action": "write", "on_error": "stop"},
            {"agent": "caller", "action": "call", "on_error": {"retry": 3, "fallback": {
                "agent": "script", "action": "repair", "input": "{{ error }}",
            }}},
            {"agent": "caller", "action": "call", "on_error": {"fallback": "continue"}},
        ]),
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              n2["writer<br/>LLM · write<br/>if a.ok<br/>on error: continue"]:::llm
              n3["careful<br/>LLM · write<br/>on error: continue"]:::llm
              n4["careful<br/>LLM · write"]:::llm
              n5["caller<br/>tool · call"]:::tool
              n6["script<br/>code · repair"]:::code
              n7["caller<br/>tool · call<br/>on error: continue"]:::tool
              n8(["end"]):::plain
              n1 --> n2
              n2 --> n3
              n3 --> n4
              n4 --> n5
              n5 -.->|"on error"| n6
              n5 --> n7
              n6 --> n7
              n7 --> n8
              class n6 dashed"#]],
    );
}

#[test]
fn parallel_branches() {
    check(
        json!([
            plain(),
            {"id": "gather", "max_concurrency": 2, "condition": "{{ a }}", "parallel": [
                {"agent": "finder", "action": "news"},
                [{"agent": "finder", "action": "web"}, {"agent": "script", "action": "rank"}],
            ]},
        ]),
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              n2["writer<br/>LLM · write"]:::llm
              subgraph n3["gather · parallel · at most 2 at once · if a"]
                n4((" ")):::dot
                n5["finder<br/>search · news"]:::search
                n6["finder<br/>search · web"]:::search
                n7["script<br/>code · rank"]:::code
                n8((" ")):::dot
              end
              n9(["end"]):::plain
              n1 --> n2
              n2 --> n4
              n4 --> n5
              n4 --> n6
              n5 --> n8
              n6 --> n7
              n7 --> n8
              n8 --> n9"#]],
    );
}

#[test]
fn choices() {
    check(
        json!([
            {"condition": "{{ writer.priority }} == 'high'",
             "then": [{"agent": "caller", "action": "escalate"}],
             "else": [{"agent": "writer", "action": "respond"}]},
            {"id": "gate", "condition": "{{ a }}", "then": [plain()]},
            {"condition": "{{ a }}", "then": [{"condition": "{{ b }}", "then": [plain()]}]},
        ]),
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              n2{"writer.priority == 'high'"}:::plain
              n3["caller<br/>tool · escalate"]:::tool
              n4["writer<br/>LLM · respond"]:::llm
              n5{"gate<br/>a"}:::plain
              n6["writer<br/>LLM · write"]:::llm
              n7{"a"}:::plain
              n8{"b"}:::plain
              n9["writer<br/>LLM · write"]:::llm
              n10(["end"]):::plain
              n1 --> n2
              n2 -->|"yes"| n3
              n2 -->|"no"| n4
              n3 --> n5
              n4 --> n5
              n5 -->|"yes"| n6
              n5 -->|"no"| n7
              n6 --> n7
              n7 -->|"yes"| n8
              n7 -->|"no"| n10
              n8 -->|"yes"| n9
              n8 -->|"no"| n10
              n9 --> n10"#]],
    );
}

#[test]
fn loops() {
    check(
        json!([
            {"id": "each", "loop": {"items": "{{ s.chunks }}", "as": "chunk", "concurrency": 4, "steps": [plain()]},
             "on_error": {"fallback": {"agent": "script", "action": "repair"}}},
            {"loop": {"until": "{{ editor.approved }}", "max_iterations": 5, "steps": [
                plain(),
                {"agent": "editor", "action": "approve"},
            ]}, "condition": "{{ a }}", "on_error": "continue"},
            {"loop": {"while": "{{ a }}", "max_iterations": 5, "steps": [
                plain(),
                {"condition": "{{ b }}", "then": [plain()]},
            ]}},
        ]),
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              subgraph n2["each · for each chunk in s.chunks · 4 at once"]
                n3["writer<br/>LLM · write"]:::llm
                n4((" ")):::dot
              end
              n5["script<br/>code · repair"]:::code
              subgraph n6["until editor.approved · at most 5 rounds · if a · on error: continue"]
                n7["writer<br/>LLM · write"]:::llm
                n8["editor<br/>human · approve"]:::human
              end
              subgraph n9["while a · at most 5 rounds"]
                n10["writer<br/>LLM · write"]:::llm
                n11{"b"}:::plain
                n12["writer<br/>LLM · write"]:::llm
                n13((" ")):::dot
              end
              n14(["end"]):::plain
              n1 --> n3
              n3 --> n4
              n4 -.->|"again"| n3
              n4 -.->|"on error"| n5
              n4 --> n7
              n5 --> n7
              n7 --> n8
              n8 -.->|"again"| n7
              n8 --> n10
              n10 --> n11
              n11 -->|"yes"| n12
              n11 -->|"no"| n13
              n12 --> n13
              n13 -.->|"again"| n10
              n13 --> n14
              class n5 dashed"#]],
    );
}

#[test]
fn waits_sets_and_other_workflows() {
    let mut document = document(&json!([
        {"wait": {"seconds": 3600}},
        {"id": "nap", "wait": {"until": "{{ a.when }}"}},
        {"id": "total", "set": "{{ a.x }}"},
        {"set": {"a": 1, "b": 2}},
        {"workflow": "background", "inputs": {}},
        {"id": "check", "workflow": "audit", "inputs": {}},
    ]));
    document["workflows"] = json!({
        "background": {"name": "Background", "agents": [{"id": "f", "type": "search"}],
                       "steps": [{"agent": "f", "action": "search"}], "outputs": {"summary": "x"}},
        "audit": {"agents": [], "steps": []},
    });
    check_document(
        &document,
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              n2(["wait 1 hour"]):::plain
              n3(["nap<br/>wait until a.when"]):::plain
              n4("total<br/>set = a.x"):::plain
              n5("set a, b"):::plain
              n6[["background<br/>workflow"]]:::plain
              n7[["check<br/>workflow audit"]]:::plain
              n8(["end"]):::plain
              subgraph n9["workflow background"]
                n10(["Background"]):::plain
                n11["f<br/>search · search"]:::search
                n12(["end<br/>outputs: summary"]):::plain
              end
              subgraph n13["workflow audit"]
                n14(["audit"]):::plain
                n15(["end"]):::plain
              end
              n1 --> n2
              n2 --> n3
              n3 --> n4
              n4 --> n5
              n5 --> n6
              n6 --> n7
              n7 --> n8
              n8 ~~~ n10
              n8 ~~~ n14
              n10 --> n11
              n11 --> n12
              n14 --> n15"#]],
    );
}

#[test]
fn labels_are_shortened() {
    let condition = format!("{{{{ {} }}}}", "a.b or ".repeat(1_500));
    check(
        json!([{"condition": condition, "then": [plain()]}]),
        expect![[r#"
            flowchart TD
              n1(["Test"]):::plain
              n2{"a.b or a.b or a.b or a.b or a.b or a.b or a.b or a.b or a.b…"}:::plain
              n3["writer<br/>LLM · write"]:::llm
              n4(["end"]):::plain
              n1 --> n2
              n2 -->|"yes"| n3
              n2 -->|"no"| n4
              n3 --> n4"#]],
    );
}

#[test]
fn hostile_labels() {
    let labels: Vec<String> = HOSTILE
        .iter()
        .map(|text| {
            let chart = mermaid(&json!({"name": "x", "steps": [{"set": {}, "id": text}]}));
            chart.lines().nth(2).unwrap_or_default().trim().to_owned()
        })
        .collect();
    expect![[r##"
        n2("#quot;quoted#quot; #93;#93;#gt; #lt;script#gt;alert(1)#lt;/script#gt;<br/>set"):::plain
        n2("new line tab<br/>set"):::plain
        n2("😀👩‍👩‍👧 漢字<br/>set"):::plain
        n2("#37;#37;#123;init: #123;#quot;theme#quot;#58;#quot;dark#quot;#125;#125;#37;#37;<br/>set"):::plain
        n2("style x#58;#35;y#59;z #35;quot#59; #35;35#59;<br/>set"):::plain
        n2("aˋbˋc ∗∗bold∗∗ _ it_  ∼∼x∼∼<br/>set"):::plain
        n2("#8288;1. list<br/>set"):::plain
        n2("#8288;- item<br/>set"):::plain
        n2("#36; #36; x#94;2#36; #36; <br/>set"):::plain
        n2("fa#58; fa-car end<br/>set"):::plain
        n2("#92; n #92; u0041<br/>set"):::plain
        n2("#123;#123; x #125;#125; #125;#125; #123;#123;<br/>set"):::plain
        n2("fl°°60¶ß<br/>set"):::plain
        n2("click n1 #quot;javascript#58;alert(1)#quot;<br/>set"):::plain
        n2("evil<br/>set"):::plain
        n2("#quot;#93;#58;#58;#58;llm#59; n1--#gt;n2<br/>set"):::plain
        n2("#amp;lt#59;b#amp;gt#59; #amp;amp#59; !#91;i#93; (http#58; //x/y.png)<br/>set"):::plain
        n2("https#58; //example.com/a?b=c#amp;d<br/>set"):::plain
        n2("set"):::plain
        n2("set"):::plain"##]].assert_eq(&labels.join("\n"));
}

/// What is between the quotes of a label, and around them, is what this module writes: no text can end a label,
/// begin a line or look like a directive.
#[test]
fn no_text_leaves_its_label() {
    let count = |text: &str| mermaid(&everywhere(text)).lines().count();
    for text in HOSTILE {
        let chart = mermaid(&everywhere(text));
        assert_eq!(chart.lines().count(), count("plain"), "{text:?}");
        for line in chart.lines() {
            let quotes = line.matches('"').count();
            assert!(quotes == 0 || quotes == 2, "{line}");
            let inside = line.split('"').nth(1).unwrap_or_default();
            let inside = inside.replace("<br/>", "");
            assert!(
                !inside.contains(['<', '>', '`', '{', '}', '%', '&', '$', '*']),
                "{line}"
            );
            assert!(quotes == 0 || !inside.is_empty(), "{line}");
            let colons = inside.match_indices(':');
            let mut after = colons.map(|(index, _)| &inside[index + 1..]);
            assert!(after.all(|rest| rest.starts_with(' ')), "{line}");
        }
    }
}
