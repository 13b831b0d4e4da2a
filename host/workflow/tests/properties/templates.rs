//! The templates, conditions and rules of a document: each reads only names that mean something where it stands.

use serde_json::{Value, json};

use super::shape::{Choices, Form};

/// What can be named from a place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) steps: Vec<String>,
    pub(crate) loops: Vec<String>,
    pub(crate) agents: Vec<&'static str>,
    pub(crate) variables: Vec<String>,
    /// Loops around it.
    pub(crate) rounds: usize,
}

/// One of several, by a number.
pub(crate) fn pick<T: Clone>(from: &[T], choice: u8) -> Option<T> {
    let index = usize::from(choice).checked_rem(from.len())?;
    from.get(index).cloned()
}

/// Skips a step now and then.
pub(crate) fn guard(step: &mut Value, choices: Choices, scope: &Scope) {
    if choices[0] % 5 == 2 {
        step["condition"] = json!(condition_of(choices[5], choices[2], scope));
    }
}

/// What a step does about failures.
pub(crate) fn rule_of(choices: Choices, form: &Form, scope: &Scope) -> Option<Value> {
    let is_agent = matches!(form, Form::Agent(_));
    if !is_agent
        && !matches!(
            form,
            Form::Items(_) | Form::Until(_) | Form::While(_) | Form::Workflow(_)
        )
    {
        return None;
    }
    let mut agent = ["spare", "calc", "boss"][usize::from(choices[5] % 3)];
    if !is_agent && agent == "boss" {
        agent = "spare";
    }
    let input = match pick(&scope.steps, choices[2]) {
        Some(step) => {
            format!("{{{{ error.code }}}} {{{{ error }}}} {{{{ {step} | default('') }}}}")
        }
        None => "{{ error.attempts }}".to_owned(),
    };
    let fallback = json!({"agent": agent, "action": "mend", "input": input});
    Some(match (choices[1] % 7, is_agent) {
        (0 | 5, _) => return None,
        (1, _) => json!("continue"),
        (2, _) => json!("stop"),
        (3, _) => json!({"fallback": "continue"}),
        (4, true) => json!({"retry": 2, "delay_ms": 7, "fallback": fallback}),
        (4, false) | (6, _) => json!({"fallback": fallback}),
        (_, _) => json!("stop"),
    })
}

/// A template of some value.
pub(crate) fn value_of(choices: Choices, scope: &Scope) -> Value {
    let (form, which) = (choices[2], choices[3]);
    let step = pick(&scope.steps, which);
    let variable = pick(&scope.variables, which);
    match (form % 10, step, variable) {
        (1, Some(step), _) => json!(format!("{{{{ {step} }}}}")),
        (2, Some(step), _) => json!(format!(
            "so {{{{ {step} | default('-') }}}} of {{{{ topic }}}}"
        )),
        (3, Some(step), _) => {
            json!({"all": [format!("{{{{ {step}.status }}}}"), format!("{{{{ {step}.output }}}}")]})
        }
        (4, Some(step), _) => json!(format!("{{{{ {step}.text | default(topic) }}}}")),
        (5, Some(step), _) => json!({"error": format!("{{{{ {step}.error }}}}"), "n": 7}),
        (6, Some(step), _) => json!(format!("{{{{ steps.{step}.output }}}}")),
        (7, _, Some(variable)) => json!([format!("{{{{ {variable} }}}}"), "{{ loop.index }}"]),
        (8, ..) if !scope.loops.is_empty() => json!("{{ loop.results }}"),
        (9, ..) if !scope.agents.is_empty() => {
            let agent = scope.agents[usize::from(which) % scope.agents.len()];
            json!(format!(
                "{{{{ {agent} | default('none') }}}} {{{{ topic }}}}"
            ))
        }
        // Rarely a field that is not there.
        (4, None, Some(variable)) if choices[4] == 99 => {
            json!(format!("{{{{ {variable}.text }}}}"))
        }
        _ => json!("{{ topic }}"),
    }
}

/// A condition.
pub(crate) fn condition_of(form: u8, which: u8, scope: &Scope) -> String {
    match (form % 6, pick(&scope.steps, which)) {
        (1, Some(step)) => format!("{{{{ {step}.status }}}} == 'completed'"),
        (2, Some(step)) => format!("{step}.flag | default(false)"),
        (3, Some(step)) => format!("not ({step}.n | default(1) > 4)"),
        (4, _) if scope.rounds > 0 => "loop.index < 1".to_owned(),
        (5, Some(step)) => format!("{step}.flag | default(false) or {{{{ flag }}}}"),
        _ => "{{ flag }}".to_owned(),
    }
}
