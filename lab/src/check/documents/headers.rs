// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The functions that a C header declares, each with the kernel-doc comment above it.

use std::iter::Peekable;

use crate::check::c;

/// A function of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// Where the declaration begins, from 1.
    pub(super) line: usize,
    /// It stands in the header with its body.
    pub(super) inline: bool,
    /// What it lacks, if it is not fully described.
    pub(super) complaint: Option<&'static str>,
    pub(super) summary: String,
    pub(super) text: String,
    /// In which context it is called: may it sleep, which locks are held?
    pub(super) context: String,
    pub(super) returns: String,
}

/// The functions of a header, in order.
pub(super) fn functions(text: &str) -> Vec<Declared> {
    let mut found = Vec::new();
    let mut comment: Option<Vec<&str>> = None;
    let stripped = c::strip(text);
    let mut lines = (1..).zip(text.lines().zip(stripped.lines())).peekable();
    while let Some((number, (line, code))) = lines.next() {
        if line.trim_start().starts_with("/**") {
            let mut block = Vec::new();
            while let Some((_, (line, _))) = lines.next_if(|(_, (line, _))| line.trim() != "*/") {
                block.push(line.trim().trim_start_matches('*').trim());
            }
            comment = Some(block);
        } else if code.trim_start().starts_with('#') {
            comment = None;
            let mut last = code;
            while last.ends_with('\\') {
                last = lines.next().map_or("", |(_, (_, code))| code);
            }
        } else if !code.trim().is_empty() {
            let (statement, ends_with) = statement(code, lines.by_ref().map(|(_, (_, code))| code));
            // What stands in for a function when the kernel is built without hitless needs no second comment.
            let known = |name: &String| found.iter().any(|known: &Declared| known.name == *name);
            if let Some(name) = function(&statement).filter(|name| !known(name)) {
                found.push(Declared {
                    line: number,
                    inline: ends_with == '}',
                    ..describe(name, comment.as_deref())
                });
            }
            comment = None;
        }
    }
    found
}

/// A declaration or definition that begins with a line, up to its body or its semicolon, and the sign that ends it.
fn statement<'a>(first: &'a str, more: impl Iterator<Item = &'a str>) -> (String, char) {
    let mut head = String::new();
    let mut depth = 0;
    let mut body = false;
    for line in [first].into_iter().chain(more) {
        for sign in line.chars() {
            match sign {
                '{' => (depth, body) = (depth + 1, true),
                '}' => depth -= 1,
                ';' if depth == 0 => return (head, ';'),
                _ if !body => head.push(sign),
                _ => {}
            }
            // The body of a function ends it; that of a structure is followed by a semicolon.
            if sign == '}' && depth == 0 && head.contains('(') {
                return (head, '}');
            }
        }
        head.push(' ');
    }
    (head, ';')
}

/// The name of the function that a statement declares: the word before the first bracket, which has a type before it.
fn function(statement: &str) -> Option<String> {
    let (before, _) = statement.split_once('(')?;
    let (kind, name) = before.trim_end().rsplit_once([' ', '*', '\t'])?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_type = !kind.trim().is_empty() && !kind.contains('=') && !kind.starts_with("typedef");
    (is_name && is_type).then(|| name.to_owned())
}

/// What a comment says about a function.
fn describe(name: String, comment: Option<&[&str]>) -> Declared {
    let mut found = Declared {
        name,
        ..Declared::default()
    };
    let Some(comment) = comment else {
        found.complaint = Some("has no kernel-doc comment above it");
        return found;
    };
    let mut lines = comment.iter().copied().peekable();
    let title = paragraph(lines.next().unwrap_or_default(), &mut lines);
    match title.split_once(" - ") {
        Some((of, summary)) if of.trim_end_matches("()") == found.name => {
            found.summary = summary.to_owned()
        }
        _ => found.complaint = Some("has a comment that does not begin with `name() - what it is`"),
    }
    while let Some(line) = lines.next() {
        let (section, first) = line.split_once(':').unwrap_or(("", line));
        let mut begins = |line: &str| paragraph(line.trim(), &mut lines);
        match section {
            "Context" => found.context = begins(first),
            "Return" | "Returns" => found.returns = begins(first),
            _ if line.starts_with('@') => drop(begins(line)),
            _ => found.text = format!("{} {}", found.text, line).trim().to_owned(),
        }
    }
    if found.complaint.is_none() && found.context.is_empty() {
        found.complaint =
            Some("has a comment without `Context:`: may the callee sleep, which locks are held?");
    }
    found
}

/// The rest of a paragraph: up to an empty line, or one that begins with another section or parameter.
fn paragraph<'a>(first: &str, lines: &mut Peekable<impl Iterator<Item = &'a str>>) -> String {
    let begins = |line: &str| {
        ["@", "Context:", "Return:", "Returns:"]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let mut text = first.to_owned();
    while let Some(line) = lines.next_if(|line| !line.is_empty() && !begins(line)) {
        text = format!("{text} {line}");
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "/* SPDX */\n#ifndef X\n#define LONG(a) \\\n\tint f(a);\n/**\n * struct s - a thing (with brackets)\n * @a: one\n */\n\
        struct s {\n\tint (*a)(void);\n};\n/* plain */\nint plain(void);\n\n\
        /**\n * described() - what it\n *               is\n * @a: one\n *     two\n * @b: three\n *\n * Some text: with a colon.\n * More.\n *\n\
        * Context: May sleep.\n *          No locks.\n * Return: 0 or -EBUSY.\n */\nstruct s *described(int a,\n\t\t   int b);\n\
        extern int variable;\nstatic_assert(sizeof(int) == 4);\n\
        /**\n * other() - not this one\n */\nbool wrong(void);\n/**\n * bare() - a summary\n */\nvoid bare(void);\n\
        static inline bool stub(int a) { return false; }\nstatic inline int whole(void)\n{\n\tif (1) {\n\t}\n\treturn 0;\n}\nint last(void);\n#endif\n";

    #[test]
    fn functions_are_found_with_their_comments() {
        let found = functions(HEADER);
        let names: Vec<(&str, bool)> = found
            .iter()
            .map(|one| (one.name.as_str(), one.inline))
            .collect();
        assert_eq!(
            names,
            [
                ("plain", false),
                ("described", false),
                ("wrong", false),
                ("bare", false),
                ("stub", true),
                ("whole", true),
                ("last", false)
            ]
        );
        let described = &found[1];
        assert_eq!(described.complaint, None);
        assert_eq!(described.line, 29);
        assert_eq!(described.summary, "what it is");
        assert_eq!(described.text, "Some text: with a colon. More.");
        assert_eq!(described.context, "May sleep. No locks.");
        assert_eq!(described.returns, "0 or -EBUSY.");
    }

    #[test]
    fn what_is_missing_is_named() {
        let complaints: Vec<&str> = functions(HEADER)
            .iter()
            .filter_map(|one| one.complaint)
            .collect();
        assert_eq!(complaints.len(), 6);
        assert!(complaints[0].contains("no kernel-doc"));
        assert!(complaints[1].contains("does not begin"));
        assert!(complaints[2].contains("`Context:`"));
    }
}
