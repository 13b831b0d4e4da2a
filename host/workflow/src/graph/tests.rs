//! Tests of the pictures as a whole. How an SVG is laid out is tested in `svg`.

mod any;
mod mermaid;

use serde_json::{Value, json};

/// A document with these steps and one agent of each kind.
pub(super) fn document(steps: &Value) -> Value {
    json!({
        "name": "Test",
        "agents": [
            {"id": "writer", "type": "llm"},
            {"id": "script", "type": "code"},
            {"id": "finder", "type": "search"},
            {"id": "caller", "type": "tool"},
            {"id": "editor", "type": "human"},
            {"id": "careful", "type": "llm", "on_error": "continue"},
        ],
        "steps": steps,
    })
}

/// One step that does nothing special.
pub(super) fn plain() -> Value {
    json!({"agent": "writer", "action": "write", "input": "x"})
}

/// Texts that have a meaning to XML, to Mermaid or to Markdown, or that are hard to lay out.
pub(super) const HOSTILE: [&str; 20] = [
    "\"quoted\" ]]> <script>alert(1)</script>",
    "new\nline\r\n\ttab",
    "😀👩\u{200d}👩\u{200d}👧 漢字",
    "%%{init: {\"theme\":\"dark\"}}%%",
    "style x:#y;z #quot; #35;",
    "a`b`c **bold** _it_ ~~x~~",
    "1. list",
    "- item",
    "$$x^2$$",
    "fa:fa-car end",
    "\\n \\u0041",
    "{{ x }} }} {{",
    "ﬂ°°60¶ß",
    "click n1 \"javascript:alert(1)\"",
    "\u{202e}evil\u{0}\u{8}\u{ffff}",
    "\"]:::llm; n1-->n2",
    "&lt;b&gt; &amp; ![i](http://x/y.png)",
    "https://example.com/a?b=c&d",
    " ",
    "",
];

/// A document that says this text wherever a text is shown.
pub(super) fn everywhere(text: &str) -> Value {
    let fallback = json!({"fallback": {"agent": text, "action": text}});
    let task = json!({"agent": text, "action": text, "condition": text, "on_error": fallback});
    json!({
        "name": text,
        "inputs": {"properties": {text: {}}},
        "agents": [{"id": text, "type": "llm"}],
        "steps": [
            task,
            {
                "id": text,
                "parallel": [task, {"set": text, "id": text}, {"wait": {"until": text}}, {"workflow": text}],
                "max_concurrency": text,
            },
            {"condition": text, "then": [task], "else": [{"set": {text: 1}}], "id": text},
            {"loop": {"items": text, "as": text, "steps": [task]}, "id": text, "on_error": fallback},
            {"loop": {"until": text, "max_iterations": 3, "steps": [task]}, "on_error": "continue"},
        ],
        "outputs": {text: text},
        "workflows": {text: {"name": text, "steps": [task]}},
    })
}
