//! An outline as a Mermaid flowchart.
//!
//! Nodes come first and all edges after them: Mermaid moves a node into each subgraph that mentions it. Every
//! label is quoted, and whatever could mean something to Mermaid is written as an entity.

use std::fmt::Write as _;

use super::outline::{Flow, Form, OnError, Outline, Step};

/// Keeps a label readable: Mermaid wraps lines but draws all of them.
const LINE_CHARS_MAX: usize = 60;

/// The colours of the kinds, the same in a light and a dark page: pale boxes with dark letters.
const STYLES: &str = "  classDef llm fill:#f3e8ff,stroke:#8250df,color:#1f2328
  classDef code fill:#ddf4ff,stroke:#0969da,color:#1f2328
  classDef search fill:#dafbe1,stroke:#1a7f37,color:#1f2328
  classDef tool fill:#fff8c5,stroke:#9a6700,color:#1f2328
  classDef human fill:#ffeff7,stroke:#bf3989,color:#1f2328
  classDef plain fill:#f6f8fa,stroke:#656d76,color:#1f2328
  classDef dashed stroke-dasharray:5 4
  classDef dot fill:#656d76,stroke:#656d76,color:#656d76
";

/// Writes the flowchart.
pub(super) fn write(outline: &Outline) -> String {
    let mut chart = Chart::default();
    let (_, end) = chart.flow(&outline.root);
    for flow in &outline.workflows {
        chart.open(&[flow.heading().unwrap_or_default()]);
        let (start, _) = chart.flow(flow);
        chart.close();
        // Unseen, it keeps the other workflows below the one that calls them.
        chart.edge(end, "~~~", "", start);
    }
    chart.finish()
}

/// What becomes the flowchart.
#[derive(Default)]
struct Chart {
    nodes: String,
    edges: Vec<Edge>,
    /// The nodes that get a dashed border.
    dashed: Vec<usize>,
    /// The number of the last node or subgraph.
    last: usize,
    /// How many subgraphs are open.
    depth: usize,
}

/// A line from one node to another. Sorted, edges come in the order in which a reader follows them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: usize,
    to: usize,
    arrow: &'static str,
    label: &'static str,
}

/// A node that the flow leaves, and how.
struct Exit {
    node: usize,
    label: &'static str,
}

impl Exit {
    fn of(node: usize) -> Self {
        Self { node, label: "" }
    }
}

/// Steps that were written: where the flow enters them and where it leaves.
struct Piece {
    entry: usize,
    exits: Vec<Exit>,
}

/// The brackets of a node's shape.
type Shape = (&'static str, &'static str);

const BOX: Shape = ("[", "]");
const PILL: Shape = ("([", "])");
const ROUND: Shape = ("(", ")");
const DOUBLE: Shape = ("[[", "]]");
const DIAMOND: Shape = ("{", "}");
const DOT: Shape = ("((", "))");

impl Chart {
    /// Writes a whole flow and returns its first and its last node.
    fn flow(&mut self, flow: &Flow) -> (usize, usize) {
        let start = self.node(PILL, &flow.start_lines(), "plain");
        let body = self.steps(&flow.steps);
        let end = self.node(PILL, &flow.end_lines(), "plain");
        match body {
            Some(piece) => {
                self.connect(&[Exit::of(start)], piece.entry);
                self.connect(&piece.exits, end);
            }
            None => self.connect(&[Exit::of(start)], end),
        }
        (start, end)
    }

    fn steps(&mut self, steps: &[Step]) -> Option<Piece> {
        let mut whole: Option<Piece> = None;
        for step in steps {
            let piece = self.step(step);
            whole = Some(match whole {
                Some(before) => {
                    self.connect(&before.exits, piece.entry);
                    Piece {
                        entry: before.entry,
                        exits: piece.exits,
                    }
                }
                None => piece,
            });
        }
        whole
    }

    fn step(&mut self, step: &Step) -> Piece {
        let lines = step.lines();
        let mut piece = match &step.form {
            Form::Agent(task) => self.single(BOX, &lines, task.kind.class()),
            Form::Workflow(_) => self.single(DOUBLE, &lines, "plain"),
            Form::Wait(_) => self.single(PILL, &lines, "plain"),
            Form::Set(_) | Form::Cut => self.single(ROUND, &lines, "plain"),
            Form::Parallel { branches, .. } => self.parallel(&lines, branches),
            Form::Choice {
                then, otherwise, ..
            } => self.choice(&lines, then, otherwise),
            Form::Loop { steps, .. } => self.repeated(&lines, steps),
        };
        if let OnError::Fallback(task) = &step.on_error {
            let node = self.node(BOX, &task.lines(), task.kind.class());
            self.dashed.push(node);
            for exit in &piece.exits {
                self.edge(exit.node, "-.->", "on error", node);
            }
            piece.exits.push(Exit::of(node));
        }
        piece
    }

    fn single(&mut self, shape: Shape, lines: &[String], class: &str) -> Piece {
        let node = self.node(shape, lines, class);
        Piece {
            entry: node,
            exits: vec![Exit::of(node)],
        }
    }

    fn parallel(&mut self, lines: &[String], branches: &[Vec<Step>]) -> Piece {
        self.open(lines);
        let fork = self.dot();
        let pieces: Vec<Piece> = branches
            .iter()
            .filter_map(|branch| self.steps(branch))
            .collect();
        let join = self.dot();
        self.close();
        for piece in &pieces {
            self.connect(&[Exit::of(fork)], piece.entry);
            self.connect(&piece.exits, join);
        }
        if pieces.is_empty() {
            self.connect(&[Exit::of(fork)], join);
        }
        Piece {
            entry: fork,
            exits: vec![Exit::of(join)],
        }
    }

    fn choice(&mut self, lines: &[String], then: &[Step], otherwise: &[Step]) -> Piece {
        let node = self.node(DIAMOND, lines, "plain");
        let mut exits = Vec::new();
        for (label, steps) in [("yes", then), ("no", otherwise)] {
            let way = Exit { node, label };
            match self.steps(steps) {
                Some(piece) => {
                    self.connect(&[way], piece.entry);
                    exits.extend(piece.exits);
                }
                None => exits.push(way),
            }
        }
        Piece { entry: node, exits }
    }

    fn repeated(&mut self, lines: &[String], steps: &[Step]) -> Piece {
        self.open(lines);
        let body = self.steps(steps);
        let mut piece = body.unwrap_or_else(|| self.single(ROUND, &["…".to_owned()], "plain"));
        let is_one_way_out = matches!(piece.exits.as_slice(), [exit] if exit.node != piece.entry);
        if !is_one_way_out {
            // One node for what goes back and what goes on; an edge from a node to itself is drawn badly.
            let join = self.dot();
            self.connect(&piece.exits, join);
            piece.exits = vec![Exit::of(join)];
        }
        self.close();
        for exit in &piece.exits {
            self.edge(exit.node, "-.->", "again", piece.entry);
        }
        piece
    }

    fn open(&mut self, phrases: &[String]) {
        self.last += 1;
        let id = self.last;
        let mut phrases = phrases.iter();
        let mut title = label(phrases.next().map_or("", String::as_str));
        for phrase in phrases {
            title.push_str(" · ");
            title.push_str(&text(phrase));
        }
        self.indent();
        let _ = writeln!(self.nodes, "subgraph n{id}[\"{title}\"]");
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.indent();
        self.nodes.push_str("end\n");
    }

    fn dot(&mut self) -> usize {
        self.node(DOT, &[String::new()], "dot")
    }

    fn node(&mut self, shape: Shape, lines: &[String], class: &str) -> usize {
        self.last += 1;
        let id = self.last;
        let lines: Vec<String> = lines.iter().map(|line| label(line)).collect();
        let text = lines.join("<br/>");
        let (open, close) = shape;
        self.indent();
        let _ = writeln!(self.nodes, "n{id}{open}\"{text}\"{close}:::{class}");
        id
    }

    fn indent(&mut self) {
        for _ in 0..=self.depth {
            self.nodes.push_str("  ");
        }
    }

    fn connect(&mut self, exits: &[Exit], to: usize) {
        for exit in exits {
            self.edge(exit.node, "-->", exit.label, to);
        }
    }

    fn edge(&mut self, from: usize, arrow: &'static str, label: &'static str, to: usize) {
        self.edges.push(Edge {
            from,
            to,
            arrow,
            label,
        });
    }

    fn finish(mut self) -> String {
        let mut out = format!("flowchart TD\n{}", self.nodes);
        self.edges.sort_unstable();
        for edge in &self.edges {
            let (from, arrow, to) = (edge.from, edge.arrow, edge.to);
            let _ = match edge.label {
                "" => writeln!(out, "  n{from} {arrow} n{to}"),
                label => writeln!(out, "  n{from} {arrow}|\"{label}\"| n{to}"),
            };
        }
        out.push_str(STYLES);
        for node in &self.dashed {
            let _ = writeln!(out, "  class n{node} dashed");
        }
        out
    }
}

/// A line of a label. It is never empty, which Mermaid would not read.
fn label(line: &str) -> String {
    if line.is_empty() {
        return " ".to_owned();
    }
    // Lists, headings and underlines of Markdown begin like this; a joiner, which is not seen, is before them.
    if line.starts_with(|c: char| c.is_ascii_digit() || "-+=#>".contains(c)) {
        return format!("#8288;{}", text(line));
    }
    text(line)
}

/// A part of a label: shortened, and written so that Mermaid takes it for text.
fn text(phrase: &str) -> String {
    let mut shown: String = phrase.chars().take(LINE_CHARS_MAX).collect();
    if shown.len() < phrase.len() {
        shown.pop();
        shown.push('…');
    }
    let mut written = String::with_capacity(shown.len());
    let mut before = ' ';
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        write_char(&mut written, before, c, rest.as_str().chars().next());
        before = c;
    }
    written
}

/// Writes a character, as an entity if it is not known to be harmless. Mermaid resolves entities before it looks
/// for Markdown, formulas (`$$`), icons (`fa:fa-`), links and line breaks (`\n`), so those are taken apart: by
/// letters that look the same, or by a space that is as thin as a hair.
fn write_char(written: &mut String, before: char, c: char, after: Option<char>) {
    const HAIR: char = '\u{200a}';
    let is_in_word = before.is_alphanumeric() && after.is_some_and(char::is_alphanumeric);
    let is_harmless = !c.is_ascii() || c.is_ascii_alphanumeric() || " .,()/=!'?_-".contains(c);
    let _ = match c {
        '"' => write!(written, "#quot;"),
        '<' => write!(written, "#lt;"),
        '>' => write!(written, "#gt;"),
        '&' => write!(written, "#amp;"),
        '*' => write!(written, "∗"),
        '`' => write!(written, "ˋ"),
        '~' => write!(written, "∼"),
        // Mermaid's own mark for an entity.
        'ﬂ' => write!(written, "fl"),
        // Elsewhere it could seem to begin a colour, whose line Mermaid changes.
        ':' if after == Some(' ') => write!(written, ":"),
        '_' if !is_in_word => write!(written, "_{HAIR}"),
        '.' if before == 'w' => write!(written, ".{HAIR}"),
        '$' | '\\' | '@' => write!(written, "#{};{HAIR}", u32::from(c)),
        ':' | ']' if after.is_some_and(|c| "f/([".contains(c)) => {
            write!(written, "#{};{HAIR}", u32::from(c))
        }
        _ if is_harmless => write!(written, "{c}"),
        _ => write!(written, "#{};", u32::from(c)),
    };
}
