//! Documents as trees without names, which proptest makes and shrinks. `document` writes them out.

use proptest::prelude::*;

/// Numbers that say which of several forms a part of the document has; zeros mean the plainest.
pub(crate) type Choices = [u8; 6];

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) choices: Choices,
    pub(crate) form: Form,
}

#[derive(Debug, Clone)]
pub(crate) enum Form {
    Set,
    /// A step of one of the agents.
    Agent(u8),
    Wait,
    /// A step that is one of the sub-workflows.
    Workflow(u8),
    Parallel(Vec<Vec<Node>>),
    Branch(Vec<Node>, Vec<Node>),
    Items(Vec<Node>),
    Until(Vec<Node>),
    While(Vec<Node>),
}

/// A document with its sub-workflows.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) root: Body,
    pub(crate) subs: Vec<Body>,
    pub(crate) agents: Choices,
}

/// The steps and the settings of one workflow.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) steps: Vec<Node>,
    pub(crate) config: Choices,
}

fn choices() -> impl Strategy<Value = Choices> {
    // Zeros often: they are the plain forms, and what is shrunk to.
    prop::array::uniform6(prop_oneof![2 => Just(0_u8), 3 => any::<u8>()])
}

fn node() -> impl Strategy<Value = Node> {
    let form = prop_oneof![
        2 => Just(Form::Set),
        6 => any::<u8>().prop_map(Form::Agent),
        1 => Just(Form::Wait),
        2 => any::<u8>().prop_map(Form::Workflow),
    ];
    let leaf = (choices(), form).prop_map(|(choices, form)| Node { choices, form });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = |inner: BoxedStrategy<Node>| prop::collection::vec(inner, 1..3);
        let inner = inner.boxed();
        let steps = move || list(inner.clone());
        let form = prop_oneof![
            3 => prop::collection::vec(steps(), 1..4).prop_map(Form::Parallel),
            2 => (steps(), prop::option::of(steps()))
                .prop_map(|(then, other)| Form::Branch(then, other.unwrap_or_default())),
            2 => steps().prop_map(Form::Items),
            1 => steps().prop_map(Form::Until),
            1 => steps().prop_map(Form::While),
        ];
        (choices(), form).prop_map(|(choices, form)| Node { choices, form })
    })
}

fn body(steps_max: usize) -> impl Strategy<Value = Body> {
    (prop::collection::vec(node(), 1..=steps_max), choices())
        .prop_map(|(steps, config)| Body { steps, config })
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let subs = prop::collection::vec(body(2), 0..3);
    (body(4), subs, choices()).prop_map(|(root, subs, agents)| Shape { root, subs, agents })
}
